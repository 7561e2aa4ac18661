//! The lists near a query or a row, from what a session remembers of the directory: one-bit codes of all centroids tell about how
//! far they are, byte codes of the best how far. To read the directory page by page for each search took longer than either.

use std::sync::{Arc, Mutex, PoisonError};

use crate::code::{Record, record_len};
use crate::directory::{self, Encoded, List};
use crate::kernels::{self, Groups, LANES};
use crate::kmeans::Points;
use crate::list::{FACTOR_LEN, upper_half};
use crate::meta::Meta;
use crate::space::Query;
use crate::store::{NO_BLOCK, PageStore};
use crate::{Metric, Result, Space, second, select};

/// Lists that are put into order at a time, at least.
const SORTED: usize = 64;
/// So many times as many lists as are put into order, and so many more, are chosen by their one-bit codes. With 1,118 lists
/// of texts the same rows were found as with all.
const CHOSEN: f64 = 1.5;
const MORE: usize = 64;
/// Lists that seem the nearest to a row by one-bit codes, of which the nearest are found.
const LIKELY: usize = 48;
/// Where lists lie together as so many groups of sixteen or more, only those of one group of so many are looked at for a row, but
/// of so many groups at least.
const MANY: usize = 96;
const LOOKED_AT: usize = 3;
const LEAST: usize = 48;

/// The lists of an index at one time.
#[derive(Debug)]
pub(crate) struct Lists {
    /// Changes of the directory until then.
    version: u32,
    lists: Vec<List>,
    /// Their centroids, as the directory has them, one after the other.
    records: Vec<u8>,
    record: usize,
    codes: Codes,
    /// Means of the groups of sixteen lists, if these lie together.
    groups: Option<Codes>,
}

/// One-bit codes of centroids.
#[derive(Debug)]
struct Codes {
    /// Squared norms.
    squares: Vec<f32>,
    /// In groups of sixteen, with their factors.
    codes: Vec<u8>,
    adds: Vec<u8>,
    scales: Vec<u8>,
}

impl Codes {
    fn new<'a>(space: &Space, centroids: impl ExactSizeIterator<Item = &'a [f32]>) -> Self {
        let (code, zeros) = (space.bits / 8, vec![0.0; space.width]);
        let padded = centroids.len().next_multiple_of(LANES);
        let (mut codes, mut squares) = (vec![0; padded * code], Vec::with_capacity(centroids.len()));
        let (mut adds, mut scales) = (vec![0; FACTOR_LEN * padded], vec![0; FACTOR_LEN * padded]);
        for (i, centroid) in centroids.enumerate() {
            let entry = space.encode_point(centroid, &zeros, false);
            adds[FACTOR_LEN * i..][..FACTOR_LEN].copy_from_slice(&upper_half(entry.add).to_le_bytes());
            scales[FACTOR_LEN * i..][..FACTOR_LEN].copy_from_slice(&upper_half(entry.scale).to_le_bytes());
            let group = &mut codes[i / LANES * LANES * code..];
            entry.bits.iter().enumerate().for_each(|(j, byte)| group[j * LANES + i % LANES] = *byte);
            squares.push(centroid.iter().map(|x| x * x).sum());
        }
        Self { squares, codes, adds, scales }
    }

    /// A mask for each group of sixteen.
    fn masks(&self, mask: u16) -> Vec<u16> {
        vec![mask; self.squares.len().div_ceil(LANES)]
    }

    /// About how far each of them is from a query; NaN for those without a bit in the masks.
    fn estimate(&self, space: &Space, query: &Query, masks: &[u16]) -> Vec<f32> {
        let mut estimates = vec![0.0; LANES * masks.len()];
        let groups = Groups { codes: &self.codes, adds: &self.adds, scales: &self.scales };
        let origin = space.origin_base(query) as f32;
        kernels::score(groups, query.scale(origin), masks, &mut estimates);
        // What is beyond single precision is far.
        for (_, group) in masks.iter().zip(estimates.chunks_mut(LANES)).filter(|(mask, _)| **mask != 0) {
            group.iter_mut().filter(|to| to.is_nan()).for_each(|to| *to = f32::INFINITY);
        }
        estimates.truncate(self.squares.len());
        estimates
    }

    /// Places of the `n` that seem to be the nearest to a row by Euclidean distance, of those with a bit in the masks, in no
    /// order. `query` is [one of the row](Space::query_of).
    fn likely(&self, space: &Space, query: &Query, masks: &[u16], n: usize) -> Vec<u32> {
        let mut estimates = self.estimate(space, query, masks);
        if space.metric == Metric::InnerProduct {
            estimates.iter_mut().zip(&self.squares).for_each(|(to, square)| *to = square + 2.0 * *to);
        }
        select::least(&estimates, n).into_iter().map(|(_, place)| place).collect()
    }
}

/// The lists as they were when somebody looked last.
#[derive(Debug, Default)]
pub(crate) struct Remembered(Mutex<Option<Arc<Lists>>>);

impl Remembered {
    /// The lists as they are now.
    ///
    /// # Errors
    /// Those of the store.
    pub fn lists(&self, store: &impl PageStore, space: &Space) -> Result<Arc<Lists>> {
        let meta = Meta::read(store)?;
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known.filter(|known| known.version == meta.version) {
            return Ok(known);
        }
        let (version, entries) = directory::entries(store, space, meta.directory)?;
        let lists = Arc::new(Lists::written(space, version, &entries));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(lists.clone());
        Ok(lists)
    }
}

impl Lists {
    /// Lists with these centroids, as records and as they decode, for rows to be shared out among them: they have no page yet.
    pub fn unwritten(space: &Space, records: &[Vec<u8>], centroids: &Points) -> Self {
        let lists = (0..records.len() as u32).map(|id| List { id, first: NO_BLOCK }).collect();
        Self::new(space, 0, lists, records.concat(), centroids)
    }

    /// The same, where near lists [lie together](crate::bisect): if they are many, a row need not be compared with all.
    pub fn in_groups(mut self, space: &Space, centroids: &Points) -> Self {
        if centroids.len() >= MANY * LANES {
            let width = space.width;
            let mut means = Points::new(width);
            for group in centroids.values.chunks(LANES * width) {
                let share = width as f32 / group.len() as f32;
                let mean = |i| group.iter().skip(i).step_by(width).sum::<f32>() * share;
                means.values.extend((0..width).map(mean));
            }
            self.groups = Some(Codes::new(space, means.iter()));
        }
        self
    }

    /// Those of the directory at the given version.
    fn written(space: &Space, version: u32, entries: &[Encoded]) -> Self {
        let mut centroids = Points::new(space.width);
        for (_, record) in entries {
            let at = centroids.values.len();
            centroids.values.resize(at + space.width, 0.0);
            Record::new(record).add_to(&mut centroids.values[at..]);
        }
        let lists = entries.iter().map(|(list, _)| *list).collect();
        let records = entries.iter().flat_map(|(_, record)| record).copied().collect();
        Self::new(space, version, lists, records, &centroids)
    }

    fn new(space: &Space, version: u32, lists: Vec<List>, records: Vec<u8>, centroids: &Points) -> Self {
        let codes = Codes::new(space, centroids.iter());
        Self { version, lists, records, record: record_len(space.width), codes, groups: None }
    }

    fn record(&self, i: usize) -> Record<'_> {
        Record::new(&self.records[i * self.record..][..self.record])
    }

    /// How far a list is from a query.
    fn base(&self, space: &Space, query: &Query, place: usize) -> f64 {
        space.list_base(query, self.record(place), f64::from(self.codes.squares[place]))
    }

    /// Places of the `n` lists near a row with the coordinates `y`, from the nearest on, by Euclidean distance whatever that of the
    /// index is.
    pub fn near(&self, space: &Space, y: &[f32], n: usize) -> Vec<u32> {
        let mut likely: Vec<u32> = (0..self.lists.len() as u32).collect();
        if likely.len() > LIKELY {
            let query = space.query_of(y);
            let masks = match &self.groups {
                Some(groups) => {
                    let mut masks = self.codes.masks(0);
                    let n = (masks.len() / LOOKED_AT).max(LEAST);
                    let near = groups.likely(space, &query, &groups.masks(u16::MAX), n);
                    near.into_iter().for_each(|group| masks[group as usize] = u16::MAX);
                    masks
                }
                None => self.codes.masks(u16::MAX),
            };
            likely = self.codes.likely(space, &query, &masks, LIKELY);
        }
        let distance = |place: &u32| {
            let record = self.record(*place as usize);
            self.codes.squares[*place as usize] - 2.0 * record.dot(y)
        };
        let distances: Vec<f32> = likely.iter().map(distance).collect();
        let nearest = select::in_order(&distances, n);
        nearest.into_iter().map(|at| likely[at as usize]).collect()
    }

    /// The list of a row with the coordinates `y`, and those that its second is chosen from, with their centroids.
    pub fn near_with_centroids(&self, space: &Space, y: &[f32]) -> Near {
        let with_centroid = |place: u32| {
            let mut centroid = vec![0.0; y.len()];
            self.record(place as usize).add_to(&mut centroid);
            (self.lists[place as usize], centroid)
        };
        let lists = self.near(space, y, second::NEAREST).into_iter().map(with_centroid).collect();
        Near { lists, all: self.lists.len() }
    }
}

/// Lists near a row, with their centroids, from the nearest on.
pub(crate) struct Near {
    pub lists: Vec<(List, Vec<f32>)>,
    /// Number of all lists.
    pub all: usize,
}

/// Lists in the order of their distance from a query. They are sorted as far as somebody asks: a search visits few.
pub(crate) struct ByDistance {
    lists: Arc<Lists>,
    /// Estimated distances of all lists; NaN for those that are in `exact`.
    estimates: Vec<f32>,
    /// Lists and their distances, as [`Space::list_base`] has them.
    exact: Vec<(List, f64)>,
    /// How many of `exact` are in order.
    sorted: usize,
}

impl ByDistance {
    /// Those of `lists`.
    pub fn new(lists: Arc<Lists>, space: &Space, query: &Query) -> Self {
        let estimates = lists.codes.estimate(space, query, &lists.codes.masks(u16::MAX));
        Self { estimates, lists, exact: Vec::new(), sorted: 0 }
    }

    /// Number of the lists.
    pub fn len(&self) -> usize {
        self.estimates.len()
    }

    /// The list that `before` others are nearer than.
    pub fn get(&mut self, space: &Space, query: &Query, before: usize) -> Option<(List, f64)> {
        if before >= self.sorted && before < self.len() {
            let more = self.len().min(SORTED.max(2 * self.sorted).max(before + 1));
            self.measure(space, query, ((more as f64 * CHOSEN) as usize + MORE).min(self.len()));
            let order = |a: &(_, f64), b: &(_, f64)| a.1.total_cmp(&b.1);
            let rest = &mut self.exact[self.sorted..];
            if more - self.sorted < rest.len() {
                rest.select_nth_unstable_by(more - self.sorted, order);
            }
            rest[..more - self.sorted].sort_unstable_by(order);
            self.sorted = more;
        }
        self.exact.get(before).copied()
    }

    /// Measures the distances of those `count` lists that seem to be the nearest.
    fn measure(&mut self, space: &Space, query: &Query, count: usize) {
        let more = select::least(&self.estimates, count.saturating_sub(self.exact.len()));
        for (_, place) in more {
            let at = place as usize;
            self.estimates[at] = f32::NAN;
            let base = self.lists.base(space, query, at);
            self.exact.push((self.lists.lists[at], base));
        }
    }

    /// A list that [`Self::get`] has returned.
    pub fn seen(&self, before: usize) -> (List, f64) {
        self.exact[before]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::{Norm, encode};
    use crate::rotation::splitmix;

    #[test]
    fn all_lists_come_once_and_the_nearest_first() {
        const LISTS: usize = 900;
        let mut state = 3;
        let mut number = || (splitmix(&mut state) >> 40) as f32 / (1 << 23) as f32 - 1.0;
        let mut vectors =
            |n: usize| -> Vec<Vec<f32>> { (0..n).map(|_| (0..128).map(|_| number()).collect()).collect() };
        let (centroids, queries) = (vectors(LISTS), vectors(20));
        for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine, Metric::L1] {
            let space = Space::new(metric, 128, 1).expect("dimensions");
            let encoded = centroids.iter().enumerate().map(|(i, centroid)| {
                let list = List { id: i as u32, first: i as u32 };
                (list, encode(centroid, 0.0, Norm::Euclidean))
            });
            let entries: Vec<Encoded> = encoded.collect();
            let lists = Arc::new(Lists::written(&space, 0, &entries));
            let mut found = 0;
            for query in queries.iter().map(|query| space.query(query).expect("dimensions")) {
                let mut by_distance = ByDistance::new(lists.clone(), &space, &query);
                let bases: Vec<(u32, f64)> = (0..)
                    .map_while(|i| by_distance.get(&space, &query, i))
                    .map(|(list, base)| (list.id, base))
                    .collect();
                let mut ids: Vec<u32> = bases.iter().map(|(id, _)| *id).collect();
                ids.sort_unstable();
                assert!(ids.into_iter().eq(0..LISTS as u32), "{metric:?}");
                assert!(by_distance.get(&space, &query, LISTS).is_none());
                let mut exact: Vec<f64> = (0..LISTS).map(|i| lists.base(&space, &query, i)).collect();
                exact.sort_unstable_by(f64::total_cmp);
                found += bases[..SORTED].iter().filter(|(_, base)| *base <= exact[SORTED - 1]).count();
            }
            // Random centroids are all about as far away, which is the worst case.
            let share = found as f64 / (queries.len() * SORTED) as f64;
            assert!(share > 0.85, "{metric:?}: {share}");
        }
    }
}
