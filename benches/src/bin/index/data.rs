//! Vectors to index and to look for, and the exact answers.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use pg_answer_vector::distance::inner_product;

/// Rows of one share of the table: `category` runs from 0 to 999.
pub const CATEGORIES: usize = 1000;

/// Vectors of one length, one after the other, each of length 1.
#[derive(Debug, Clone)]
pub struct Vectors {
    pub dims: usize,
    values: Vec<f32>,
}

impl Vectors {
    /// Reads little-endian f32 values.
    pub fn read(path: &Path, dims: usize, limit: usize) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            bytes.len().is_multiple_of(4 * dims),
            "{} does not hold vectors of {dims} values",
            path.display()
        );
        let values = bytes.as_chunks().0.iter().take(limit * dims).map(|b| f32::from_le_bytes(*b)).collect();
        Ok(Self { dims, values }.normalized())
    }

    /// Draws `n` vectors around the same random centres for every `seed`, in a subspace of 32 dimensions: embeddings
    /// of texts are clustered and have far fewer degrees of freedom than elements.
    pub fn generate(n: usize, dims: usize, seed: u64) -> Self {
        const INNER: usize = 32;
        const CENTRES: usize = 2000;
        let mut fixed = Random(7);
        let basis: Vec<f32> = (0..INNER * dims).map(|_| fixed.normal()).collect();
        let centres: Vec<f32> = (0..CENTRES * INNER).map(|_| fixed.normal()).collect();
        let mut random = Random(seed);
        let mut values = Vec::with_capacity(n * dims);
        for _ in 0..n {
            let centre = &centres[random.below(CENTRES) * INNER..][..INNER];
            let point: Vec<f32> = centre.iter().map(|c| c + 0.5 * random.normal()).collect();
            for d in 0..dims {
                let projected: f32 = point.iter().enumerate().map(|(i, p)| p * basis[i * dims + d]).sum();
                values.push(projected + 0.3 * random.normal());
            }
        }
        Self { dims, values }.normalized()
    }

    fn normalized(mut self) -> Self {
        for vector in self.values.chunks_exact_mut(self.dims) {
            let norm = inner_product(vector, vector).sqrt();
            vector.iter_mut().for_each(|x| *x /= norm.max(f32::MIN_POSITIVE));
        }
        self
    }

    /// The `n` vectors from `first` on.
    pub fn part(&self, first: usize, n: usize) -> Self {
        Self { dims: self.dims, values: self.values[first * self.dims..][..n * self.dims].to_vec() }
    }

    pub fn len(&self) -> usize {
        self.values.len() / self.dims
    }

    pub fn get(&self, i: usize) -> &[f32] {
        &self.values[i * self.dims..][..self.dims]
    }

    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.dims)
    }
}

/// For each query the similarity of its k-th best row among those of the first `categories` categories. Rows that are
/// as near as it are right answers too: real data have duplicates.
pub fn thresholds(rows: &Vectors, queries: &Vectors, k: usize, categories: usize) -> Vec<f32> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let queries: Vec<&[f32]> = queries.iter().collect();
    let of_query = |query: &&[f32]| {
        let rows = rows.iter().enumerate().filter(|(id, _)| id % CATEGORIES < categories);
        let mut all: Vec<f32> = rows.map(|(_, row)| inner_product(query, row)).collect();
        let k = k.min(all.len());
        *all.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1
    };
    std::thread::scope(|scope| {
        let parts = queries.chunks(queries.len().div_ceil(threads).max(1));
        let parts: Vec<_> =
            parts.map(|part| scope.spawn(move || part.iter().map(of_query).collect::<Vec<_>>())).collect();
        parts.into_iter().flat_map(|part| part.join().expect("no panic in arithmetic")).collect()
    })
}

/// SplitMix64 (Steele et al. 2014): the same data on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// About normal: a sum of twelve uniform values.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| (self.next() >> 40) as f32 / (1u64 << 24) as f32).sum::<f32>() - 6.0
    }
}
