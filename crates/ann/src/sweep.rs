//! Finding pages that belong to no list any more, to use them again.

use std::collections::HashSet;

use crate::directory;
use crate::meta::Meta;
use crate::page::{self, Kind, NO_LIST};
use crate::store::{Change, PageStore};
use crate::vacuum::sizes;
use crate::{Result, Space};

/// Frees the pages of lists that were split, or were not finished before a crash, once no search can be reading them, and
/// pages that were added and never written. No list may be split meanwhile. Returns the number of free pages, 0 if nothing
/// had to be done yet.
///
/// # Errors
/// Those of the store.
pub fn sweep(store: &impl PageStore, space: &Space) -> Result<u64> {
    let meta = Meta::read(store)?;
    let is_due = match meta.unclean_since {
        0 => has_lost(store, space, &meta)?,
        time => store.is_over(time),
    };
    if !is_due {
        return Ok(0);
    }
    let lists = directory::lists(store, space, meta.directory)?;
    let alive: HashSet<u32> = lists.into_iter().map(|list| list.id).collect();
    let mut free = 0;
    for block in (0..store.len()).filter(|block| *block != meta.mean) {
        store.check()?;
        let found = store.read(block, |page| {
            Ok(match page::kind(page) {
                Some(Kind::List) if !alive.contains(&page::owner(page)) => Found::Dead,
                Some(Kind::Free) => Found::Free,
                None if page::is_blank(page) => Found::Blank,
                _ => Found::Used,
            })
        })?;
        if found == Found::Used {
            continue;
        }
        if found != Found::Free {
            let mut change = store.change();
            let place = change.lock(block)?;
            if found == Found::Blank {
                // Who has just added it may have written it by now.
                if !page::is_blank(change.page(place)) {
                    continue;
                }
                page::format(change.page_mut(place), Kind::Free, NO_LIST);
            }
            page::set_free(change.page_mut(place));
            change.commit()?;
        }
        store.free(block);
        free += 1;
    }
    if meta.unclean_since == 0 {
        return Ok(free);
    }
    let mut change = store.change();
    Meta::alter(&mut change, |meta| meta.unclean_since = 0)?;
    change.commit()?;
    Ok(free)
}

/// What a page is found to be.
#[derive(PartialEq, Eq)]
enum Found {
    Used,
    /// Of a list that is no more.
    Dead,
    Free,
    Blank,
}

/// Whether there are pages that belong to nothing and are not known to be free. Insertions meanwhile can only hide some.
fn has_lost(store: &impl PageStore, space: &Space, meta: &Meta) -> Result<bool> {
    let total = u64::from(store.len());
    let sizes = sizes(store, meta, space)?;
    let lists = sizes.list_pages + sizes.code_pages;
    // The first page and that of the mean are used, too.
    let used = 2 + lists + directory::pages(store, space, meta.directory)?;
    Ok(total > used && total > used + store.count_free())
}

/// Whether a page has been freed.
pub fn is_free(page: &[u8]) -> bool {
    page::kind(page) == Some(Kind::Free)
}
