//! Reading the text form.

use half::f16;

use super::number;
use crate::{Element, Error, MAX_DIMENSIONS, Result};

/// Reads a `vector` into `out`, which is cleared first.
///
/// Grammar: numbers between brackets, separated by commas, ASCII white space anywhere between them. A number is
/// what C's `strtof` takes: decimal, hexadecimal (`0x1p-3`), infinity and NaN, of which the last two are then
/// refused.
///
/// # Errors
/// [`Error::Syntax`], [`Error::NoDimensions`], [`Error::TooManyDimensions`], [`Error::OutOfRange`] with the number
/// as it was written, [`Error::NotANumber`], [`Error::Infinite`]. After an error, `out` holds nothing of use.
pub fn parse_vector(s: &str, out: &mut Vec<f32>) -> Result<()> {
    parse(s, out)
}

/// Reads a `halfvec` into `out`, which is cleared first: as [`parse_vector`], each number rounded to f32 and then
/// to f16, as pgvector does.
///
/// # Errors
/// As [`parse_vector`].
pub fn parse_halfvec(s: &str, out: &mut Vec<f16>) -> Result<()> {
    parse(s, out)
}

fn parse<T: Element>(s: &str, out: &mut Vec<T>) -> Result<()> {
    let syntax = |detail| Error::Syntax { kind: T::KIND, input: s.to_owned(), detail };
    out.clear();
    let rest = skip_space(s.as_bytes());
    let Some(rest) = rest.strip_prefix(b"[") else {
        return Err(syntax(Some("Vector contents must start with \"[\".")));
    };
    let mut rest = skip_space(rest);
    if rest.first() == Some(&b']') {
        return Err(Error::NoDimensions(T::KIND));
    }
    loop {
        if out.len() == MAX_DIMENSIONS {
            return Err(Error::TooManyDimensions(T::KIND));
        }
        rest = skip_space(rest);
        let (value, length) = number::read_f32(rest).ok_or_else(|| syntax(None))?;
        let out_of_range = || Error::OutOfRange {
            kind: T::KIND,
            value: String::from_utf8_lossy(&rest[..length]).into_owned(),
        };
        let value = match value {
            number::Value::Number(x) => x,
            number::Value::TooLarge => return Err(out_of_range()),
        };
        let element = T::from_f32_unchecked(value);
        if element.is_infinite() && value.is_finite() {
            return Err(out_of_range());
        }
        element.check()?;
        out.push(element);
        rest = skip_space(&rest[length..]);
        match rest.split_first() {
            Some((b',', after)) => rest = after,
            Some((b']', after)) => {
                rest = after;
                break;
            }
            _ => return Err(syntax(None)),
        }
    }
    if skip_space(rest).is_empty() {
        return Ok(());
    }
    Err(syntax(Some("Junk after closing right brace.")))
}

/// The white space of C's `isspace`, which has the vertical tab that Rust's `is_ascii_whitespace` lacks.
fn skip_space(bytes: &[u8]) -> &[u8] {
    let n = bytes.iter().take_while(|b| matches!(b, b' ' | b'\t'..=b'\r')).count();
    &bytes[n..]
}
