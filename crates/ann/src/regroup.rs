//! Sharing out the rows of a list and its neighbours anew: a list that has become long gives way to several, a short one to
//! none, and rows go to the list that is nearest to them now, which no split of one list alone would do (LIRE, in
//! SPFresh, arXiv 2410.14452).
//!
//! Rows are read from their codes and written to new lists, which nobody sees yet. What is inserted meanwhile is carried
//! over while the first pages of the old lists are locked; then one change of the directory puts the new lists into
//! the place of the old ones, whose pages stay as they are for searches that have begun.

use std::collections::HashSet;

use crate::build::{ROUNDS, SAMPLES_PER_LIST, through_records};
use crate::directory::{List, Replacement};
use crate::error::corrupt;
use crate::fill::Filling;
use crate::insert::{Code, insert_into};
use crate::kmeans::{self, Points};
use crate::list::{self, NewEntry};
use crate::meta::{META, Meta};
use crate::nearby::Lists;
use crate::records::Place;
use crate::source::{Seen, Source, Spot};
use crate::store::{Block, Change, PageStore};
use crate::{Result, RowId, Space, second};

/// Times that rows inserted meanwhile are carried over before the lists are locked for the last of them.
const ROUNDS_BEHIND: usize = 8;
/// Rows to cluster, at least, if there are as many.
const LEAST_SAMPLE: usize = 4096;

/// A list of a group.
pub(crate) struct Member<'a, S> {
    pub source: Source<'a, S>,
    /// Its centroid, and as it is encoded.
    pub centroid: &'a [f32],
    pub record: &'a [u8],
    /// About how many lists shall take its place; 1: one with the same centroid.
    pub parts: usize,
}

/// Lists whose rows are to be shared out anew.
pub(crate) struct Group<'a, S> {
    pub members: Vec<Member<'a, S>>,
    /// Whether there is no other list. If it is one, its rows have no second entry.
    pub all: bool,
}

/// A new list.
pub(crate) struct Made {
    pub list: List,
    pub record: Vec<u8>,
    pub centroid: Vec<f32>,
}

/// The lists that take the rows.
struct Target {
    lists: Vec<List>,
    records: Vec<Vec<u8>>,
    centroids: Points,
    nearby: Lists,
    /// For each member the list that has its centroid.
    homes: Vec<Option<usize>>,
    /// Rows whose first entry a member has.
    rows: HashSet<RowId>,
    /// Whether the rows get a second entry, which they have not.
    adds_seconds: bool,
}

impl<S: PageStore> Group<'_, S> {
    /// Puts new lists into the place of these, and returns them. `None`: there was nothing to do, since lists that were to be
    /// split are of one piece, which is noted on them.
    ///
    /// # Errors
    /// Those of the store.
    pub fn regroup(&self, directory: Block, memory: usize) -> Result<Option<Vec<Made>>> {
        let Source { store, space, layout, .. } = self.members[0].source;
        let (mut target, whole) = self.target(memory)?;
        if target.homes.iter().all(Option::is_some) {
            return Ok(None);
        }
        let mut filling = Filling::new(layout, self.new_ids(target.records.len() as u32)?);
        let mut seen: Vec<Seen> = self.members.iter().map(|_| HashSet::new()).collect();
        let mut counted = self.lengths()?;
        for member in &self.members {
            member.source.each_row(|row, second| {
                if !second {
                    target.rows.insert(row);
                }
            })?;
        }
        for (i, (member, seen)) in self.members.iter().zip(&mut seen).enumerate() {
            member.source.each_page(None, seen, |spots, points| {
                target.assign(space, i, spots, points, |to, new, place| filling.put(store, to, new, place))
            })?;
        }
        target.lists = filling.finish(store)?;
        for i in whole {
            let home = target.homes[i].map(|home| target.lists[home]);
            note_tried(&Source {
                list: home.unwrap_or(self.members[i].source.list),
                ..self.members[i].source
            })?;
        }

        for _ in 0..ROUNDS_BEHIND {
            let now = self.lengths()?;
            if now == counted {
                break;
            }
            for i in (0..now.len()).filter(|i| now[*i] != counted[*i]) {
                self.carry_over(i, None, &mut seen[i], &mut target)?;
            }
            counted = now;
        }
        let old: Vec<List> = self.members.iter().map(|member| member.source.list).collect();
        let (lists, records) = (target.lists.clone(), target.records.clone());
        let replacement = Replacement::new(store, space, directory, &old, &lists, &records)?;
        let mut changes = Vec::with_capacity(old.len());
        for member in &self.members {
            let mut change = store.change();
            let page = member.source.lock(&mut change)?;
            changes.push((change, page));
        }
        for (i, (change, page)) in changes.iter_mut().enumerate() {
            if list::length(change.page(*page)) != counted[i] {
                let held = change.page(*page).to_vec();
                self.carry_over(i, Some(&held), &mut seen[i], &mut target)?;
            }
            list::retire(change.page_mut(*page));
        }
        replacement.publish(store)?;
        changes.into_iter().try_for_each(|(change, _)| change.commit())?;
        let centroids = target.centroids.values.chunks_exact(space.width).map(<[f32]>::to_vec);
        let made = lists.into_iter().zip(records).zip(centroids);
        Ok(Some(made.map(|((list, record), centroid)| Made { list, record, centroid }).collect()))
    }

    /// The centroids of the new lists, and the members that are of one piece though they were to be split.
    fn target(&self, memory: usize) -> Result<(Target, Vec<usize>)> {
        let width = self.members[0].source.space.width;
        let (mut records, mut centroids) = (Vec::new(), Points::new(width));
        let (mut homes, mut whole) = (Vec::with_capacity(self.members.len()), Vec::new());
        for (i, Member { source, centroid, record, parts }) in self.members.iter().enumerate() {
            let trained = if *parts > 1 { train(source, *parts, memory)? } else { Points::new(width) };
            if trained.len() > 1 {
                let (encoded, decoded) = through_records(&trained);
                records.extend(encoded);
                centroids.values.extend(decoded.values);
                homes.push(None);
                continue;
            }
            if *parts > 1 {
                note_tried(source)?;
                whole.push(i);
            }
            homes.push((*parts > 0).then_some(records.len()));
            if *parts > 0 {
                records.push(record.to_vec());
                centroids.values.extend_from_slice(centroid);
            }
        }
        let nearby = Lists::unwritten(self.members[0].source.space, &records, &centroids);
        let adds_seconds = self.all && self.members.len() == 1;
        let (lists, rows) = (Vec::new(), HashSet::new());
        Ok((Target { lists, records, centroids, nearby, homes, rows, adds_seconds }, whole))
    }

    /// Numbers for new lists. From now on there may be pages that belong to none.
    fn new_ids(&self, count: u32) -> Result<std::ops::Range<u32>> {
        let store = self.members[0].source.store;
        let mut change = store.change();
        let meta = Meta::alter(&mut change, |meta| {
            meta.next_list = meta.next_list.wrapping_add(count);
            meta.unclean_since = store.now();
        })?;
        let Some(first) = meta.next_list.checked_sub(count) else {
            return corrupt(META, "it has no more numbers for lists");
        };
        change.commit()?;
        Ok(first..meta.next_list)
    }

    /// Entries of each list.
    fn lengths(&self) -> Result<Vec<u32>> {
        self.members.iter().map(|member| member.source.length()).collect()
    }

    /// Adds the entries of a member that have not been seen to the new lists.
    fn carry_over(
        &self,
        member: usize,
        held: Option<&[u8]>,
        seen: &mut Seen,
        target: &mut Target,
    ) -> Result<()> {
        let here = &self.members[member].source;
        let lists = target.lists.clone();
        here.each_page(held, seen, |spots, points| {
            target.assign(here.space, member, spots, points, |to, new, place| {
                insert_into(here.store, &here.layout, here.space, lists[to], new, Code::At(place)).map(|_| ())
            })
        })
    }
}

impl Target {
    /// Finds the lists for entries of a member: the nearest for a first one. The second of a row whose first one is not here
    /// stays with its centroid if it can.
    fn assign(
        &mut self,
        space: &Space,
        member: usize,
        spots: &[Spot],
        points: &Points,
        mut put: impl FnMut(usize, &NewEntry<'_>, Place) -> Result<()>,
    ) -> Result<()> {
        let home = self.homes[member];
        self.rows.extend(spots.iter().filter(|spot| !spot.second).map(|spot| spot.row));
        for (spot, y) in spots.iter().zip(points.iter()) {
            let near = self.nearby.near(space, y, second::NEAREST);
            let (first, second) = second::lists_of(y, &near, &self.centroids);
            let (first, other) = (first as usize, second.map(|second| second as usize));
            let to = match spot.second {
                false => [Some((first, false)), other.filter(|_| self.adds_seconds).map(|to| (to, true))],
                true if self.rows.contains(&spot.row) => [other.map(|to| (to, true)), None],
                true => [Some((home.unwrap_or(first), true)), None],
            };
            for (to, second) in to.into_iter().flatten() {
                // What stays with its centroid keeps its code, which was made of the vector itself.
                let again;
                let entry = match Some(to) == home {
                    true => &spot.entry,
                    false => {
                        again = space.encode_point(y, self.centroids.get(to), spot.entry.last);
                        &again
                    }
                };
                put(to, &NewEntry { row: spot.row, keys: &spot.keys, entry, second }, spot.place)?;
            }
        }
        Ok(())
    }
}

/// Centroids for about so many parts of a list.
fn train<S: PageStore>(source: &Source<'_, S>, parts: usize, memory: usize) -> Result<Points> {
    let (length, width) = (source.length()? as usize, source.space.width);
    let sample = (parts * SAMPLES_PER_LIST).max(LEAST_SAMPLE).min(memory / (8 * width)).max(parts);
    // About half of the entries are first ones.
    let step = (length / (2 * sample)).max(1);
    let (mut sample, mut n) = (Points::new(width), 0usize);
    source.each_first(|_, points| {
        for point in points.values.chunks_exact(width) {
            if n.is_multiple_of(step) {
                sample.values.extend_from_slice(point);
            }
            n += 1;
        }
    })?;
    kmeans::train(source.space, &sample, parts, ROUNDS, u64::from(source.list.id), || source.store.check())
}

/// Notes on a list that with so many entries as it has it is of one piece.
fn note_tried<S: PageStore>(source: &Source<'_, S>) -> Result<()> {
    let mut change = source.store.change();
    let first = source.lock(&mut change)?;
    let length = list::length(change.page(first));
    list::set_tried(change.page_mut(first), length);
    change.commit()
}
