//! Numbers as C's `strtof` reads them in the C locale.

/// A number that was read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    /// The nearest f32; infinite or NaN only if so written.
    Number(f32),
    /// A finite number beyond the range of f32.
    TooLarge,
}

/// Reads the longest number at the beginning of `bytes`; returns it and its length in bytes. Numbers too small
/// become zero, correctly rounded. `None` if there is no number.
pub(super) fn read_f32(bytes: &[u8]) -> Option<(Value, usize)> {
    let sign = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    let body = &bytes[sign..];
    let (value, length) = match body.first()? {
        b'0'..=b'9' | b'.' => match hexadecimal(body) {
            Some(found) => found,
            None => decimal(body)?,
        },
        _ => named(body)?,
    };
    let value = match value {
        Value::Number(x) if bytes[0] == b'-' => Value::Number(-x),
        value => value,
    };
    Some((value, sign + length))
}

/// `inf`, `infinity`, `nan`, `nan(chars)` in any case.
fn named(body: &[u8]) -> Option<(Value, usize)> {
    let starts = |word: &[u8]| body.get(..word.len()).is_some_and(|b| b.eq_ignore_ascii_case(word));
    if starts(b"infinity") {
        return Some((Value::Number(f32::INFINITY), 8));
    }
    if starts(b"inf") {
        return Some((Value::Number(f32::INFINITY), 3));
    }
    if !starts(b"nan") {
        return None;
    }
    let payload = body[3..].strip_prefix(b"(").and_then(|rest| {
        let n = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
        (rest.get(n) == Some(&b')')).then_some(n + 2)
    });
    Some((Value::Number(f32::NAN), 3 + payload.unwrap_or(0)))
}

fn decimal(body: &[u8]) -> Option<(Value, usize)> {
    let (whole, length) = digits(body, 0, u8::is_ascii_digit);
    let (fraction, length) = fraction(body, length, u8::is_ascii_digit);
    if whole + fraction == 0 {
        return None;
    }
    let length = exponent(body, length, b'e').map_or(length, |(_, end)| end);
    // Only ASCII digits, at most one point, and an exponent: what Rust takes too, and rounds correctly.
    let value: f32 = str::from_utf8(&body[..length]).ok()?.parse().ok()?;
    Some((if value.is_finite() { Value::Number(value) } else { Value::TooLarge }, length))
}

/// `0x` hexadecimal digits with at most one point, then an optional binary exponent `p±digits`.
fn hexadecimal(body: &[u8]) -> Option<(Value, usize)> {
    if !matches!(body, [b'0', b'x' | b'X', ..]) {
        return None;
    }
    let (whole, point) = digits(body, 2, u8::is_ascii_hexdigit);
    let (fraction, length) = fraction(body, point, u8::is_ascii_hexdigit);
    if whole + fraction == 0 {
        return None;
    }
    // The first 60 bits and "something follows": enough to round 24 of them correctly.
    let (mut mantissa, mut power) = (0u64, 0i64);
    for (i, byte) in body[2..length].iter().enumerate() {
        let Some(digit) = char::from(*byte).to_digit(16) else { continue };
        let after_point = i > whole;
        if mantissa >> 60 == 0 {
            mantissa = mantissa << 4 | u64::from(digit);
            power -= if after_point { 4 } else { 0 };
        } else {
            mantissa |= u64::from(digit != 0);
            power += if after_point { 0 } else { 4 };
        }
    }
    let (written, length) = exponent(body, length, b'p').unwrap_or((0, length));
    let value = scale(mantissa, power.saturating_add(written));
    Some((if value.is_finite() { Value::Number(value) } else { Value::TooLarge }, length))
}

/// Counts the digits from `start`; returns the count and where they end.
fn digits(body: &[u8], start: usize, is_digit: fn(&u8) -> bool) -> (usize, usize) {
    let n = body[start..].iter().take_while(|b| is_digit(b)).count();
    (n, start + n)
}

/// A point and the digits after it, if there is a point; a point without digits counts after digits only, but
/// then the caller has found none at all.
fn fraction(body: &[u8], start: usize, is_digit: fn(&u8) -> bool) -> (usize, usize) {
    match body.get(start) {
        Some(b'.') => digits(body, start + 1, is_digit),
        _ => (0, start),
    }
}

/// An exponent, if it is complete: its value (bounded, which changes nothing) and where it ends.
fn exponent(body: &[u8], start: usize, letter: u8) -> Option<(i64, usize)> {
    if body.get(start)?.to_ascii_lowercase() != letter {
        return None;
    }
    let signed = matches!(body.get(start + 1), Some(b'+' | b'-'));
    let first = start + 1 + usize::from(signed);
    let (count, end) = digits(body, first.min(body.len()), u8::is_ascii_digit);
    if count == 0 {
        return None;
    }
    let size = body[first..end]
        .iter()
        .fold(0i64, |n, b| n.saturating_mul(10).saturating_add(i64::from(b - b'0')))
        .min(i64::MAX / 4);
    Some((if body[start + 1] == b'-' { -size } else { size }, end))
}

/// `mantissa` × 2^`power`, rounded once, to the nearest f32, ties to even.
fn scale(mantissa: u64, power: i64) -> f32 {
    if mantissa == 0 {
        return 0.0;
    }
    let bits = 64 - i64::from(mantissa.leading_zeros());
    let top = power.saturating_add(bits - 1);
    if top > 127 {
        return f32::INFINITY;
    }
    // Exponent of the last bit that an f32 of this size has: 2^-149 for the subnormal ones.
    let last = (top - 23).max(-149);
    let drop = last - power;
    let rounded = match drop {
        ..=0 => mantissa << -drop,
        1..=63 => {
            let half = 1u64 << (drop - 1);
            let (kept, rest) = (mantissa >> drop, mantissa & (2 * half - 1));
            kept + u64::from(rest > half || (rest == half && kept & 1 == 1))
        }
        64 if mantissa > 1 << 63 => 1,
        _ => 0,
    };
    // At most 2^24, which f32 holds exactly; two exact powers of two, as 2^-149 and 2^127 are each within range.
    let (first, second) = (last / 2, last - last / 2);
    rounded as f32 * 2f32.powi(first as i32) * 2f32.powi(second as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(f32, usize)> {
        read_f32(text.as_bytes()).map(|(value, n)| match value {
            Value::Number(x) => (x, n),
            Value::TooLarge => (f32::MAX, n),
        })
    }

    #[test]
    fn takes_the_longest_number() {
        assert_eq!(read("1,2"), Some((1.0, 1)));
        assert_eq!(read("1.e1]"), Some((10.0, 4)));
        assert_eq!(read(".5"), Some((0.5, 2)));
        assert_eq!(read("+.5e-1x"), Some((0.05, 6)));
        assert_eq!(read("1e"), Some((1.0, 1)));
        assert_eq!(read("1e+"), Some((1.0, 1)));
        assert_eq!(read("1E+2"), Some((100.0, 4)));
        assert_eq!(read("0x"), Some((0.0, 1)));
        assert_eq!(read("1e-99999999999999999999999"), Some((0.0, 26)));
        for none in ["", "+", "-", ".", "e1", "-.e1", "x", "+-1", " 1", "i", "na"] {
            assert_eq!(read(none), None, "{none}");
        }
    }

    #[test]
    fn hexadecimal_numbers_round_once() {
        assert_eq!(read("0x10"), Some((16.0, 4)));
        assert_eq!(read("-0X1.8P1,"), Some((-3.0, 8)));
        assert_eq!(read("0x.8p"), Some((0.5, 4)));
        assert_eq!(read("0x1p-149"), Some((f32::from_bits(1), 8)));
        assert_eq!(read("0x1p-150"), Some((0.0, 8)));
        assert_eq!(read("0x1.000000000000000000001p-150"), Some((f32::from_bits(1), 30)));
        assert_eq!(read("0x1.000001p0"), Some((1.0, 12)));
        assert_eq!(read("0x1.0000010000000000000000001p0"), Some((1.0f32.next_up(), 31)));
        assert_eq!(read("0x1.000003p0"), Some((1.0f32.next_up().next_up(), 12)));
        assert_eq!(read("0x1.fffffep127"), Some((f32::MAX, 14)));
        assert_eq!(read_f32(b"0x1.ffffffp127"), Some((Value::TooLarge, 14)));
        assert_eq!(read_f32(b"0x1p99999999999999999999"), Some((Value::TooLarge, 24)));
        assert_eq!(read("0x0p99999999999999999999"), Some((0.0, 24)));
        assert_eq!(read("0x1p-99999999999999999999"), Some((0.0, 25)));
        assert_eq!(read("0x100000000000000000000p-80"), Some((1.0, 27)));
    }

    #[test]
    fn decimal_numbers_beyond_the_range() {
        assert_eq!(read_f32(b"4e38,"), Some((Value::TooLarge, 4)));
        assert_eq!(read_f32(b"-4e38"), Some((Value::TooLarge, 5)));
        assert_eq!(read_f32(b"1e99999999999999999999999"), Some((Value::TooLarge, 25)));
        assert_eq!(read("3.4028235e38"), Some((f32::MAX, 12)));
        assert_eq!(read("-1e-46").map(|(x, _)| x.to_bits()), Some((-0.0f32).to_bits()));
    }

    #[test]
    fn names() {
        assert_eq!(read("Infinity,"), Some((f32::INFINITY, 8)));
        assert_eq!(read("-inf]"), Some((f32::NEG_INFINITY, 4)));
        assert_eq!(read("infinit"), Some((f32::INFINITY, 3)));
        assert!(matches!(read("NaN(a_1)x"), Some((x, 8)) if x.is_nan()));
        assert!(matches!(read("nan(a-1)"), Some((x, 3)) if x.is_nan()));
    }
}
