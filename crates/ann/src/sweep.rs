//! Finding pages that belong to no list any more, to use them again.

use std::collections::HashSet;

use crate::directory;
use crate::meta::Meta;
use crate::page::{self, Kind};
use crate::store::{Change, PageStore};
use crate::{Result, Space};

/// Frees the pages of lists that were split, or were not finished before a crash, once no search can be reading them.
/// No list may be split meanwhile. Returns the number of free pages, 0 if nothing had to be done yet.
///
/// # Errors
/// Those of the store.
pub fn sweep(store: &impl PageStore, space: &Space) -> Result<u64> {
    let meta = Meta::read(store)?;
    if meta.unclean_since == 0 || !store.is_over(meta.unclean_since) {
        return Ok(0);
    }
    let lists = directory::lists(store, space, meta.directory)?;
    let alive: HashSet<u32> = lists.into_iter().map(|list| list.id).collect();
    let mut free = 0;
    for block in (0..store.len()).filter(|block| *block != meta.mean) {
        store.check()?;
        let kind = store.read(block, |page| {
            let kind = page::kind(page).filter(|kind| match kind {
                Kind::List | Kind::Codes => !alive.contains(&page::owner(page)),
                Kind::Free => true,
                Kind::Meta | Kind::Directory => false,
            });
            Ok(kind)
        })?;
        let Some(kind) = kind else { continue };
        if kind != Kind::Free {
            let mut change = store.change();
            let place = change.lock(block)?;
            page::set_free(change.page_mut(place));
            change.commit()?;
        }
        store.free(block);
        free += 1;
    }
    let mut change = store.change();
    Meta::alter(&mut change, |meta| meta.unclean_since = 0)?;
    change.commit()?;
    Ok(free)
}

/// Whether a page has been freed.
pub fn is_free(page: &[u8]) -> bool {
    page::kind(page) == Some(Kind::Free)
}
