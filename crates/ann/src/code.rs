//! Codes of points: a byte (or half of one) a coordinate with a bound of the error, and one bit a coordinate.

use crate::kernels;
use crate::page::{HEADER, half_at};
use crate::store::PAYLOAD;

/// Bytes before the code of a record: step and error, each the upper half of a number of single precision, so that 21 records
/// of 384 dimensions fit on a page.
const FACTORS: usize = 4;
/// Bytes of a directory entry besides its record.
pub(crate) const DIRECTORY_PREFIX: usize = 16;

/// Whether codes have four bits a coordinate: eight would not fit on a page.
fn is_nibbles(width: usize) -> bool {
    HEADER + DIRECTORY_PREFIX + FACTORS + width > PAYLOAD
}

/// Bytes of a record.
pub(crate) fn record_len(width: usize) -> usize {
    FACTORS + if is_nibbles(width) { width / 2 } else { width }
}

/// What the error of a record is measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Norm {
    /// Root of the sum of squares.
    Euclidean,
    /// Sum of absolute values.
    Taxicab,
}

/// A byte code on a page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    step: f32,
    /// Most distance between the point and the decoded one.
    pub error: f32,
    code: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads what [`encode`] wrote. Any bytes of [`record_len`] are a record.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { step: half_at(bytes, 0), error: half_at(bytes, 2), code: &bytes[FACTORS..] }
    }

    /// What [`encode`] wrote.
    pub fn to_bytes(self) -> Vec<u8> {
        let factors = [self.step, self.error];
        factors.into_iter().flat_map(upper_half).chain(self.code.iter().copied()).collect()
    }

    /// Squared norm of the decoded point in a space of so many dimensions.
    pub fn squared(&self, width: usize) -> f64 {
        let square = |nibble: u8| u32::from(nibble.abs_diff(8)).pow(2);
        let sum = match self.code.len() < width {
            true => self.code.iter().map(|b| square(b & 15) + square(b >> 4)).sum(),
            false => kernels::squared_bytes(as_i8(self.code)),
        };
        f64::from(self.step).powi(2) * f64::from(sum)
    }

    /// Product of a query with the decoded point.
    pub fn dot(&self, query: &[f32]) -> f32 {
        self.step
            * if self.code.len() < query.len() {
                kernels::dot_nibbles(query, self.code)
            } else {
                kernels::dot_bytes(query, as_i8(self.code))
            }
    }

    /// Taxicab distance of a query to what is decoded.
    pub fn taxicab(&self, query: &[f32]) -> f64 {
        let mut decoded = vec![0.0; query.len()];
        self.add_to(&mut decoded);
        f64::from(pg_answer_vector::distance::l1(query, &decoded))
    }

    /// Adds the decoded point.
    pub fn add_to(&self, out: &mut [f32]) {
        if self.code.len() == out.len() {
            out.iter_mut().zip(as_i8(self.code)).for_each(|(out, code)| *out += self.step * f32::from(*code));
            return;
        }
        let (first, second) = out.split_at_mut(self.code.len());
        for ((first, second), code) in first.iter_mut().zip(second).zip(self.code) {
            *first += self.step * (f32::from(code & 15) - 8.0);
            *second += self.step * (f32::from(code >> 4) - 8.0);
        }
    }
}

fn as_i8(bytes: &[u8]) -> &[i8] {
    // SAFETY: u8 and i8 have the same size and alignment, and any bits are valid.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) }
}

/// A record of a point, which may be wrong by `margin` already, in the norm of its error.
pub(crate) fn encode(point: &[f32], margin: f64, norm: Norm) -> Vec<u8> {
    let width = point.len();
    let nibbles = is_nibbles(width);
    let most: f32 = if nibbles { 7.0 } else { 127.0 };
    let largest = point.iter().fold(0.0f32, |m, r| m.max(r.abs()));
    let step = raised(largest / most);
    let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    let mut bytes = vec![0; record_len(width)];
    let mut numbers = vec![0; width];
    kernels::quantize(point, inverse, most, &mut numbers);
    let differences =
        point.iter().zip(&numbers).map(|(r, number)| f64::from(*r) - f64::from(f32::from(*number) * step));
    let error: f64 = match norm {
        Norm::Euclidean => differences.map(|d| d * d).sum(),
        Norm::Taxicab => differences.map(f64::abs).sum(),
    };
    let codes = &mut bytes[FACTORS..];
    if nibbles {
        let (first, second) = numbers.split_at(width / 2);
        let pairs = codes.iter_mut().zip(first.iter().zip(second));
        pairs.for_each(|(code, (low, high))| *code = (low + 8) as u8 | ((high + 8) as u8) << 4);
    } else {
        codes.iter_mut().zip(&numbers).for_each(|(code, number)| *code = *number as u8);
    }
    // The sum of roundings to f32, upwards.
    let error = if norm == Norm::Euclidean { error.sqrt() } else { error };
    // No number would be a mark of no point.
    let error =
        Some((error + margin) * (1.0 + 1e-6)).filter(|error| !error.is_nan()).unwrap_or(f64::INFINITY);
    bytes[..2].copy_from_slice(&upper_half(step));
    bytes[2..FACTORS].copy_from_slice(&upper_half(raised(error as f32)));
    bytes
}

/// The least number that an upper half can hold and that is not below this one, which is not negative.
fn raised(x: f32) -> f32 {
    if x.is_finite() { f32::from_bits((x.to_bits() + 0xffff) & 0xffff_0000) } else { x }
}

/// The upper half of a number.
fn upper_half(x: f32) -> [u8; 2] {
    ((x.to_bits() >> 16) as u16).to_le_bytes()
}

/// Makes a record one of no point.
pub(crate) fn make_free(record: &mut [u8]) {
    record[2..FACTORS].copy_from_slice(&upper_half(f32::NAN));
}

/// One bit a coordinate, set where it is positive, and the sum of the absolute values.
pub(crate) fn signs(residual: &[f32]) -> (Vec<u8>, f64) {
    let bits = residual.chunks_exact(8).map(|eight| {
        let bit = |(i, r): (usize, &f32)| u8::from(*r > 0.0) << i;
        eight.iter().enumerate().map(bit).fold(0, |byte, bit| byte | bit)
    });
    (bits.collect(), residual.iter().map(|r| f64::from(r.abs())).sum())
}

/// Tables for [`kernels::score`], step and bias: the product of the query with the signs is `sum * step - bias`.
pub(crate) fn tables(query: &[f32]) -> (Vec<u8>, Vec<u8>, f32, f32) {
    let fours = query.as_chunks::<4>().0;
    let reach = |four: &[f32; 4]| four.iter().map(|q| q.abs()).sum::<f32>();
    let bias: f32 = fours.iter().map(reach).sum();
    let step = 2.0 * fours.iter().map(reach).fold(0.0, f32::max) / 255.0;
    let inverse = if step > 0.0 && (1.0 / step).is_finite() { 1.0 / step } else { 0.0 };
    let (mut low, mut high) = (vec![0; 2 * query.len()], vec![0; 2 * query.len()]);
    kernels::tables(query, inverse, &mut low, &mut high);
    (low, high, step, bias)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_decode_within_their_error() {
        for width in [64, 384, 8064, 8128, 16_000] {
            let mut state = 5;
            let mut number = || (crate::rotation::splitmix(&mut state) >> 40) as f32 / (1 << 23) as f32 - 1.0;
            let point: Vec<f32> = (0..width).map(|_| number()).collect();
            let query: Vec<f32> = (0..width).map(|_| number()).collect();
            let bytes = encode(&point, 0.0, Norm::Euclidean);
            assert_eq!(bytes.len(), record_len(width));
            let record = Record::new(&bytes);
            let mut decoded = vec![0.0; width];
            record.add_to(&mut decoded);
            let error: f64 = point.iter().zip(&decoded).map(|(a, b)| f64::from(a - b).powi(2)).sum();
            assert!(error.sqrt() <= f64::from(record.error), "{width}");
            let dot: f64 = decoded.iter().zip(&query).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            assert!((f64::from(record.dot(&query)) - dot).abs() < 1e-2, "{width}");
            let squared: f64 = decoded.iter().map(|a| f64::from(*a).powi(2)).sum();
            assert!((record.squared(width) - squared).abs() < 1e-2, "{width}");
        }
    }
}
