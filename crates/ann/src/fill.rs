//! Lists being written for the first time, which nobody sees yet: pages go to the store when they are full.

use crate::Result;
use crate::directory::List;
use crate::list::{self, Layout, NewEntry};
use crate::page;
use crate::records::Place;
use crate::store::{PAYLOAD, PageStore};

/// A list that is being filled.
struct OpenList {
    page: Vec<u8>,
    length: u32,
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
            let mut page = vec![0; PAYLOAD];
            list::format(&mut page, id);
            OpenList { page, length: 0, rows: 0 }
        };
        Self { layout, lists: ids.map(open).collect() }
    }

    /// Number of lists.
    pub fn len(&self) -> usize {
        self.lists.len()
    }

    /// Adds an entry to the list at a place.
    ///
    /// # Errors
    /// Those of the store.
    pub fn put(
        &mut self,
        store: &impl PageStore,
        list: usize,
        new: &NewEntry<'_>,
        place: Place,
    ) -> Result<()> {
        let (layout, open) = (&self.layout, &mut self.lists[list]);
        if page::count(&open.page) == layout.capacity {
            layout.sort(&mut open.page);
            let full = store.append(&open.page)?;
            let owner = page::owner(&open.page);
            list::format(&mut open.page, owner);
            page::set_next(&mut open.page, full);
        }
        let i = page::count(&open.page);
        layout.put_entry(&mut open.page, i, new, place);
        page::set_count(&mut open.page, i + 1);
        open.length += 1;
        open.rows += u32::from(!new.second);
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
            self.layout.sort(&mut open.page);
            list::set_length(&mut open.page, open.length, open.rows);
            let id = page::owner(&open.page);
            lists.push(List { id, first: store.append(&open.page)? });
        }
        Ok(lists)
    }
}
