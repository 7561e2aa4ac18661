//! Searching: score the nearest lists, refine the best entries, go on for as long as rows are asked for.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use crate::error::corrupt;
use crate::filter::Filter;
use crate::kernels::LANES;
use crate::list::{Layout, NO_ROW};
use crate::meta::{META, Meta, Reach};
use crate::nearby::ByDistance;
use crate::page::{self, Chain};
use crate::records::{self, Place};
use crate::space::Query;
use crate::store::{Block, NO_BLOCK, PageStore};
use crate::{Metric, Result, RowId, Space, select};

/// How hard a search tries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// Share of the true neighbours that it shall find.
    pub recall: f64,
    /// Lists that it visits first, if not what the index knows to suffice for the recall.
    pub probes: Option<usize>,
}

/// Rows returned before the search is widened for the first time.
const FIRST: usize = 16;
/// Under taxicab distance so many times as many entries are refined: one-bit codes rank them by another distance.
const TAXICAB: f64 = 2.0;
/// Factor by which the rows grow each time, and the entries refined for them.
const GROWTH: usize = 2;
/// The entries to refine for n rows grow with this power of n, but there are at least so many for each row: with fewer, too many of
/// a thousandth of the rows were missed.
const DEPTH: f64 = 0.77;
const LEAST: f64 = 2.0;
/// Records between the one that is read and the one that is fetched for later.
const AHEAD: usize = 4;
/// Rows n times as far down are in so many times as many lists: the exponential of these times ln n and (ln n)², which were
/// fitted to recall with a tenth and a hundredth of the rows. The same for rows of which one in n passes a filter, fitted to a
/// thousandth, too: the best of them are refined, whereas of rows further down some are not.
const SPREAD: (f64, f64) = (0.25, 0.056);
const SPREAD_OF_FILTERED: (f64, f64) = (0.2, 0.061);
/// The exponent grows by so many times what the recall falls short of 0.95, down to 0.85: a search that visits few lists knows
/// only the nearest.
const SPREAD_BELOW: f64 = 4.0;

/// A row, and a number that is not above its distance. NaN stands for a distance that is NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// The row.
    pub row: RowId,
    /// Lower bound of the distance, as the operator gives it.
    pub bound: f64,
}

/// What a search has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Lists that there are.
    pub lists: usize,
    /// Lists visited.
    pub visited: usize,
    /// Entries that they held, and of these the ones that pass the filter.
    pub seen: usize,
    /// Entries whose one-bit codes were scored.
    pub scored: usize,
    /// Entries whose byte codes were read.
    pub refined: usize,
    /// Times that the search was widened.
    pub widened: usize,
}

/// A list page that was scored.
#[derive(Clone, Copy)]
struct Scored {
    block: Block,
    /// Place of its list in the order of visits.
    list: u32,
    /// Its first score.
    first: usize,
}

/// Where an entry is to be refined.
struct Spot {
    row: RowId,
    place: Place,
    last: bool,
}

/// Row ids are no strangers' choice.
#[derive(Default)]
struct RowHasher(u64);

impl Hasher for RowHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, row: u64) {
        self.0 = (self.0 ^ row).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A search under way.
pub struct Search {
    query: Query,
    layout: Layout,
    filter: Filter,
    lists: ByDistance,
    /// Lists to visit for the first rows.
    reach: Reach,
    /// Whether the caller has said how many.
    counts_lists: bool,
    /// Entries to refine for each of the first rows.
    refine: f64,
    /// What the exponent of [`SPREAD`] is multiplied with.
    spread: f64,
    /// Rows to return before the search is widened.
    quota: usize,
    returned: usize,
    pages: Vec<Scored>,
    /// Estimated distances of the entries of `pages`, in groups of sixteen; NaN for what is not to be refined any more.
    scores: Vec<f32>,
    /// Scores that are not NaN.
    left: usize,
    /// Rows that were refined while some lists had not been visited.
    seen: HashSet<RowId, BuildHasherDefault<RowHasher>>,
    /// Refined rows to return, the nearest last.
    ready: Vec<Found>,
    masks: Vec<u16>,
    work: Work,
}

impl Search {
    /// Begins a search for the neighbours of a query among the rows that pass a filter.
    ///
    /// # Errors
    /// [`crate::Error::Dimensions`], [`crate::Error::Corrupt`] if the index has not the key columns that the filter
    /// names, and those of the store.
    pub fn new(
        store: &impl PageStore,
        meta: &Meta,
        space: &Space,
        x: &[f32],
        effort: Effort,
        filter: Filter,
    ) -> Result<Self> {
        let layout = meta.layout(space);
        if filter.conditions.iter().any(|(column, _)| *column >= layout.key_columns) {
            return corrupt(META, format!("it has {} key columns", layout.key_columns));
        }
        let query = space.query(x)?;
        let lists = ByDistance::new(space.remembered.lists(store, space)?, space, &query);
        let reach = match effort.probes {
            Some(probes) => Reach::lists(probes),
            None => meta.reach_for(effort.recall, lists.len()),
        };
        let refine = match effort.recall {
            r if r > 0.98 => 16.0,
            r if r > 0.93 => 6.0,
            _ => 4.0,
        };
        // The error of a one-bit estimate falls with the root of the bits.
        let refine = if meta.metric == Metric::L1 { TAXICAB * refine } else { refine };
        let refine = refine * (384.0 / space.bits as f64).sqrt().max(1.0);
        let refine = refine.max(meta.depth_for(effort.recall) / FIRST as f64);
        let work = Work { lists: lists.len(), ..Work::default() };
        Ok(Self {
            query,
            masks: vec![0; layout.capacity.div_ceil(LANES)],
            layout,
            filter,
            lists,
            reach,
            counts_lists: effort.probes.is_some(),
            refine,
            spread: 1.0 + SPREAD_BELOW * (0.95 - effort.recall).clamp(0.0, 0.1),
            quota: 0,
            returned: 0,
            pages: Vec::new(),
            scores: Vec::new(),
            left: 0,
            seen: HashSet::default(),
            ready: Vec::new(),
            work,
        })
    }

    /// What it has done so far.
    pub fn work(&self) -> Work {
        self.work
    }

    /// The next row; `None` when all rows have been returned.
    ///
    /// Rows come in the order of their bounds within what has been refined; a row that is found when the search
    /// widens comes later than its distance says.
    ///
    /// # Errors
    /// Those of the store.
    pub fn next(&mut self, store: &impl PageStore, space: &Space) -> Result<Option<Found>> {
        loop {
            let all = self.work.visited == self.lists.len() && self.left == 0;
            if (self.returned < self.quota || all)
                && let Some(found) = self.ready.pop()
            {
                self.returned += 1;
                return Ok(Some(found));
            }
            if all {
                return Ok(None);
            }
            self.widen(store, space)?;
        }
    }

    /// Visits more lists and refines more entries, for more rows.
    fn widen(&mut self, store: &impl PageStore, space: &Space) -> Result<()> {
        self.work.widened += usize::from(self.quota > 0);
        self.quota = (self.quota.saturating_mul(GROWTH)).max(FIRST);
        // The deeper in the result, the less it matters that a single row be missed.
        let wanted = self.refine * FIRST as f64 * self.depth().powf(DEPTH);
        let wanted = wanted.max(LEAST * self.quota as f64) as usize;
        // Where few rows of a dense place pass a filter, the lists that belong to it hold too few.
        let enough = if self.counts_lists { 0 } else { wanted };
        while self.work.visited < self.lists.len()
            && (self.wants_list(space) || self.left == 0 || self.work.scored < enough)
        {
            self.visit(store, space)?;
        }
        let picked = self.pick(wanted.saturating_sub(self.work.refined).max(1));
        self.refine(store, space, &picked)?;
        // NaN is above all numbers for PostgreSQL, too.
        self.ready.sort_unstable_by(|a, b| b.bound.total_cmp(&a.bound));
        Ok(())
    }

    /// How many times the first rows the present quota is.
    fn depth(&self) -> f64 {
        self.quota as f64 / FIRST as f64
    }

    /// Whether the next list is to be visited for the present quota. Of rows that pass a filter the nearest are as far away
    /// as so many more of all rows. Who asks for many rows does so as a rule because most of them fail a condition that is
    /// not ours: the share that passes is then about that of the rows wanted at first among those of the quota.
    fn wants_list(&mut self, space: &Space) -> bool {
        let passing = (self.work.scored + 1) as f64 / (self.work.seen + 1) as f64;
        let ((linear, square), share) = match self.filter.is_empty() {
            true => (SPREAD, 1.0),
            false => (SPREAD_OF_FILTERED, passing),
        };
        let rarity = (self.depth() / share).ln();
        let times = (self.spread * rarity * (linear + square * rarity)).exp();
        let next = self.work.visited;
        let mut base = |at| self.lists.get(space, &self.query, at).map_or(0.0, |(_, base)| base);
        let farther = base(next) - base(0);
        self.reach.contains(next, farther, times)
    }

    /// Scores the entries of the next list.
    fn visit(&mut self, store: &impl PageStore, space: &Space) -> Result<()> {
        let order = self.work.visited;
        let Some((list, base)) = self.lists.get(space, &self.query, order) else { return Ok(()) };
        let following = self.lists.get(space, &self.query, order + 1);
        let following = following.map_or(NO_BLOCK, |(list, _)| list.first);
        self.work.visited += 1;
        let condition = self.filter.conditions.first();
        let beginnings = self.layout.beginnings(condition.map(|(column, _)| *column));
        let (mut block, mut chain) = (list.first, Chain::default());
        while block != NO_BLOCK {
            chain.step(block)?;
            store.check()?;
            let first = self.scores.len();
            block = store.read(block, |page| {
                self.layout.expect(page, block, list.id)?;
                let soon = match page::next(page) {
                    NO_BLOCK => following,
                    next => next,
                };
                store.prefetch(soon, &beginnings);
                let before = self.left;
                self.score(page, base as f32);
                if self.left > before {
                    self.pages.push(Scored { block, list: order as u32, first });
                } else {
                    self.scores.truncate(first);
                }
                Ok(page::next(page))
            })?;
        }
        Ok(())
    }

    /// Appends the scores of a list page.
    fn score(&mut self, page: &[u8], base: f32) {
        let count = page::count(page);
        let groups = count.div_ceil(LANES);
        let masks = &mut self.masks[..groups];
        self.filter.masks(&self.layout, page, masks);
        self.work.seen += count;
        if let (Some(last), 1..) = (masks.last_mut(), count % LANES) {
            *last &= (1 << (count % LANES)) - 1;
        }
        let first = self.scores.len();
        self.scores.resize(first + groups * LANES, f32::NAN);
        let scores = &mut self.scores[first..];
        let mut valid = self.layout.score(page, &self.query, base, masks, scores);
        if valid < masks.iter().map(|mask| mask.count_ones() as usize).sum() {
            // Holes, or distances beyond single precision.
            for (i, score) in scores.iter_mut().enumerate() {
                let passes = masks[i / LANES] >> (i % LANES) & 1 == 1;
                if passes && score.is_nan() && !self.layout.add(page, i).is_nan() {
                    *score = f32::MAX;
                    valid += 1;
                }
            }
        }
        self.work.scored += valid;
        self.left += valid;
    }

    /// Takes about the `n` entries with the least scores; their places in `scores`, ascending.
    fn pick(&mut self, n: usize) -> Vec<u32> {
        let least = select::least(&self.scores, n);
        let mut places: Vec<u32> = least.into_iter().map(|(_, place)| place).collect();
        places.sort_unstable();
        for place in &places {
            self.scores[*place as usize] = f32::NAN;
        }
        self.left -= places.len();
        places
    }

    /// Where the records of the rows at some places in `scores` are, except those of rows that have been refined.
    fn locate(&mut self, store: &impl PageStore, places: &[u32]) -> Result<Vec<Spot>> {
        // Then each row's first entry is among the scores.
        let all = self.work.visited == self.lists.len();
        let (mut rest, mut spots) = (places, Vec::with_capacity(places.len()));
        while let Some(first) = rest.first() {
            let at = self.pages.partition_point(|page| page.first <= *first as usize) - 1;
            let scored = self.pages[at];
            let end = self.pages.get(at + 1).map_or(usize::MAX, |next| next.first);
            let here;
            (here, rest) = rest.split_at(rest.partition_point(|place| (*place as usize) < end));
            if let Some(soon) = rest.get(AHEAD) {
                let at = self.pages.partition_point(|page| page.first <= *soon as usize) - 1;
                store.prefetch(
                    self.pages[at].block,
                    &self.layout.spot_lines(*soon as usize - self.pages[at].first),
                );
            }
            store.read(scored.block, |page| {
                self.layout.expect(page, scored.block, self.lists.seen(scored.list as usize).0.id)?;
                for entry in here.iter().map(|place| *place as usize - scored.first) {
                    let row = self.layout.row(page, entry);
                    let is_new = match all {
                        true => !self.layout.is_second(page, entry) && !self.seen.contains(&row),
                        false => self.seen.insert(row),
                    };
                    // It may have been removed since.
                    if is_new && row != NO_ROW {
                        let last = self.layout.is_last(page, entry);
                        spots.push(Spot { row, place: self.layout.place(page, entry), last });
                    }
                }
                Ok(())
            })?;
        }
        Ok(spots)
    }

    /// Adds the rows at some places in `scores` to those that are ready.
    fn refine(&mut self, store: &impl PageStore, space: &Space, places: &[u32]) -> Result<()> {
        let spots = self.locate(store, places)?;
        let (mut lines, mut done) = (Vec::new(), 0);
        self.work.refined += spots.len();
        for here in spots.chunk_by(|a, b| a.place.block == b.place.block) {
            store.check()?;
            done += here.len();
            for soon in spots.iter().skip(done + AHEAD).take(here.len()) {
                records::lines(space, soon.place.slot, &mut lines);
                store.prefetch(soon.place.block, &lines);
            }
            let block = here[0].place.block;
            store.read(block, |page| {
                records::expect(&self.layout, page, block)?;
                self.ready.extend(here.iter().map(|spot| {
                    let record = records::record(space, page, spot.place.slot);
                    let bound = space.lower_bound(&self.query, spot.last, record);
                    Found { row: spot.row, bound }
                }));
                Ok(())
            })?;
        }
        Ok(())
    }
}
