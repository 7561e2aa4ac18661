//! Data and helpers of the tests.

use pg_answer_ann::build::{Builder, Plan, Trainer};
use pg_answer_ann::filter::Filter;
use pg_answer_ann::insert::{NewRow, insert};
use pg_answer_ann::memory::MemoryStore;
use pg_answer_ann::meta::Meta;
use pg_answer_ann::search::{Effort, Found, Search};
use pg_answer_ann::{Key, Metric, Result, Space};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Repeatable numbers.
pub struct Numbers(ChaCha8Rng);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// From −1 to 1.
    pub fn uniform(&mut self) -> f32 {
        self.0.next_u32() as f32 / (1u32 << 31) as f32 - 1.0
    }

    /// About normal, with deviation 1.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() / 2.0
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0.next_u64() as usize % n
    }
}

/// Vectors around `centres` centres, each of which lies anywhere.
pub fn clustered(n: usize, dims: usize, centres: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut numbers = Numbers::new(seed);
    let centres: Vec<Vec<f32>> =
        (0..centres).map(|_| (0..dims).map(|_| numbers.normal()).collect()).collect();
    (0..n)
        .map(|_| {
            let centre = &centres[numbers.below(centres.len())];
            centre.iter().map(|c| c + 0.7 * numbers.normal()).collect()
        })
        .collect()
}

/// The distance as an operator gives it.
pub fn distance(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let dot: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    let square = |x: &[f32]| -> f64 { x.iter().map(|x| f64::from(*x).powi(2)).sum() };
    match metric {
        Metric::L2 => {
            a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt()
        }
        Metric::L1 => a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs()).sum(),
        Metric::InnerProduct => -dot,
        Metric::Cosine => 1.0 - dot / (square(a) * square(b)).sqrt(),
    }
}

/// An index in memory.
pub struct Index {
    pub store: MemoryStore,
    pub meta: Meta,
    pub space: Space,
}

impl Index {
    /// Builds an index of `lists` lists; the ids of the rows count from 0.
    pub fn build(metric: Metric, rows: &[Vec<f32>], dims: usize, lists: usize) -> Self {
        Self::build_with_keys(metric, rows, dims, lists, 0, |_| Vec::new())
    }

    /// The same with the keys that `keys_of` gives a row.
    pub fn build_with_keys(
        metric: Metric,
        rows: &[Vec<f32>],
        dims: usize,
        lists: usize,
        key_columns: usize,
        keys_of: impl Fn(u64) -> Vec<Key>,
    ) -> Self {
        let store = MemoryStore::default();
        let mut trainer = Trainer::new(metric, dims, 1).unwrap();
        rows.iter().take(lists * 100).for_each(|row| trainer.push(row).unwrap());
        let plan = Plan { lists, sample: rows.len() };
        let trained = trainer.train(plan, || Ok(())).unwrap();
        let mut builder = Builder::new(&store, trained, 1, key_columns).unwrap();
        for (id, row) in rows.iter().enumerate() {
            builder.add(id as u64, row, &keys_of(id as u64)).unwrap();
        }
        assert_eq!(builder.finish().unwrap(), rows.len() as u64);
        let meta = Meta::read(&store).unwrap();
        let space = meta.space(&store).unwrap();
        Self { store, meta, space }
    }

    /// Adds a row without keys.
    pub fn insert(&self, id: u64, vector: &[f32]) -> Result<()> {
        self.insert_with_keys(id, vector, &[])
    }

    /// Adds a row.
    pub fn insert_with_keys(&self, id: u64, vector: &[f32], keys: &[Key]) -> Result<()> {
        insert(&self.store, &self.meta, &self.space, NewRow { id, vector, keys }).map(|_| ())
    }

    /// A search that visits so many lists first.
    pub fn search(&self, query: &[f32], probes: Option<usize>) -> Search {
        self.filtered(query, probes, Filter::default())
    }

    /// The same among the rows that pass a filter.
    pub fn filtered(&self, query: &[f32], probes: Option<usize>, filter: Filter) -> Search {
        let effort = Effort { recall: 0.95, probes };
        Search::new(&self.store, &self.meta, &self.space, query, effort, filter).unwrap()
    }

    /// The first `k` rows, or all.
    pub fn found(&self, query: &[f32], probes: Option<usize>, k: usize) -> Vec<Found> {
        let mut search = self.search(query, probes);
        std::iter::from_fn(|| search.next(&self.store, &self.space).unwrap()).take(k).collect()
    }
}

/// The `k` nearest rows as PostgreSQL's executor takes them from a search: it keeps rows until no later one can be
/// nearer, and fails if a distance is below its bound.
pub fn nearest(index: &Index, rows: &[Vec<f32>], query: &[f32], probes: Option<usize>, k: usize) -> Vec<u64> {
    take_nearest(index, &mut index.search(query, probes), rows, query, k)
}

/// The same from a search that has begun.
pub fn take_nearest(
    index: &Index,
    search: &mut Search,
    rows: &[Vec<f32>],
    query: &[f32],
    k: usize,
) -> Vec<u64> {
    let mut left = k;
    take_nearest_while(index, search, rows, query, |_| {
        left -= 1;
        left > 0
    })
}

/// The nearest rows for as long as `goes_on`, which sees them in their order, says so.
pub fn take_nearest_while(
    index: &Index,
    search: &mut Search,
    rows: &[Vec<f32>],
    query: &[f32],
    mut goes_on: impl FnMut(u64) -> bool,
) -> Vec<u64> {
    let mut queue: Vec<(f64, u64)> = Vec::new();
    let mut result = Vec::new();
    loop {
        let next = search.next(&index.store, &index.space).unwrap();
        if let Some(found) = next {
            let exact = distance(index.meta.metric, query, &rows[found.row as usize]);
            assert!(found.bound <= exact, "bound {} above {exact}", found.bound);
            queue.push((exact, found.row));
            queue.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        let bound = next.map_or(f64::INFINITY, |found| found.bound);
        while queue.first().is_some_and(|(exact, _)| *exact <= bound) {
            let (_, row) = queue.remove(0);
            result.push(row);
            if !goes_on(row) {
                return result;
            }
        }
        if next.is_none() {
            return result;
        }
    }
}

/// Share of the true `k` nearest among those found, ties counted.
pub fn recall(
    index: &Index,
    rows: &[Vec<f32>],
    queries: &[Vec<f32>],
    probes: Option<usize>,
    k: usize,
) -> f64 {
    let metric = index.meta.metric;
    let mut hits = 0;
    for query in queries {
        let mut exact: Vec<f64> = rows.iter().map(|row| distance(metric, query, row)).collect();
        exact.sort_by(f64::total_cmp);
        let worst = exact[k - 1] + 1e-9;
        let found = nearest(index, rows, query, probes, k);
        hits += found.iter().filter(|row| distance(metric, query, &rows[**row as usize]) <= worst).count();
    }
    hits as f64 / (queries.len() * k) as f64
}
