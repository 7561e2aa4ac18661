//! The definitions, one element after another in f64: the oracle that the kernels are tested against.

use crate::Element;

/// Sum of the squared differences.
pub fn l2_squared<T: Element>(a: &[T], b: &[T]) -> f64 {
    pairs(a, b).map(|(x, y)| (x - y) * (x - y)).sum()
}

/// Sum of the products.
pub fn inner_product<T: Element>(a: &[T], b: &[T]) -> f64 {
    pairs(a, b).map(|(x, y)| x * y).sum()
}

/// Sum of the absolute differences.
pub fn l1<T: Element>(a: &[T], b: &[T]) -> f64 {
    pairs(a, b).map(|(x, y)| (x - y).abs()).sum()
}

/// Sum of the squares.
pub fn norm_squared<T: Element>(a: &[T]) -> f64 {
    inner_product(a, a)
}

fn pairs<T: Element>(a: &[T], b: &[T]) -> impl Iterator<Item = (f64, f64)> {
    a.iter().zip(b).map(|(x, y)| (f64::from(x.to_f32()), f64::from(y.to_f32())))
}
