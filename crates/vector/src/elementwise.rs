//! Operations that make a vector of vectors, and the order of vectors.

use std::cmp::Ordering;

use crate::{Element, Error, Result, check_dimensions};

/// Sums, element by element; `out` is cleared first. Rounded to the element type.
///
/// # Errors
/// [`Error::Overflow`] if a sum is infinite.
pub fn add<T: Element>(a: &[T], b: &[T], out: &mut Vec<T>) -> Result<()> {
    combine(a, b, out, |x, y| x + y);
    check_overflow(out)
}

/// Differences `a - b`, element by element; `out` is cleared first. Rounded to the element type.
///
/// # Errors
/// [`Error::Overflow`] if a difference is infinite.
pub fn sub<T: Element>(a: &[T], b: &[T], out: &mut Vec<T>) -> Result<()> {
    combine(a, b, out, |x, y| x - y);
    check_overflow(out)
}

/// Products, element by element; `out` is cleared first. Rounded to the element type.
///
/// # Errors
/// [`Error::Overflow`] if a product is infinite, [`Error::Underflow`] if one is zero and no factor is; whichever
/// comes first.
pub fn mul<T: Element>(a: &[T], b: &[T], out: &mut Vec<T>) -> Result<()> {
    combine(a, b, out, |x, y| x * y);
    for (product, (x, y)) in out.iter().zip(a.iter().zip(b)) {
        if product.is_infinite() {
            return Err(Error::Overflow);
        }
        if *product == T::ZERO && *x != T::ZERO && *y != T::ZERO {
            return Err(Error::Underflow);
        }
    }
    Ok(())
}

/// The vector divided by its Euclidean length, computed in f64; the zero vector stays zero. `out` is cleared first.
///
/// # Errors
/// [`Error::Overflow`] if an element of the result is infinite, which happens only if one of `a` is.
pub fn l2_normalize<T: Element>(a: &[T], out: &mut Vec<T>) -> Result<()> {
    let norm = crate::distance::l2_norm(a);
    out.clear();
    if norm > 0.0 {
        out.extend(a.iter().map(|x| T::from_f32_unchecked((f64::from(x.to_f32()) / norm) as f32)));
    } else {
        out.resize(a.len(), T::ZERO);
    }
    check_overflow(out)
}

/// One bit per element, set where the element is above zero; the first element is the highest bit of the first
/// byte, and the last byte is filled up with zeros: the bytes of a `bit(n)`.
pub fn binary_quantize<T: Element>(a: &[T]) -> Vec<u8> {
    let byte = |chunk: &[T]| {
        chunk.iter().enumerate().fold(0u8, |byte, (i, x)| byte | u8::from(*x > T::ZERO) << (7 - i))
    };
    a.chunks(8).map(byte).collect()
}

/// The `count` elements from number `start` on, counted from 1; what lies outside the vector is left out, as in
/// SQL's `substring`.
///
/// # Errors
/// [`Error::NoDimensions`] if nothing is left.
pub fn subvector<T: Element>(a: &[T], start: i32, count: i32) -> Result<&[T]> {
    // All i64: no sum of two i32 overflows.
    let begin = i64::from(start).max(1) - 1;
    let end = (i64::from(start) + i64::from(count) - 1).min(a.len() as i64);
    if count < 1 || begin >= end {
        return Err(Error::NoDimensions(T::KIND));
    }
    Ok(&a[begin as usize..end as usize])
}

/// `a` followed by `b`; `out` is cleared first.
///
/// # Errors
/// [`Error::TooManyDimensions`].
pub fn concat<T: Element>(a: &[T], b: &[T], out: &mut Vec<T>) -> Result<()> {
    out.clear();
    check_dimensions(T::KIND, a.len() + b.len())?;
    out.extend_from_slice(a);
    out.extend_from_slice(b);
    Ok(())
}

/// The order of the btree operator class: by the first elements that differ, then the shorter vector first. Zero
/// equals negative zero.
pub fn cmp<T: Element>(a: &[T], b: &[T]) -> Ordering {
    a.iter()
        .zip(b)
        .find_map(|(x, y)| x.partial_cmp(y).filter(|order| order.is_ne()))
        .unwrap_or_else(|| a.len().cmp(&b.len()))
}

fn combine<T: Element>(a: &[T], b: &[T], out: &mut Vec<T>, operation: impl Fn(f32, f32) -> f32) {
    out.clear();
    out.extend(a.iter().zip(b).map(|(x, y)| T::from_f32_unchecked(operation(x.to_f32(), y.to_f32()))));
}

fn check_overflow<T: Element>(elements: &[T]) -> Result<()> {
    if elements.iter().any(|x| x.is_infinite()) { Err(Error::Overflow) } else { Ok(()) }
}
