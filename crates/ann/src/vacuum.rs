//! Removing dead rows.

use crate::directory::{self, List};
use crate::list::{self, Layout, NO_ROW};
use crate::meta::Meta;
use crate::page::{self, Chain};
use crate::records::Census;
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

/// Removes the rows that `is_dead` names; their entries and byte codes become room for others. No list may be split meanwhile.
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
    let (mut total, mut census) = (Removed::default(), Census::new(store, &layout)?);
    for list in lists {
        remove_from(store, &layout, list, &mut is_dead, &mut total, &mut census)?;
    }
    census.release(store, &layout, space)?;
    Ok(total)
}

fn remove_from<S: PageStore>(
    store: &S,
    layout: &Layout,
    list: List,
    is_dead: &mut impl FnMut(RowId) -> bool,
    total: &mut Removed,
    census: &mut Census,
) -> Result<()> {
    let (mut block, mut chain) = (list.first, Chain::default());
    let (mut removed, mut removed_rows, mut room) = (0u32, 0u32, NO_BLOCK);
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
                    _ if layout.is_second(page, i) => {}
                    _ => {
                        total.kept += 1;
                        census.see(layout.place(page, i));
                    }
                }
            }
            Ok((page::next(page), list::holes(page)))
        })?;
        if !dead.is_empty() {
            let mut change = store.change();
            let place = change.lock(block)?;
            layout.expect(change.page(place), block, list.id)?;
            for i in &dead {
                removed_rows += u32::from(!layout.is_second(change.page(place), *i));
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
        let page = change.page_mut(first);
        let rows = list::rows(page).saturating_sub(removed_rows);
        list::set_length(page, list::length(page).saturating_sub(removed), rows);
        if room != NO_BLOCK {
            list::set_insert_at(change.page_mut(first), room);
        }
        change.commit()?;
        total.removed += u64::from(removed_rows);
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
    /// Second entries of rows.
    pub seconds: u64,
    /// Deleted entries not yet used again.
    pub holes: u64,
    /// Pages of entries.
    pub list_pages: u64,
    /// Pages of byte codes.
    pub code_pages: u64,
    /// Entries of the longest list.
    pub longest: u64,
}

/// Counts what there is.
///
/// # Errors
/// Those of the store.
pub fn sizes(store: &impl PageStore, meta: &Meta, space: &Space) -> Result<Sizes> {
    let layout = meta.layout(space);
    let lists = directory::lists(store, space, meta.directory)?;
    let code_pages = u64::from(Meta::read(store)?.code_pages);
    let mut sizes = Sizes { lists: lists.len() as u64, code_pages, ..Sizes::default() };
    for list in lists {
        let (mut block, mut chain, mut length): (Block, _, _) = (list.first, Chain::default(), 0);
        while block != NO_BLOCK {
            chain.step(block)?;
            store.check()?;
            block = store.read(block, |page| {
                layout.expect(page, block, list.id)?;
                let count = page::count(page);
                let holes = list::holes(page).min(count);
                let entries = (0..count).filter(|i| layout.row(page, *i) != NO_ROW);
                let seconds = entries.filter(|i| layout.is_second(page, *i)).count();
                length += (count - holes) as u64;
                sizes.rows += (count - holes).saturating_sub(seconds) as u64;
                sizes.seconds += seconds as u64;
                sizes.holes += holes as u64;
                sizes.list_pages += 1;
                Ok(page::next(page))
            })?;
        }
        sizes.longest = sizes.longest.max(length);
    }
    Ok(sizes)
}
