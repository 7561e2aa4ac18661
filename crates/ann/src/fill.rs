//! Lists being written for the first time, which nobody sees yet: pages go to the store when they are full.

use crate::directory::List;
use crate::list::{self, Layout};
use crate::page::{self, Kind};
use crate::space::Entry;
use crate::store::{Block, PAYLOAD, PageStore};
use crate::{Key, Result, RowId};

/// A list that is being filled.
struct OpenList {
    page: Vec<u8>,
    codes: Vec<u8>,
    rows: u32,
}

/// Lists that are being filled, in the order of their numbers.
pub(crate) struct Filling {
    layout: Layout,
    lists: Vec<OpenList>,
}

impl Filling {
    /// Empty lists with these numbers.
    pub fn new(layout: Layout, ids: std::ops::Range<u32>) -> Self {
        let open = |id| {
            let (mut page, mut codes) = (vec![0; PAYLOAD], vec![0; PAYLOAD]);
            list::format(&mut page, id);
            page::format(&mut codes, Kind::Codes, id);
            OpenList { page, codes, rows: 0 }
        };
        Self { layout, lists: ids.map(open).collect() }
    }

    /// Number of lists.
    pub fn len(&self) -> usize {
        self.lists.len()
    }

    /// Adds a row to the list at a place.
    ///
    /// # Errors
    /// Those of the store.
    pub fn put(
        &mut self,
        store: &impl PageStore,
        list: usize,
        id: RowId,
        keys: &[Key],
        entry: &Entry,
    ) -> Result<()> {
        let (layout, open) = (&self.layout, &mut self.lists[list]);
        if page::count(&open.page) == layout.capacity {
            let full = write_list_page(store, layout, open)?;
            let owner = page::owner(&open.page);
            list::format(&mut open.page, owner);
            page::set_next(&mut open.page, full);
        }
        let i = page::count(&open.page);
        if i > 0 && i.is_multiple_of(layout.per_page) {
            write_codes(store, layout, open)?;
        }
        let place = i % layout.per_page;
        layout.put_record(&mut open.codes, place, &entry.record);
        page::set_count(&mut open.codes, place + 1);
        layout.put_entry(&mut open.page, i, id, keys, entry);
        layout.set_number(&mut open.page, i, i);
        page::set_count(&mut open.page, i + 1);
        open.rows += 1;
        Ok(())
    }

    /// Writes what is left, and returns the lists.
    ///
    /// # Errors
    /// Those of the store.
    pub fn finish(mut self, store: &impl PageStore) -> Result<Vec<List>> {
        let mut lists = Vec::with_capacity(self.lists.len());
        for open in &mut self.lists {
            store.check()?;
            list::set_rows(&mut open.page, open.rows);
            let id = page::owner(&open.page);
            lists.push(List { id, first: write_list_page(store, &self.layout, open)? });
        }
        Ok(lists)
    }
}

fn write_codes(store: &impl PageStore, layout: &Layout, open: &mut OpenList) -> Result<()> {
    let entries = page::count(&open.page);
    if entries > 0 {
        let block = store.append(&open.codes)?;
        layout.set_code_page(&mut open.page, (entries - 1) / layout.per_page, block);
        let owner = page::owner(&open.codes);
        page::format(&mut open.codes, Kind::Codes, owner);
    }
    Ok(())
}

fn write_list_page(store: &impl PageStore, layout: &Layout, open: &mut OpenList) -> Result<Block> {
    write_codes(store, layout, open)?;
    layout.sort(&mut open.page);
    store.append(&open.page)
}
