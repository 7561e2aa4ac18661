//! Reading the rows of a list back from its codes, while others insert into it.

use std::collections::HashSet;

use crate::code::Record;
use crate::directory::List;
use crate::kmeans::Points;
use crate::list::{self, Layout, NO_ROW};
use crate::page::{self, Chain};
use crate::space::Entry;
use crate::store::{Block, Change, NO_BLOCK, PageStore};
use crate::{Key, Result, RowId, Space};

/// A row of a list.
pub(crate) struct Spot {
    pub row: RowId,
    pub keys: Vec<Key>,
    /// As it is in the list.
    pub entry: Entry,
    /// Page and place of its record.
    block: Block,
    place: usize,
}

impl Spot {
    /// Most that its decoded coordinates are wrong by.
    pub fn error(&self) -> f32 {
        Record::new(&self.entry.record).error
    }

    /// Whether it comes last in every order.
    pub fn is_last(&self) -> bool {
        self.entry.add == f32::MAX
    }
}

/// A list whose rows are read.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a, S> {
    pub store: &'a S,
    pub space: &'a Space,
    pub layout: Layout,
    pub list: List,
    pub centroid: &'a [f32],
}

impl<S: PageStore> Source<'_, S> {
    /// Locks the first page in a change: nobody inserts until it ends.
    pub fn lock(&self, change: &mut impl Change) -> Result<usize> {
        let first = change.lock(self.list.first)?;
        self.layout.expect(change.page(first), self.list.first, self.list.id)?;
        Ok(first)
    }

    /// Rows of the list, a number that each insertion changes.
    pub fn rows(&self) -> Result<u32> {
        self.store.read(self.list.first, |page| {
            self.layout.expect(page, self.list.first, self.list.id)?;
            Ok(list::rows(page))
        })
    }

    /// Shows the rows that have not been seen, those of a page at a time, with their coordinates. `held` is the first
    /// page if this process has locked it; then there is no check for a cancel.
    pub fn each_page(
        &self,
        held: Option<&[u8]>,
        seen: &mut HashSet<RowId>,
        mut show: impl FnMut(&[Spot], &Points) -> Result<()>,
    ) -> Result<()> {
        let (mut block, mut chain) = (self.list.first, Chain::default());
        while block != NO_BLOCK {
            chain.step(block)?;
            let look = |page: &[u8]| {
                self.layout.expect(page, block, self.list.id)?;
                Ok((self.spots(page, block, seen)?, page::next(page)))
            };
            let (mut spots, next) = match held {
                Some(page) if block == self.list.first => look(page)?,
                Some(_) => self.store.read(block, look)?,
                None => {
                    self.store.check()?;
                    self.store.read(block, look)?
                }
            };
            if !spots.is_empty() {
                let points = self.decode(&mut spots)?;
                show(&spots, &points)?;
                seen.extend(spots.iter().map(|spot| spot.row));
            }
            block = next;
        }
        Ok(())
    }

    /// Rows of a page that have not been seen, those of a page of codes side by side.
    fn spots(&self, page: &[u8], at: Block, seen: &HashSet<RowId>) -> Result<Vec<Spot>> {
        let rows = (0..page::count(page)).map(|i| (i, self.layout.row(page, i)));
        let unseen = rows.filter(|(_, row)| *row != NO_ROW && !seen.contains(row));
        let spots = unseen.map(|(i, row)| {
            let (block, place) = self.layout.location(page, at, i)?;
            let (keys, entry) = (self.layout.keys_of(page, i), self.layout.entry(page, i));
            Ok(Spot { row, keys, entry, block, place })
        });
        let mut spots = spots.collect::<Result<Vec<Spot>>>()?;
        spots.sort_by_key(|spot| (spot.block, spot.place));
        Ok(spots)
    }

    /// Completes entries with their records; the coordinates that these have.
    fn decode(&self, spots: &mut [Spot]) -> Result<Points> {
        let width = self.space.width;
        let mut points = Points::new(width);
        for here in spots.chunk_by_mut(|a, b| a.block == b.block) {
            let block = here[0].block;
            self.store.read(block, |page| {
                self.layout.expect_codes(page, block, self.list.id)?;
                for spot in here {
                    let record = self.layout.record(page, spot.place);
                    spot.entry.record = record.to_bytes();
                    self.space.decode(record, self.centroid, &mut points.values);
                }
                Ok(())
            })?;
        }
        Ok(points)
    }
}
