//! Whether an index is whole.

use std::collections::{HashMap, HashSet};

use crate::directory;
use crate::error::corrupt;
use crate::list::{self, NO_ROW};
use crate::meta::Meta;
use crate::page::{self, Chain};
use crate::records::{self, Place};
use crate::store::{Block, NO_BLOCK, PageStore};
use crate::{Result, RowId, Space};

/// Follows every list: each page belongs to one list and is reached once, each row has one first entry and at most one second, both
/// with the same byte code, which no other row has, and the counts are not too low. Nobody may change the index meanwhile. Returns the number of rows.
///
/// # Errors
/// [`crate::Error::Corrupt`] or [`crate::Error::Reused`] at the first thing that is wrong.
pub fn check(store: &impl PageStore, meta: &Meta, space: &Space) -> Result<u64> {
    let layout = meta.layout(space);
    let lists = directory::lists(store, space, meta.directory)?;
    let (mut blocks, mut ids) = (HashSet::new(), HashSet::new());
    let (mut firsts, mut seconds): (HashMap<RowId, Place>, HashMap<RowId, Place>) = Default::default();
    for list in lists {
        if !ids.insert(list.id) {
            return corrupt(list.first, format!("list {} is twice in the directory", list.id));
        }
        let (mut block, mut chain): (Block, _) = (list.first, Chain::default());
        let before = (firsts.len(), seconds.len());
        let mut counted = (0, 0);
        while block != NO_BLOCK {
            chain.step(block)?;
            store.check()?;
            let next = store.read(block, |page| {
                layout.expect(page, block, list.id)?;
                let count = page::count(page);
                if block == list.first {
                    counted = (list::rows(page), list::length(page));
                }
                let mut holes = 0;
                for entry in 0..count {
                    match layout.row(page, entry) {
                        NO_ROW => holes += 1,
                        row => {
                            let second = layout.is_second(page, entry);
                            let rows = if second { &mut seconds } else { &mut firsts };
                            if rows.insert(row, layout.place(page, entry)).is_some() {
                                let which = if second { "second" } else { "first" };
                                return corrupt(block, format!("row {row:#x} has two {which} entries"));
                            }
                        }
                    }
                }
                if holes != list::holes(page) {
                    return corrupt(block, format!("it has {holes} holes, not {}", list::holes(page)));
                }
                Ok(page::next(page))
            })?;
            if !blocks.insert(block) {
                return corrupt(block, "two pages lead to it");
            }
            block = next;
        }
        let found = (firsts.len() - before.0, firsts.len() + seconds.len() - before.0 - before.1);
        // A crash amid a removal leaves the counts too high; they only tell how long the list is, about.
        if found.0 > counted.0 as usize || found.1 > counted.1 as usize {
            return corrupt(list.first, format!("the list has {found:?} rows and entries, not {counted:?}"));
        }
    }
    let mut places = HashSet::with_capacity(firsts.len());
    for (row, place) in &firsts {
        store.check()?;
        records::expect_record(store, &layout, space, *place)?;
        if !places.insert(*place) {
            return corrupt(place.block, format!("row {row:#x} has the byte code of another"));
        }
    }
    // A crash amid a removal may leave the second entry of a row that is dead.
    for (row, place) in seconds {
        if firsts.get(&row).is_some_and(|first| *first != place) {
            return corrupt(place.block, format!("the entries of row {row:#x} have different byte codes"));
        }
    }
    Ok(firsts.len() as u64)
}
