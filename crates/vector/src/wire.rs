//! Binary form, as COPY BINARY and the extended protocol carry it: big-endian int16 number of dimensions, int16
//! zero, elements (IEEE 754 binary32 or binary16).

use half::f16;

use crate::{Element, Error, Result, check_dimensions};

/// Bytes before the elements.
const HEADER: usize = 4;

/// Binary form of a `vector`.
pub fn encode_vector(elements: &[f32]) -> Vec<u8> {
    let mut out = header(elements.len(), size_of::<f32>());
    out.extend(elements.iter().flat_map(|x| x.to_be_bytes()));
    out
}

/// Binary form of a `halfvec`.
pub fn encode_halfvec(elements: &[f16]) -> Vec<u8> {
    let mut out = header(elements.len(), size_of::<f16>());
    out.extend(elements.iter().flat_map(|x| x.to_be_bytes()));
    out
}

/// Reads the binary form of a `vector` into `out`, which is cleared first.
///
/// # Errors
/// As [`decode_halfvec`].
pub fn decode_vector(bytes: &[u8], out: &mut Vec<f32>) -> Result<()> {
    decode(bytes, out, f32::from_be_bytes)
}

/// Reads the binary form of a `halfvec` into `out`, which is cleared first. After an error, `out` holds nothing
/// of use.
///
/// # Errors
/// [`Error::NoDimensions`], [`Error::TooManyDimensions`], [`Error::Unused`], [`Error::NotANumber`],
/// [`Error::Infinite`], [`Error::Truncated`], [`Error::TrailingData`].
pub fn decode_halfvec(bytes: &[u8], out: &mut Vec<f16>) -> Result<()> {
    decode(bytes, out, f16::from_be_bytes)
}

/// The header says how long the value is in 16 bits; the types allow no more than 16,000.
fn header(dimensions: usize, element_size: usize) -> Vec<u8> {
    debug_assert!(dimensions <= crate::MAX_DIMENSIONS);
    let mut out = Vec::with_capacity(HEADER + dimensions * element_size);
    out.extend((dimensions as u16).to_be_bytes());
    out.extend([0, 0]);
    out
}

fn decode<T: Element, const N: usize>(
    bytes: &[u8],
    out: &mut Vec<T>,
    element: fn([u8; N]) -> T,
) -> Result<()> {
    out.clear();
    let ([d0, d1, u0, u1], rest) = bytes.split_first_chunk::<HEADER>().ok_or(Error::Truncated)?;
    let dimensions = usize::from(u16::from_be_bytes([*d0, *d1]));
    check_dimensions(T::KIND, dimensions)?;
    let unused = u16::from_be_bytes([*u0, *u1]);
    if unused != 0 {
        return Err(Error::Unused(unused));
    }
    let (chunks, tail) = rest.as_chunks::<N>();
    out.reserve(dimensions.min(chunks.len()));
    for chunk in chunks.iter().take(dimensions) {
        let value = element(*chunk);
        value.check()?;
        out.push(value);
    }
    if chunks.len() < dimensions {
        return Err(Error::Truncated);
    }
    if chunks.len() > dimensions || !tail.is_empty() {
        return Err(Error::TrailingData);
    }
    Ok(())
}
