//! Writing the text form.

use half::f16;

use crate::Element;

/// Text form of a `vector`; each number as PostgreSQL prints a `real` (see [`push_f32`]).
pub fn format_vector(elements: &[f32]) -> String {
    format(elements)
}

/// Text form of a `halfvec`; each number as PostgreSQL prints the same value as a `real`, which has more digits
/// than binary16 needs: 0.1 reads back as `0.099975586`.
pub fn format_halfvec(elements: &[f16]) -> String {
    format(elements)
}

fn format<T: Element>(elements: &[T]) -> String {
    let mut out = String::with_capacity(2 + elements.len() * 14);
    out.push('[');
    for (i, element) in elements.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        push_f32(element.to_f32(), &mut out);
    }
    out.push(']');
    out
}

/// Appends the number as PostgreSQL prints a `real` with `extra_float_digits` above zero: the fewest digits that
/// read back as the same f32, with an exponent (of two digits at least) below 0.0001 and from 1000000 on.
pub fn push_f32(value: f32, out: &mut String) {
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_sign_negative() {
        out.push('-');
    }
    let size = value.abs();
    if size == f32::INFINITY {
        return out.push_str("Infinity");
    }
    if size == 0.0 {
        return out.push('0');
    }
    let shortest = shortest(size);
    let mut buffer = [0u8; 20];
    let digits = write_digits(shortest.digits, &mut buffer);
    push_digits(digits, shortest.power + digits.len() as i32 - 1, out);
}

/// Lays out the digits; the first of them stands for 10^`exponent`.
fn push_digits(digits: &str, exponent: i32, out: &mut String) {
    const ZEROS: &str = "00000";
    match exponent {
        0..6 => {
            let whole = exponent as usize + 1;
            if digits.len() <= whole {
                out.push_str(digits);
                out.push_str(&ZEROS[..whole - digits.len()]);
            } else {
                out.push_str(&digits[..whole]);
                out.push('.');
                out.push_str(&digits[whole..]);
            }
        }
        -4..0 => {
            out.push_str("0.");
            out.push_str(&ZEROS[..(-exponent - 1) as usize]);
            out.push_str(digits);
        }
        _ => {
            out.push_str(&digits[..1]);
            if digits.len() > 1 {
                out.push('.');
                out.push_str(&digits[1..]);
            }
            out.push_str(if exponent < 0 { "e-" } else { "e+" });
            let size = exponent.unsigned_abs() as u8;
            out.push(char::from(b'0' + size / 10));
            out.push(char::from(b'0' + size % 10));
        }
    }
}

/// `digits` × 10^`power`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Decimal {
    digits: u64,
    power: i32,
}

impl Decimal {
    fn normalized(mut self) -> Self {
        while self.digits != 0 && self.digits.is_multiple_of(10) {
            self.digits /= 10;
            self.power += 1;
        }
        self
    }

    fn nearest_f32(self) -> f32 {
        format!("{}e{}", self.digits, self.power).parse().unwrap_or(f32::NAN)
    }

    fn distance(self, value: f32) -> f64 {
        let own: f64 = format!("{}e{}", self.digits, self.power).parse().unwrap_or(f64::NAN);
        (own - f64::from(value)).abs()
    }
}

/// The shortest decimal strictly between the neighbouring midpoints, and of those the nearest to the value.
///
/// PostgreSQL does not use the midpoints themselves, which read back correctly only where the reader rounds ties
/// to even; ryu does, for even mantissas. Those few are found again by trying one number of digits after another.
fn shortest(value: f32) -> Decimal {
    let found = ryu_shortest(value);
    let below = f64::from(value) - f64::from(value.next_down());
    let above = if value == f32::MAX { below } else { f64::from(value.next_up()) - f64::from(value) };
    let (low, high) = (f64::from(value) - below / 2.0, f64::from(value) + above / 2.0);
    let is_midpoint = |d: Decimal| value.to_bits() & 1 == 0 && (equals(d, low) || equals(d, high));
    if !is_midpoint(found) {
        return found;
    }
    for precision in 0..9 {
        let nearest = read(&format!("{value:.precision$e}"));
        let inside = [nearest.digits - 1, nearest.digits, nearest.digits + 1]
            .map(|digits| Decimal { digits, power: nearest.power })
            .into_iter()
            .filter(|d| d.nearest_f32() == value && !is_midpoint(*d))
            .min_by(|a, b| a.distance(value).total_cmp(&b.distance(value)));
        if let Some(found) = inside {
            return found.normalized();
        }
    }
    found
}

fn ryu_shortest(value: f32) -> Decimal {
    read(ryu::Buffer::new().format_finite(value)).normalized()
}

/// Reads what ryu or Rust has printed: digits, perhaps a point, perhaps an exponent.
fn read(text: &str) -> Decimal {
    let (mut digits, mut power) = (0u64, 0i32);
    let mut bytes = text.bytes();
    let mut after_point = false;
    for byte in bytes.by_ref() {
        match byte {
            b'e' => break,
            b'.' => after_point = true,
            digit => {
                digits = digits * 10 + u64::from(digit - b'0');
                power -= i32::from(after_point);
            }
        }
    }
    let (mut exponent, mut negative) = (0i32, false);
    for byte in bytes {
        match byte {
            b'-' => negative = true,
            digit => exponent = exponent * 10 + i32::from(digit - b'0'),
        }
    }
    Decimal { digits, power: power + if negative { -exponent } else { exponent } }
}

/// Whether the decimal, of at most nine digits, is exactly the midpoint, a number of at most 25 bits.
fn equals(decimal: Decimal, midpoint: f64) -> bool {
    let Decimal { digits, power } = decimal.normalized();
    // Beyond these powers, a factor 5^n is too large for the 25 bits or for the nine digits.
    match power {
        0..=10 => {
            u128::from(digits) * 10u128.pow(power as u32) == midpoint as u128 && midpoint.fract() == 0.0
        }
        // 25 bits times 5^12 has 53 bits: exact.
        -12..0 => midpoint * 10u64.pow(power.unsigned_abs()) as f64 == digits as f64,
        _ => false,
    }
}

/// Writes the decimal digits of `n` to the end of the buffer.
fn write_digits(mut n: u64, buffer: &mut [u8; 20]) -> &str {
    let mut start = buffer.len();
    while n > 0 {
        start -= 1;
        buffer[start] = b'0' + (n % 10) as u8;
        n /= 10;
    }
    str::from_utf8(&buffer[start..]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: f32) -> String {
        let mut out = String::new();
        push_f32(value, &mut out);
        out
    }

    /// What PostgreSQL 15 prints for `value::real`.
    #[test]
    fn prints_as_postgres() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-2.5, "-2.5"),
            (100000.0, "100000"),
            (999999.0, "999999"),
            (999999.5, "999999.5"),
            (1000000.0, "1e+06"),
            (1234567.0, "1.234567e+06"),
            (16777215.0, "1.6777215e+07"),
            (16777216.0, "1.6777216e+07"),
            (33554432.0, "3.3554432e+07"),
            (0.001, "0.001"),
            (0.0001, "0.0001"),
            (0.00012345679, "0.00012345679"),
            (0.00001, "1e-05"),
            (1.0e10, "1e+10"),
            (1.5e38, "1.5e+38"),
            (f32::MAX, "3.4028235e+38"),
            (f32::MIN_POSITIVE, "1.1754944e-38"),
            (f32::from_bits(1), "1e-45"),
            (0.1, "0.1"),
            (1.0 / 3.0, "0.33333334"),
            (f32::NAN, "NaN"),
            (f32::INFINITY, "Infinity"),
            (f32::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(text(value), expected);
        }
    }
}
