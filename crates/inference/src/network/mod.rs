//! The layers that every family of models is made of ([`families`](crate::families)), in f32.
//!
//! `files → [Tensors] (mapped, named) → [Weight], [Linear], [Norm] → [attention], [rope] → rows`
//!
//! Weights stay in the mapped file at the width of its codes, and all sessions of a server share them; a product
//! widens a few rows of them at a time. Sums are taken in one order whatever the number of threads. Between two
//! products of a layer the caller's check is asked.

pub mod attention;
pub mod cache;
pub mod gated;
pub mod linear;
pub mod math;
pub mod rope;
pub mod tensors;
pub mod weight;

pub use attention::{Attention, attend};
pub use cache::KeyValues;
pub use gated::Gated;
pub use linear::{Linear, Norm};
pub use math::Activation;
pub use rope::Rope;
pub use tensors::Tensors;
pub use weight::Weight;

use crate::decoder::isa::Isa;
use crate::{Check, Pool, Result};

/// Rows of floats, one for each token.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rows {
    /// Floats of a row.
    pub width: usize,
    /// Row after row.
    pub data: Vec<f32>,
}

impl Rows {
    /// `count` rows of zeros.
    pub fn zeros(count: usize, width: usize) -> Self {
        Self { width, data: vec![0.0; count * width] }
    }

    /// Number of rows.
    pub fn count(&self) -> usize {
        self.data.len() / self.width.max(1)
    }

    /// Row `i`.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.width..][..self.width]
    }

    /// All rows, to be changed.
    pub fn rows_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.data.chunks_exact_mut(self.width.max(1))
    }

    /// self ← self + other.
    pub fn add(&mut self, other: &Self) {
        self.data.iter_mut().zip(&other.data).for_each(|(a, b)| *a += b);
    }

    /// self ← self · other, value by value.
    pub fn multiply(&mut self, other: &Self) {
        self.data.iter_mut().zip(&other.data).for_each(|(a, b)| *a *= b);
    }

    /// self ← self · factor.
    pub fn scale(&mut self, factor: f32) {
        self.data.iter_mut().for_each(|a| *a *= factor);
    }

    /// The columns from `first` on, `width` of them.
    pub fn columns(&self, first: usize, width: usize) -> Self {
        let parts = self.data.chunks_exact(self.width).flat_map(|row| &row[first..first + width]);
        Self { width, data: parts.copied().collect() }
    }

    /// The last row alone.
    pub fn last(&self) -> Self {
        let start = self.data.len().saturating_sub(self.width);
        Self { width: self.width, data: self.data[start..].to_vec() }
    }
}

/// What a forward pass needs besides weights: threads, and the caller's check.
pub struct Run<'a> {
    /// Threads to share products out to.
    pub pool: &'a Pool,
    /// Asked between products.
    pub check: Check<'a>,
    /// Vector instructions.
    pub isa: Isa,
}

impl<'a> Run<'a> {
    /// A pass on the threads of `pool` that asks `check`.
    pub fn new(pool: &'a Pool, check: Check<'a>) -> Self {
        Self { pool, check, isa: Isa::best() }
    }

    /// Asks the check.
    ///
    /// # Errors
    /// What it says.
    pub fn check(&mut self) -> Result<()> {
        (self.check)()
    }
}
