//! Removing dead rows.

use crate::directory::{self, List};
use crate::list::{self, Layout, NO_ROW};
use crate::meta::Meta;
use crate::page::{self, Chain};
use crate::store::{Block, Change, NO_BLOCK, PageStore};
use crate::{Result, RowId, Space};

/// What a removal found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Rows that stay.
    pub kept: u64,
    /// Rows that were removed.
    pub removed: u64,
}

/// Removes the rows that `is_dead` names; their entries become room for others. No list may be split meanwhile.
///
/// # Errors
/// Those of the store.
pub fn remove(
    store: &impl PageStore,
    meta: &Meta,
    space: &Space,
    mut is_dead: impl FnMut(RowId) -> bool,
) -> Result<Removed> {
    let layout = meta.layout(space);
    let lists = directory::lists(store, space, meta.directory)?;
    let mut total = Removed::default();
    for list in lists {
        remove_from(store, &layout, list, &mut is_dead, &mut total)?;
    }
    Ok(total)
}

fn remove_from<S: PageStore>(
    store: &S,
    layout: &Layout,
    list: List,
    is_dead: &mut impl FnMut(RowId) -> bool,
    total: &mut Removed,
) -> Result<()> {
    let (mut block, mut chain) = (list.first, Chain::default());
    let (mut removed, mut room) = (0u32, NO_BLOCK);
    while block != NO_BLOCK {
        chain.step(block)?;
        store.check()?;
        let mut dead = Vec::new();
        // Whether a row is dead cannot change, so that the page need be locked for writing only if one is.
        let (next, holes) = store.read(block, |page| {
            layout.expect(page, block, list.id)?;
            for i in 0..page::count(page) {
                match layout.row(page, i) {
                    NO_ROW => {}
                    row if is_dead(row) => dead.push(i),
                    _ => total.kept += 1,
                }
            }
            Ok((page::next(page), list::holes(page)))
        })?;
        if !dead.is_empty() {
            let mut change = store.change();
            let place = change.lock(block)?;
            layout.expect(change.page(place), block, list.id)?;
            for i in &dead {
                layout.erase(change.page_mut(place), *i);
            }
            change.commit()?;
            removed += dead.len() as u32;
        }
        if block != list.first && (!dead.is_empty() || holes > 0) && room == NO_BLOCK {
            room = block;
        }
        block = next;
    }
    if removed > 0 {
        let mut change = store.change();
        let first = change.lock(list.first)?;
        layout.expect(change.page(first), list.first, list.id)?;
        let rows = list::rows(change.page(first)).saturating_sub(removed);
        list::set_rows(change.page_mut(first), rows);
        if room != NO_BLOCK {
            list::set_insert_at(change.page_mut(first), room);
        }
        change.commit()?;
        total.removed += u64::from(removed);
    }
    Ok(())
}

/// Pages of each kind that the directory leads to, and rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Lists.
    pub lists: u64,
    /// Rows.
    pub rows: u64,
    /// Deleted entries not yet used again.
    pub holes: u64,
    /// Pages of entries.
    pub list_pages: u64,
    /// Pages of byte codes.
    pub code_pages: u64,
    /// Rows of the longest list.
    pub longest: u64,
}

/// Counts what there is.
///
/// # Errors
/// Those of the store.
pub fn sizes(store: &impl PageStore, meta: &Meta, space: &Space) -> Result<Sizes> {
    let layout = meta.layout(space);
    let lists = directory::lists(store, space, meta.directory)?;
    let mut sizes = Sizes { lists: lists.len() as u64, ..Sizes::default() };
    for list in lists {
        let (mut block, mut chain, mut rows): (Block, _, _) = (list.first, Chain::default(), 0);
        while block != NO_BLOCK {
            chain.step(block)?;
            store.check()?;
            block = store.read(block, |page| {
                layout.expect(page, block, list.id)?;
                let count = page::count(page);
                let holes = list::holes(page).min(count);
                rows += (count - holes) as u64;
                sizes.holes += holes as u64;
                sizes.list_pages += 1;
                sizes.code_pages += count.div_ceil(layout.per_page) as u64;
                Ok(page::next(page))
            })?;
        }
        sizes.rows += rows;
        sizes.longest = sizes.longest.max(rows);
    }
    Ok(sizes)
}
