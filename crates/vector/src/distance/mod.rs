//! Distances between vectors of equal length.
//!
//! Sums are accumulated in f32, as pgvector does, in several partial sums, so that results agree with any other
//! order of summation only within rounding. The processor's best instructions are chosen once per process, at the
//! first call. Elements beyond the length of the shorter vector are ignored.

pub(crate) mod dispatch;
mod generic;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
pub mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use dispatch::{KernelSet, kernel_set};

use crate::Element;

/// Sum of the squared differences.
#[inline]
pub fn l2_squared<T: Element>(a: &[T], b: &[T]) -> f32 {
    kernel_set().l2_squared(a, b)
}

/// Euclidean distance.
#[inline]
pub fn l2_distance<T: Element>(a: &[T], b: &[T]) -> f64 {
    f64::from(l2_squared(a, b)).sqrt()
}

/// Sum of the products.
#[inline]
pub fn inner_product<T: Element>(a: &[T], b: &[T]) -> f32 {
    kernel_set().inner_product(a, b)
}

/// Sum of the absolute differences.
#[inline]
pub fn l1<T: Element>(a: &[T], b: &[T]) -> f32 {
    kernel_set().l1(a, b)
}

/// What the cosine is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CosineParts {
    /// Sum of the products.
    pub dot: f32,
    /// Sum of the squares of the left vector.
    pub norm_a_squared: f32,
    /// Sum of the squares of the right vector.
    pub norm_b_squared: f32,
}

impl CosineParts {
    /// 1 − cosine of the angle, from 0 to 2; NaN if a vector is zero, or if a sum is beyond f32.
    #[inline]
    pub fn distance(self) -> f64 {
        // One root of the product instead of two: parallel vectors then have a distance of exactly 0 more often.
        let norms = (f64::from(self.norm_a_squared) * f64::from(self.norm_b_squared)).sqrt();
        1.0 - (f64::from(self.dot) / norms).clamp(-1.0, 1.0)
    }
}

/// The three sums of the cosine, in one pass.
#[inline]
pub fn cosine_parts<T: Element>(a: &[T], b: &[T]) -> CosineParts {
    kernel_set().cosine_parts(a, b)
}

/// 1 − cosine of the angle between the vectors, from 0 to 2; NaN if a vector is zero.
#[inline]
pub fn cosine_distance<T: Element>(a: &[T], b: &[T]) -> f64 {
    cosine_parts(a, b).distance()
}

/// Euclidean length, accumulated in f64.
#[inline]
pub fn l2_norm<T: Element>(a: &[T]) -> f64 {
    kernel_set().norm_squared(a).sqrt()
}
