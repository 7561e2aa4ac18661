//! Reading the rows of a list back from its codes, while others insert into it.

use std::collections::HashSet;

use crate::directory::List;
use crate::kmeans::Points;
use crate::list::{self, Layout, NO_ROW};
use crate::page::{self, Chain};
use crate::records::{self, Place};
use crate::space::Entry;
use crate::store::{Change, NO_BLOCK, PageStore};
use crate::{Key, Result, RowId, Space};

/// An entry of a list.
pub(crate) struct Spot {
    pub row: RowId,
    pub keys: Vec<Key>,
    /// Whether the row has a first one.
    pub second: bool,
    /// As it is in the list.
    pub entry: Entry,
    pub place: Place,
}

/// Entries that were seen: a list may have both of a row.
pub(crate) type Seen = HashSet<(RowId, bool)>;

/// A list whose rows are read.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a, S> {
    pub store: &'a S,
    pub space: &'a Space,
    pub layout: Layout,
    pub list: List,
}

impl<S: PageStore> Source<'_, S> {
    /// Locks the first page in a change: nobody inserts until it ends.
    pub fn lock(&self, change: &mut impl Change) -> Result<usize> {
        let first = change.lock(self.list.first)?;
        self.layout.expect(change.page(first), self.list.first, self.list.id)?;
        Ok(first)
    }

    /// Entries of the list, a number that each insertion changes.
    pub fn length(&self) -> Result<u32> {
        self.store.read(self.list.first, |page| {
            self.layout.expect(page, self.list.first, self.list.id)?;
            Ok(list::length(page))
        })
    }

    /// Shows the rows of all entries, and whether they are second ones.
    pub fn each_row(&self, mut show: impl FnMut(RowId, bool)) -> Result<()> {
        let (mut block, mut chain) = (self.list.first, Chain::default());
        while block != NO_BLOCK {
            chain.step(block)?;
            self.store.check()?;
            block = self.store.read(block, |page| {
                self.layout.expect(page, block, self.list.id)?;
                for (i, row) in (0..page::count(page)).map(|i| (i, self.layout.row(page, i))) {
                    if row != NO_ROW {
                        show(row, self.layout.is_second(page, i));
                    }
                }
                Ok(page::next(page))
            })?;
        }
        Ok(())
    }

    /// Shows the coordinates of the rows whose first entries are in the list, those of a page at a time.
    pub fn each_first(&self, mut show: impl FnMut(&[Spot], &Points)) -> Result<()> {
        // What has been seen before is no matter here.
        self.pages(None, &mut HashSet::new(), false, |spots, points| {
            show(spots, points);
            Ok(())
        })
    }

    /// Shows the entries that have not been seen, those of a page at a time, with their coordinates. `held` is the first
    /// page if this process has locked it; then there is no check for a cancel.
    pub fn each_page(
        &self,
        held: Option<&[u8]>,
        seen: &mut Seen,
        show: impl FnMut(&[Spot], &Points) -> Result<()>,
    ) -> Result<()> {
        self.pages(held, seen, true, show)
    }

    fn pages(
        &self,
        held: Option<&[u8]>,
        seen: &mut Seen,
        seconds: bool,
        mut show: impl FnMut(&[Spot], &Points) -> Result<()>,
    ) -> Result<()> {
        let (mut block, mut chain) = (self.list.first, Chain::default());
        while block != NO_BLOCK {
            chain.step(block)?;
            let look = |page: &[u8]| {
                self.layout.expect(page, block, self.list.id)?;
                Ok((self.spots(page, seen, seconds), page::next(page)))
            };
            let (spots, next) = match held {
                Some(page) if block == self.list.first => look(page)?,
                Some(_) => self.store.read(block, look)?,
                None => {
                    self.store.check()?;
                    self.store.read(block, look)?
                }
            };
            if !spots.is_empty() {
                let points = self.decode(&spots)?;
                show(&spots, &points)?;
                seen.extend(spots.iter().map(|spot| (spot.row, spot.second)));
            }
            block = next;
        }
        Ok(())
    }

    fn spots(&self, page: &[u8], seen: &Seen, seconds: bool) -> Vec<Spot> {
        let spots = (0..page::count(page)).filter_map(|i| {
            let (row, second) = (self.layout.row(page, i), self.layout.is_second(page, i));
            let wanted = row != NO_ROW && (seconds || !second) && !seen.contains(&(row, second));
            wanted.then(|| Spot {
                row,
                keys: self.layout.keys_of(page, i),
                second,
                entry: self.layout.entry(page, i),
                place: self.layout.place(page, i),
            })
        });
        let mut spots: Vec<Spot> = spots.collect();
        spots.sort_unstable_by_key(|spot| spot.place);
        spots
    }

    /// The coordinates that the byte codes of entries have.
    fn decode(&self, spots: &[Spot]) -> Result<Points> {
        let width = self.space.width;
        let mut points = Points::new(width);
        for here in spots.chunk_by(|a, b| a.place.block == b.place.block) {
            let block = here[0].place.block;
            self.store.read(block, |page| {
                records::expect(&self.layout, page, block)?;
                for spot in here {
                    let at = points.values.len();
                    points.values.resize(at + width, 0.0);
                    records::record(self.space, page, spot.place.slot).add_to(&mut points.values[at..]);
                }
                Ok(())
            })?;
        }
        Ok(points)
    }
}
