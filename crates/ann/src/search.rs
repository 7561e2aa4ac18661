//! Searching: score the nearest lists, refine the best entries, go on for as long as rows are asked for.

use std::collections::HashSet;

use crate::directory::{self, List};
use crate::kernels::LANES;
use crate::list::{Layout, NO_ROW};
use crate::meta::Meta;
use crate::page::{self, Chain};
use crate::space::{ListBase, Query};
use crate::store::{Block, NO_BLOCK, PageStore};
use crate::{Result, RowId, Space};

/// How hard a search tries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// Share of the true neighbours that it shall find.
    pub recall: f64,
    /// Lists that it visits first, if not what the index knows to suffice for the recall.
    pub probes: Option<usize>,
}

/// Rows returned before the search is widened for the first time, and entries refined for them.
const FIRST: usize = 16;
/// Factor by which the rows and the entries refined grow each time.
const GROWTH: usize = 4;
/// Factor by which the lists visited grow.
const WIDEN: usize = 2;
/// Most entries refined at a time: they are kept in memory.
const MOST_REFINED: usize = 1 << 18;

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
    /// Lists visited, each time they were.
    pub visited: usize,
    /// Entries whose one-bit codes were scored.
    pub scored: usize,
    /// Entries whose byte codes were read.
    pub refined: usize,
    /// Times that the search was widened.
    pub widened: usize,
}

#[derive(Clone, Copy)]
struct Candidate {
    estimate: f32,
    /// Place of its list in the order of visits.
    list: u32,
    row: RowId,
    block: Block,
    place: u16,
    last: bool,
}

/// A search under way.
pub struct Search {
    query: Query,
    layout: Layout,
    /// The nearest first.
    lists: Vec<(List, ListBase)>,
    probes: usize,
    refine: usize,
    quota: usize,
    /// Rows returned so far.
    returned: HashSet<RowId>,
    /// Rows to return next, the last one first.
    ready: Vec<Found>,
    finished: bool,
    work: Work,
}

impl Search {
    /// Begins a search for the neighbours of a query.
    ///
    /// # Errors
    /// [`crate::Error::Dimensions`], and those of the store.
    pub fn new(
        store: &impl PageStore,
        meta: &Meta,
        space: &Space,
        x: &[f32],
        effort: Effort,
    ) -> Result<Self> {
        let query = space.query(x)?;
        let mut lists = directory::distances(store, space, meta.directory, &query)?;
        lists.sort_unstable_by(|a, b| a.1.base.total_cmp(&b.1.base));
        let probes = effort.probes.unwrap_or_else(|| meta.probes_for(effort.recall, lists.len()));
        let refine = match effort.recall {
            r if r > 0.98 => 16,
            r if r > 0.93 => 6,
            _ => 4,
        };
        // The error of a one-bit estimate falls with the root of the bits.
        let refine = ((FIRST * refine) as f64 * (384.0 / space.bits as f64).sqrt().max(1.0)) as usize;
        let work = Work { lists: lists.len(), ..Work::default() };
        Ok(Self {
            query,
            layout: Layout::new(space),
            lists,
            probes,
            refine,
            quota: FIRST,
            returned: HashSet::new(),
            ready: Vec::new(),
            finished: false,
            work,
        })
    }

    /// What it has done so far.
    pub fn work(&self) -> Work {
        self.work
    }

    /// The next row; `None` when all rows have been returned.
    ///
    /// Rows come in the order of their bounds within what has been visited; a row of a list that is visited later
    /// comes later than its distance says.
    ///
    /// # Errors
    /// Those of the store.
    pub fn next(&mut self, store: &impl PageStore, space: &Space) -> Result<Option<Found>> {
        while self.ready.is_empty() && !self.finished {
            self.run(store, space)?;
        }
        Ok(self.ready.pop())
    }

    /// Fills `ready`, and makes the next run wider.
    fn run(&mut self, store: &impl PageStore, space: &Space) -> Result<()> {
        let probes = self.probes.min(self.lists.len());
        let (mut candidates, cut) = self.score(store, probes)?;
        candidates.sort_unstable_by_key(|candidate| (candidate.block, candidate.place));
        let mut found = Vec::with_capacity(candidates.len());
        for candidate in &candidates {
            found.push(self.refine(store, space, candidate)?);
        }
        self.work.refined += candidates.len();
        // The last one first; NaN is above all numbers for PostgreSQL, too.
        found.sort_unstable_by(|a, b| b.bound.total_cmp(&a.bound));
        let all = probes == self.lists.len() && !cut;
        if all {
            self.finished = true;
            self.ready = found;
            return Ok(());
        }
        // What is far down the list may have nearer rows before it that were not refined.
        let keep = self.quota.saturating_sub(self.returned.len()).min(found.len());
        self.ready = found.split_off(found.len() - keep);
        self.returned.extend(self.ready.iter().map(|found| found.row));
        self.work.widened += 1;
        self.quota *= GROWTH;
        self.refine = (self.refine * GROWTH).min(MOST_REFINED);
        if self.refine == MOST_REFINED {
            self.quota = self.returned.len() + MOST_REFINED / GROWTH;
        }
        self.probes = self.probes.saturating_mul(WIDEN);
        Ok(())
    }

    /// The entries with the least estimates in the nearest lists, without those returned; and whether there are more.
    fn score(&mut self, store: &impl PageStore, probes: usize) -> Result<(Vec<Candidate>, bool)> {
        let (layout, refine) = (self.layout, self.refine);
        let mut candidates: Vec<Candidate> = Vec::with_capacity(2 * refine.min(4096));
        let mut threshold = f32::INFINITY;
        let mut cut = false;
        for (order, (list, base)) in self.lists[..probes].iter().enumerate() {
            self.work.visited += 1;
            let (mut block, mut chain) = (list.first, Chain::default());
            while block != NO_BLOCK {
                chain.step(block)?;
                store.check()?;
                block = store.read(block, |page| {
                    layout.expect(page, block, list.id)?;
                    let count = page::count(page);
                    self.work.scored += count;
                    for group in 0..count.div_ceil(LANES) {
                        let scores = layout.score(page, group, &self.query, base.base as f32);
                        let entries = (count - group * LANES).min(LANES);
                        for (i, estimate) in scores.estimates[..entries].iter().enumerate() {
                            // Holes have NaN.
                            if *estimate <= threshold {
                                let entry = group * LANES + i;
                                let row = layout.row(page, entry);
                                if row != NO_ROW && !self.returned.contains(&row) {
                                    let (block, place) = layout.location(page, entry);
                                    let last = layout.add(page, entry) == f32::MAX;
                                    let (list, place) = (order as u32, place as u16);
                                    let estimate = *estimate;
                                    candidates.push(Candidate { estimate, list, row, block, place, last });
                                }
                            }
                        }
                        if candidates.len() >= 2 * refine {
                            threshold = keep_least(&mut candidates, refine);
                            cut = true;
                        }
                    }
                    Ok(page::next(page))
                })?;
            }
        }
        if candidates.len() > refine {
            keep_least(&mut candidates, refine);
            cut = true;
        }
        Ok((candidates, cut))
    }

    fn refine(&self, store: &impl PageStore, space: &Space, candidate: &Candidate) -> Result<Found> {
        let (list, base) = self.lists[candidate.list as usize];
        let bound = store.read(candidate.block, |page| {
            self.layout.expect_codes(page, candidate.block, list.id)?;
            let record = self.layout.record(page, usize::from(candidate.place));
            Ok(space.lower_bound(&self.query, base, candidate.last, record))
        })?;
        Ok(Found { row: candidate.row, bound })
    }
}

/// Keeps the `n` candidates with the least estimates, and returns the largest estimate among them.
fn keep_least(candidates: &mut Vec<Candidate>, n: usize) -> f32 {
    candidates.select_nth_unstable_by(n - 1, |a, b| a.estimate.total_cmp(&b.estimate));
    candidates.truncate(n);
    candidates[n - 1].estimate
}
