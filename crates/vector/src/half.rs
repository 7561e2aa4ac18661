//! IEEE 754 binary16: single and bulk conversion, ties to even.

use half::f16;

use crate::distance::kernel_set;
use crate::{Element, Result};

/// The value of `h`, exactly. Without the branch on the processor that [`f16::to_f32`] takes.
#[inline]
pub fn to_f32(h: f16) -> f32 {
    let bits = u32::from(h.to_bits());
    let sign = (bits & 0x8000) << 16;
    let size = (bits & 0x7fff) << 13;
    // Exponent 31 means infinity or NaN there and here; all others are scaled, which takes care of subnormals.
    let magnitude = if bits & 0x7c00 == 0x7c00 {
        size | 0x7f80_0000
    } else {
        (f32::from_bits(size) * f32::from_bits((127 + 112) << 23)).to_bits()
    };
    f32::from_bits(sign | magnitude)
}

/// The nearest binary16, ties to even; from 65520 on it is infinite.
#[inline]
pub fn from_f32_unchecked(value: f32) -> f16 {
    f16::from_f32_const(value)
}

/// The nearest binary16, ties to even. Infinity and NaN stay what they are.
///
/// # Errors
/// [`crate::Error::OutOfRange`] if a finite number becomes infinite.
#[inline]
pub fn from_f32(value: f32) -> Result<f16> {
    <f16 as Element>::from_f32(value)
}

/// Converts all elements; `out` is cleared first.
pub fn widen(elements: &[f16], out: &mut Vec<f32>) {
    out.clear();
    out.resize(elements.len(), 0.0);
    kernel_set().widen(elements, out);
}

/// Converts all elements, ties to even; `out` is cleared first. Infinity and NaN stay what they are.
///
/// # Errors
/// [`crate::Error::OutOfRange`] for the first finite number that becomes infinite; `out` then holds nothing of use.
pub fn narrow(elements: &[f32], out: &mut Vec<f16>) -> Result<()> {
    out.clear();
    out.resize(elements.len(), f16::ZERO);
    kernel_set().narrow(elements, out);
    let became_infinite = |(x, h): (&f32, &f16)| h.is_infinite() && x.is_finite();
    match elements.iter().zip(out.iter()).position(became_infinite) {
        Some(i) => <f16 as Element>::from_f32(elements[i]).map(|_| ()),
        None => Ok(()),
    }
}
