//! Whether an index holds what its table does.

use crate::directory::{self, List};
use crate::list::{Layout, NO_ROW};
use crate::meta::Meta;
use crate::page::{self, Chain};
use crate::records;
use crate::store::{Block, NO_BLOCK, PageStore};
use crate::{Error, Key, Result, RowId, Space};

/// Where a row has an entry.
struct Place {
    row: RowId,
    list: u32,
    block: Block,
    entry: u16,
}

/// A comparison under way: the rows of the table are shown to it. Nobody may change the index meanwhile. It takes 24 bytes for
/// each entry of the index.
pub struct Agreement<'a, S> {
    store: &'a S,
    space: &'a Space,
    layout: Layout,
    lists: Vec<List>,
    /// In the order of the rows.
    places: Vec<Place>,
}

impl<'a, S: PageStore> Agreement<'a, S> {
    /// Reads where each row is.
    ///
    /// # Errors
    /// [`Error::Corrupt`], and those of the store.
    pub fn new(store: &'a S, meta: &Meta, space: &'a Space) -> Result<Self> {
        let layout = meta.layout(space);
        let lists = directory::lists(store, space, meta.directory)?;
        let mut places = Vec::new();
        for (i, list) in lists.iter().enumerate() {
            let (mut block, mut chain) = (list.first, Chain::default());
            while block != NO_BLOCK {
                chain.step(block)?;
                store.check()?;
                block = store.read(block, |page| {
                    layout.expect(page, block, list.id)?;
                    let rows = (0..page::count(page)).map(|entry| (entry, layout.row(page, entry)));
                    places.extend(rows.filter(|(_, row)| *row != NO_ROW).map(|(entry, row)| Place {
                        row,
                        list: i as u32,
                        block,
                        entry: entry as u16,
                    }));
                    Ok(page::next(page))
                })?;
            }
        }
        places.sort_unstable_by_key(|place| place.row);
        Ok(Self { store, space, layout, lists, places })
    }

    /// Compares a row of the table with its entries.
    ///
    /// # Errors
    /// [`Error::Row`] if it has none, or one with other keys or with the code of a vector that it cannot be; and those of
    /// the store.
    pub fn see(&self, row: RowId, x: &[f32], keys: &[Key]) -> Result<()> {
        self.store.check()?;
        let from = self.places.partition_point(|place| place.row < row);
        let here = self.places[from..].iter().take_while(|place| place.row == row);
        let coordinates = self.space.row(x)?;
        let mut found = false;
        for place in here {
            let list = self.lists[place.list as usize];
            let wrong = |what: &str| Err(Error::Row { row, what: format!("{what} in list {}", list.id) });
            let entry = usize::from(place.entry);
            let (place, last, same, second) = self.store.read(place.block, |page| {
                self.layout.expect(page, place.block, list.id)?;
                let same = self.layout.keys_of(page, entry) == keys;
                let second = self.layout.is_second(page, entry);
                Ok((self.layout.place(page, entry), self.layout.is_last(page, entry), same, second))
            })?;
            if !same {
                return wrong("its entry has other keys");
            }
            let fits = self.store.read(place.block, |page| {
                records::expect(&self.layout, page, place.block)?;
                Ok(self.space.fits(&coordinates, records::record(self.space, page, place.slot), last))
            })?;
            found |= !second;
            if !fits {
                return wrong("its entry has the code of another vector");
            }
        }
        if found { Ok(()) } else { Err(Error::Row { row, what: "it has no entry".to_owned() }) }
    }
}
