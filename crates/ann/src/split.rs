//! Upkeep as an index grows: a list that has become long is replaced by shorter ones, and the lists that a recall takes
//! are measured anew. Only one process at a time may do so, and nobody may remove rows meanwhile; searches and
//! insertions go on.
//!
//! The rows of a list are read from its codes and written to new lists, which nobody sees yet. What is inserted
//! meanwhile is carried over while the first page of the list is locked; then one change of the directory puts the new
//! lists into the place of the old one. Its pages stay as they are for searches that have begun, until they are
//! [swept](crate::sweep) up. A crash leaves pages that belong to no list, which are swept up as well.

use std::collections::HashSet;

use crate::build::{Plan, ROUNDS, SAMPLES_PER_LIST, through_records};
use crate::calibrate::{Calibration, QUERIES};
use crate::directory::{self, List, Replacement};
use crate::error::corrupt;
use crate::fill::Filling;
use crate::insert::insert_into;
use crate::kmeans::{self, Points};
use crate::list::{self, Layout, NO_ROW};
use crate::meta::{META, Meta};
use crate::page::{self, Chain};
use crate::space::Entry;
use crate::store::{Block, Change, NO_BLOCK, PageStore};
use crate::{Key, Result, RowId, Space};

/// A list is split when it is so many times as long as lists should be.
const CROWDED: f64 = 3.0;
/// Times that rows inserted meanwhile are carried over before the list is locked for the last of them.
const ROUNDS_BEHIND: usize = 8;
/// The lists that a recall takes are measured anew when rows or lists have become so many times as many.
const STALE: f64 = 1.2;
/// Rows to cluster, at least, if there are as many.
const LEAST_SAMPLE: usize = 4096;

/// What upkeep has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Lists that were split.
    pub split: usize,
    /// Whether the lists that a recall takes were measured.
    pub calibrated: bool,
}

/// Splits lists that have become long for `lists` lists, or for as many as a build would make, with at most about
/// `memory` bytes.
///
/// # Errors
/// Those of the store.
pub fn upkeep(store: &impl PageStore, space: &Space, lists: Option<usize>, memory: usize) -> Result<Upkeep> {
    let meta = Meta::read(store)?;
    let layout = meta.layout(space);
    let (old, centroids) = directory::centroids(store, space, meta.directory)?;
    let mut sizes = Vec::with_capacity(old.len());
    for list in &old {
        store.check()?;
        sizes.push(store.read(list.first, |page| {
            layout.expect(page, list.first, list.id)?;
            Ok((f64::from(list::rows(page)), f64::from(list::tried(page))))
        })?);
    }
    let rows: f64 = sizes.iter().map(|(rows, _)| rows).sum();
    let wanted = lists.unwrap_or_else(|| Plan::new(rows, space.dims, memory).lists);
    let length = (rows / wanted as f64).max(1.0);
    let mut done = Upkeep::default();
    for (i, (list, (rows, tried))) in old.into_iter().zip(&sizes).enumerate() {
        // What could not be split is not tried again before it has doubled.
        if *rows > CROWDED * length && *rows >= 2.0 * tried {
            let source = Source { store, space, layout, list, centroid: centroids.get(i) };
            let parts = (rows / length).round() as usize;
            done.split += usize::from(source.split(meta.directory, parts, memory)?);
        }
    }
    let lists = directory::lists(store, space, meta.directory)?.len() as f64;
    let is_stale = |now: f64, then: f64| now > STALE * then || then > STALE * now;
    done.calibrated = is_stale(rows, meta.rows as f64) || is_stale(lists, f64::from(meta.lists));
    if done.calibrated {
        calibrate(store, &meta, space, rows)?;
    }
    Ok(done)
}

/// Measures on rows of the index which lists a recall takes.
fn calibrate(store: &impl PageStore, meta: &Meta, space: &Space, rows: f64) -> Result<()> {
    let layout = meta.layout(space);
    let (lists, centroids) = directory::centroids(store, space, meta.directory)?;
    let step = (rows as usize / QUERIES).max(1);
    let each_list = |show: &mut dyn FnMut(u32, &Points)| {
        for (i, list) in lists.iter().enumerate() {
            let source = Source { store, space, layout, list: *list, centroid: centroids.get(i) };
            source.each_page(None, &mut HashSet::new(), |_, points| {
                show(i as u32, points);
                Ok(())
            })?;
        }
        Ok(())
    };
    let (mut queries, mut n) = (Points::new(space.width), 0usize);
    each_list(&mut |_, points| {
        for point in points.values.chunks_exact(space.width) {
            if n.is_multiple_of(step) && queries.len() < QUERIES {
                queries.values.extend_from_slice(point);
            }
            n += 1;
        }
    })?;
    let mut calibration = Calibration::new(space, queries);
    each_list(&mut |list, points| calibration.see(&points.values, std::iter::repeat(list)))?;
    let calibrated = calibration.measure(&centroids);
    let mut change = store.change();
    Meta::alter(&mut change, |meta| {
        meta.calibrated = calibrated;
        meta.lists = lists.len() as u32;
        meta.rows = n as u64;
    })?;
    change.commit()
}

/// Each of so many rows is one to cluster into lists.
fn sample_step(rows: usize, lists: usize, width: usize, memory: usize) -> usize {
    let sample = (lists * SAMPLES_PER_LIST).max(LEAST_SAMPLE).min(memory / (8 * width)).max(lists);
    (rows / sample).max(1)
}

/// A row of a list, and where its record is.
struct Spot {
    row: RowId,
    keys: Vec<Key>,
    last: bool,
    block: Block,
    place: usize,
    /// Most that its decoded coordinates are wrong by.
    error: f32,
}

/// A list whose rows are read.
struct Source<'a, S> {
    store: &'a S,
    space: &'a Space,
    layout: Layout,
    list: List,
    centroid: &'a [f32],
}

/// The lists that take the rows.
struct Target {
    lists: Vec<List>,
    centroids: Points,
    squares: Vec<f32>,
}

impl<S: PageStore> Source<'_, S> {
    /// Puts about `parts` lists into the place of this one, unless its rows are all of one piece.
    fn split(&self, directory: Block, parts: usize, memory: usize) -> Result<bool> {
        let (store, width) = (self.store, self.space.width);
        let rows = self.rows()?;
        let step = sample_step(rows as usize, parts, width, memory);
        let (mut sample, mut n) = (Points::new(width), 0usize);
        self.each_page(None, &mut HashSet::new(), |_, points| {
            for point in points.values.chunks_exact(width) {
                if n.is_multiple_of(step) {
                    sample.values.extend_from_slice(point);
                }
                n += 1;
            }
            Ok(())
        })?;
        let trained = kmeans::train(&sample, parts, ROUNDS, u64::from(self.list.id), || store.check())?;
        drop(sample);
        if trained.len() < 2 {
            let mut change = store.change();
            let first = self.lock(&mut change)?;
            list::set_tried(change.page_mut(first), rows);
            change.commit()?;
            return Ok(false);
        }
        let (records, centroids) = through_records(&trained);
        let squares = centroids.squares();
        let mut target = Target { lists: Vec::new(), centroids, squares };

        let mut change = store.change();
        let count = records.len() as u32;
        let meta = Meta::alter(&mut change, |meta| {
            meta.next_list = meta.next_list.wrapping_add(count);
            meta.unclean_since = store.now();
        })?;
        let Some(ids) = meta.next_list.checked_sub(count) else {
            return corrupt(META, "it has no more numbers for lists");
        };
        change.commit()?;
        let mut filling = Filling::new(self.layout, ids..meta.next_list);
        let (mut seen, mut counted) = (HashSet::new(), self.rows()?);
        self.each_page(None, &mut seen, |spots, points| {
            self.encode(&target, spots, points, |to, spot, entry| {
                filling.put(store, to, spot.row, &spot.keys, entry)
            })
        })?;
        target.lists = filling.finish(store)?;

        for _ in 0..ROUNDS_BEHIND {
            let now = self.rows()?;
            if now == counted {
                break;
            }
            counted = now;
            self.carry_over(None, &mut seen, &target)?;
        }
        let replacement = Replacement::new(store, self.space, directory, self.list, &target.lists, &records)?;
        let mut change = store.change();
        let first = self.lock(&mut change)?;
        if list::rows(change.page(first)) != counted {
            let page = change.page(first).to_vec();
            self.carry_over(Some(&page), &mut seen, &target)?;
        }
        list::retire(change.page_mut(first));
        replacement.publish(store)?;
        change.commit()?;
        Ok(true)
    }

    fn lock(&self, change: &mut impl Change) -> Result<usize> {
        let first = change.lock(self.list.first)?;
        self.layout.expect(change.page(first), self.list.first, self.list.id)?;
        Ok(first)
    }

    /// Rows of the list, a number that each insertion changes.
    fn rows(&self) -> Result<u32> {
        self.store.read(self.list.first, |page| {
            self.layout.expect(page, self.list.first, self.list.id)?;
            Ok(list::rows(page))
        })
    }

    /// Shows the rows that have not been seen, those of a page at a time, with their coordinates. `held` is the first
    /// page if this process has locked it; then there is no check for a cancel.
    fn each_page(
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
                Ok((self.spots(page, seen), page::next(page)))
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

    fn spots(&self, page: &[u8], seen: &HashSet<RowId>) -> Vec<Spot> {
        let rows = (0..page::count(page)).map(|entry| (entry, self.layout.row(page, entry)));
        let unseen = rows.filter(|(_, row)| *row != NO_ROW && !seen.contains(row));
        unseen
            .map(|(entry, row)| {
                let (block, place) = self.layout.location(page, entry);
                let last = self.layout.add(page, entry) == f32::MAX;
                Spot { row, keys: self.layout.keys_of(page, entry), last, block, place, error: 0.0 }
            })
            .collect()
    }

    /// Coordinates of rows, as their records have them.
    fn decode(&self, spots: &mut [Spot]) -> Result<Points> {
        let width = self.space.width;
        let mut points = Points::new(width);
        for here in spots.chunk_by_mut(|a, b| a.block == b.block) {
            let block = here[0].block;
            self.store.read(block, |page| {
                self.layout.expect_codes(page, block, self.list.id)?;
                for spot in here {
                    let record = self.layout.record(page, spot.place);
                    spot.error = record.error;
                    self.space.decode(record, self.centroid, &mut points.values);
                }
                Ok(())
            })?;
        }
        Ok(points)
    }

    /// Encodes rows for the lists that are nearest to them.
    fn encode(
        &self,
        target: &Target,
        spots: &[Spot],
        points: &Points,
        mut put: impl FnMut(usize, &Spot, &Entry) -> Result<()>,
    ) -> Result<()> {
        let (mut scratch, mut nearest) = (Vec::new(), Vec::new());
        kmeans::assign(&points.values, &target.centroids, &target.squares, &mut scratch, &mut nearest);
        for (i, (spot, (to, _))) in spots.iter().zip(&nearest).enumerate() {
            let centroid = target.centroids.get(*to as usize);
            let entry = self.space.encode_again(points.get(i), centroid, spot.error, spot.last);
            put(*to as usize, spot, &entry)?;
        }
        Ok(())
    }

    /// Adds the rows that have not been seen to the new lists.
    fn carry_over(&self, held: Option<&[u8]>, seen: &mut HashSet<RowId>, target: &Target) -> Result<()> {
        self.each_page(held, seen, |spots, points| {
            self.encode(target, spots, points, |to, spot, entry| {
                insert_into(self.store, &self.layout, target.lists[to], spot.row, &spot.keys, entry)
                    .map(|_| ())
            })
        })
    }
}
