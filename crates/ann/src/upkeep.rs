//! Upkeep as an index grows and shrinks: lists that have become long are split, lists that have become short are given up,
//! both [together with their neighbours](crate::regroup), and the lists that a recall takes are measured anew. Only one
//! process at a time may do so, and nobody may remove rows meanwhile; searches and insertions go on.
//!
//! The pages of old lists, and of new ones that a crash left unfinished, are [swept](crate::sweep) up later.

use std::collections::HashMap;

use pg_answer_vector::distance;

use crate::build::Plan;
use crate::calibrate::{Calibration, QUERIES};
use crate::code::Record;
use crate::directory::{self, List};
use crate::kmeans::Points;
use crate::list::{self, Layout};
use crate::meta::Meta;
use crate::regroup::{Group, Made, Member};
use crate::source::{Source, Spot};
use crate::store::{Change, PageStore};
use crate::{Result, Space};

/// A list is split when it is so many times as long as lists should be. Of made-up data that had grown from 1,000 to 38,000
/// rows, with 2 lists and 16 neighbours searches scored 0.55 times the codes that they did with 3 and none.
const CROWDED: f64 = 2.0;
/// Where there are so many times as many lists as there should be, one is given up when it is this part as long as it should be.
const MANY: f64 = 2.0;
const SHORT: f64 = 0.25;
/// Neighbours of a list that is split, and of one that is given up.
const NEIGHBOURS: usize = 16;
const HEIRS: usize = 4;
/// The lists that a recall takes are measured anew when rows or lists have become so many times as many.
const STALE: f64 = 1.2;

/// What upkeep has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Lists that were split.
    pub split: usize,
    /// Lists that were given up.
    pub merged: usize,
    /// Whether the lists that a recall takes were measured.
    pub calibrated: bool,
}

/// A list of the index.
struct Known {
    list: List,
    record: Vec<u8>,
    centroid: Vec<f32>,
    entries: f64,
    /// Entries that are the first of their rows.
    rows: f64,
    /// Entries when it was found to be of one piece.
    tried: f64,
    /// Whether it was made just now: none is written twice, lest the index need much room for pages that wait to be swept.
    is_new: bool,
}

/// The index under work.
struct Works<'a, S> {
    store: &'a S,
    space: &'a Space,
    layout: Layout,
    meta: Meta,
    memory: usize,
    /// Entries of a list, and lists, as they should be.
    length: f64,
    wanted: f64,
    lists: Vec<Known>,
}

/// Keeps an index for `lists` lists, or for as many as a build would make, with at most about `memory` bytes.
///
/// # Errors
/// Those of the store.
pub fn upkeep(store: &impl PageStore, space: &Space, lists: Option<usize>, memory: usize) -> Result<Upkeep> {
    let meta = Meta::read(store)?;
    let layout = meta.layout(space);
    let mut works = Works { store, space, layout, meta, memory, length: 1.0, wanted: 1.0, lists: Vec::new() };
    works.read_lists()?;
    let rows: f64 = works.lists.iter().map(|known| known.rows).sum();
    works.wanted = lists.unwrap_or_else(|| Plan::new(rows, space.dims, memory).lists) as f64;
    let entries: f64 = works.lists.iter().map(|known| known.entries).sum();
    works.length = (entries / works.wanted).max(1.0);
    let mut done = Upkeep::default();
    let all: Vec<u32> = works.lists.iter().map(|known| known.list.id).collect();
    for id in all {
        let Some(at) = works.lists.iter().position(|known| known.list.id == id) else { continue };
        match works.parts(&works.lists[at]) {
            0 => done.merged += works.regroup(at, HEIRS)?,
            1 => {}
            _ => done.split += works.regroup(at, NEIGHBOURS)?,
        }
    }
    let lists = works.lists.len() as f64;
    let is_stale = |now: f64, then: f64| now > STALE * then || then > STALE * now;
    done.calibrated = is_stale(rows, works.meta.rows as f64) || is_stale(lists, f64::from(works.meta.lists));
    if done.calibrated {
        works.calibrate(rows)?;
    }
    Ok(done)
}

impl<S: PageStore> Works<'_, S> {
    fn read_lists(&mut self) -> Result<()> {
        for (list, record) in directory::entries(self.store, self.space, self.meta.directory)?.1 {
            self.store.check()?;
            let mut centroid = vec![0.0; self.space.width];
            Record::new(&record).add_to(&mut centroid);
            self.lists.push(self.known(list, record, centroid, false)?);
        }
        Ok(())
    }

    fn known(&self, list: List, record: Vec<u8>, centroid: Vec<f32>, is_new: bool) -> Result<Known> {
        let (entries, rows, tried) = self.store.read(list.first, |page| {
            self.layout.expect(page, list.first, list.id)?;
            Ok((list::length(page), list::rows(page), list::tried(page)))
        })?;
        let (entries, rows, tried) = (f64::from(entries), f64::from(rows), f64::from(tried));
        Ok(Known { list, record, centroid, entries, rows, tried, is_new })
    }

    fn source<'a>(&'a self, known: &'a Known) -> Source<'a, S> {
        let Self { store, space, layout, .. } = *self;
        Source { store, space, layout, list: known.list }
    }

    /// About how many lists shall take the place of one.
    fn parts(&self, known: &Known) -> usize {
        // What could not be split is not tried again before it has doubled.
        if known.entries > CROWDED * self.length && known.entries >= 2.0 * known.tried {
            return (known.entries / self.length).round() as usize;
        }
        let many = self.lists.len() as f64 > MANY * self.wanted;
        usize::from(!many || known.entries >= SHORT * self.length)
    }

    /// Places of the lists that are nearest to the one at a place, without those that are of one piece or were made just now.
    fn neighbours(&self, at: usize, most: usize) -> Vec<usize> {
        let from = &self.lists[at].centroid;
        let mut near: Vec<(f32, usize)> = (self.lists.iter().enumerate())
            .filter(|(i, known)| *i != at && !known.is_new && known.tried == 0.0)
            .map(|(i, known)| (distance::l2_squared(from, &known.centroid), i))
            .collect();
        near.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        near.into_iter().take(most).map(|(_, i)| i).collect()
    }

    /// Shares out the rows of the list at a place, and of its neighbours, among the parts that they should have. Returns how
    /// many lists were split or given up.
    fn regroup(&mut self, at: usize, neighbours: usize) -> Result<usize> {
        let give_up = self.parts(&self.lists[at]) == 0;
        let room = directory::fullest(self.store, self.space, self.meta.directory)?;
        let mut places = self.neighbours(at, neighbours.min(room.saturating_sub(1)));
        if give_up && places.is_empty() {
            return Ok(0);
        }
        places.insert(0, at);
        let members = places.iter().map(|i| {
            let known = &self.lists[*i];
            // An heir stays.
            let parts = if *i == at { self.parts(known) } else { self.parts(known).max(1) };
            Member { source: self.source(known), centroid: &known.centroid, record: &known.record, parts }
        });
        let group = Group { members: members.collect(), all: places.len() == self.lists.len() };
        let wanted = group.members.iter().filter(|member| member.parts != 1).count();
        let Some(made) = group.regroup(self.meta.directory, self.memory)? else { return Ok(0) };
        places.sort_unstable();
        places.into_iter().rev().for_each(|i| drop(self.lists.swap_remove(i)));
        for Made { list, record, centroid } in made {
            self.lists.push(self.known(list, record, centroid, true)?);
        }
        Ok(wanted)
    }

    /// Measures on rows of the index which lists a recall takes.
    fn calibrate(&self, rows: f64) -> Result<()> {
        let width = self.space.width;
        let step = (rows as usize / QUERIES).max(1);
        let each_list = |show: &mut dyn FnMut(u32, &[Spot], &Points)| {
            let mut lists = self.lists.iter().enumerate();
            lists.try_for_each(|(i, known)| {
                self.source(known).each_first(|spots, points| show(i as u32, spots, points))
            })
        };
        let (mut queries, mut n) = (Points::new(width), 0usize);
        each_list(&mut |_, _, points| {
            for point in points.values.chunks_exact(width) {
                if n.is_multiple_of(step) && queries.len() < QUERIES {
                    queries.values.extend_from_slice(point);
                }
                n += 1;
            }
        })?;
        let mut calibration = Calibration::new(self.space, queries);
        each_list(&mut |list, spots, points| {
            calibration.see(&points.values, spots.iter().map(|spot| (spot.row, [list; 2])));
        })?;
        let (near, mut seconds) = (calibration.rows(), HashMap::new());
        for (i, known) in self.lists.iter().enumerate() {
            self.source(known).each_row(|row, second| {
                if second && near.contains(&row) {
                    seconds.insert(row, i as u32);
                }
            })?;
        }
        calibration.set_seconds(&seconds);
        let mut centroids = Points::new(width);
        self.lists.iter().for_each(|known| centroids.values.extend_from_slice(&known.centroid));
        let calibrated = calibration.measure(&centroids, || self.store.check())?;
        let mut change = self.store.change();
        Meta::alter(&mut change, |meta| {
            meta.calibrated = calibrated;
            meta.lists = self.lists.len() as u32;
            meta.rows = n as u64;
        })?;
        change.commit()
    }
}
