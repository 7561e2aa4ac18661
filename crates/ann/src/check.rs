//! Whether an index is whole.

use std::collections::HashSet;

use crate::directory;
use crate::error::corrupt;
use crate::list::{self, NO_ROW};
use crate::meta::Meta;
use crate::page::{self, Chain};
use crate::store::{Block, NO_BLOCK, PageStore};
use crate::{Result, Space};

/// Follows every list: each page belongs to one list and is reached once, each entry has a code, each row has one
/// entry, and the counts are not too low. Nobody may change the index meanwhile. Returns the number of rows.
///
/// # Errors
/// [`crate::Error::Corrupt`] or [`crate::Error::Reused`] at the first thing that is wrong.
pub fn check(store: &impl PageStore, meta: &Meta, space: &Space) -> Result<u64> {
    let layout = meta.layout(space);
    let lists = directory::lists(store, space, meta.directory)?;
    let (mut blocks, mut rows, mut ids) = (HashSet::new(), HashSet::new(), HashSet::new());
    for list in lists {
        if !ids.insert(list.id) {
            return corrupt(list.first, format!("list {} is twice in the directory", list.id));
        }
        let (mut block, mut chain, before): (Block, _, _) = (list.first, Chain::default(), rows.len());
        let mut counted = 0;
        while block != NO_BLOCK {
            chain.step(block)?;
            store.check()?;
            let mut codes = Vec::new();
            let next = store.read(block, |page| {
                layout.expect(page, block, list.id)?;
                let count = page::count(page);
                if block == list.first {
                    counted = list::rows(page);
                }
                let (mut holes, mut numbers) = (0, HashSet::new());
                for entry in 0..count {
                    if !numbers.insert(layout.number(page, block, entry)?) {
                        return corrupt(block, format!("entry {entry} has the record of another one"));
                    }
                    match layout.row(page, entry) {
                        NO_ROW => holes += 1,
                        row if !rows.insert(row) => {
                            return corrupt(block, format!("row {row:#x} has two entries"));
                        }
                        _ => {}
                    }
                }
                if holes != list::holes(page) {
                    return corrupt(block, format!("it has {holes} holes, not {}", list::holes(page)));
                }
                for i in 0..count.div_ceil(layout.per_page) {
                    codes.push((
                        layout.code_page(page, i),
                        (count - i * layout.per_page).min(layout.per_page),
                    ));
                }
                Ok(page::next(page))
            })?;
            for (codes, records) in codes.into_iter().chain([(block, 0)]) {
                if !blocks.insert(codes) {
                    return corrupt(codes, "two pages lead to it");
                }
                if codes == block {
                    continue;
                }
                let found = store.read(codes, |page| {
                    layout.expect_codes(page, codes, list.id)?;
                    Ok(page::count(page))
                })?;
                if found < records {
                    return corrupt(codes, format!("it has {found} records, {records} entries need one"));
                }
            }
            block = next;
        }
        let found = rows.len() - before;
        // A crash amid a removal leaves the count too high; it only tells how long the list is, about.
        if found > counted as usize {
            return corrupt(list.first, format!("the list has {found} rows, not {counted}"));
        }
    }
    Ok(rows.len() as u64)
}
