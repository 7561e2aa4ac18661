//! What holds for every vector, every text and every sequence of bytes.

use half::f16;
use pg_answer_vector::text::{format_halfvec, format_vector, parse_halfvec, parse_vector};
use pg_answer_vector::wire::{decode_halfvec, decode_vector, encode_halfvec, encode_vector};
use pg_answer_vector::{Element, Error, Kind, MAX_DIMENSIONS, Result};
use proptest::collection::vec;
use proptest::prelude::*;

/// Any finite f32: any bits, and round decimal numbers, of which random bits give hardly any.
fn finite_f32() -> impl Strategy<Value = f32> {
    let any_size = 0..f32::INFINITY.to_bits();
    let decimal = (0..1_000_000u32, -50..33i32)
        .prop_map(|(digits, power)| format!("{digits}e{power}").parse::<f32>().unwrap().to_bits());
    // Next to powers of two, the neighbours below and above are not equally far.
    let power = (0u32..255, 0u32..4).prop_map(|(power, next)| (power << 23) + next);
    let size = prop_oneof![3 => any_size, 2 => decimal, 1 => power];
    (size, any::<bool>()).prop_map(|(bits, negative)| f32::from_bits(bits | u32::from(negative) << 31))
}

fn finite_f16() -> impl Strategy<Value = f16> {
    (0..f16::INFINITY.to_bits(), any::<bool>())
        .prop_map(|(bits, negative)| f16::from_bits(bits | u16::from(negative) << 15))
}

fn bits_f32(elements: &[f32]) -> Vec<u32> {
    elements.iter().map(|x| x.to_bits()).collect()
}

fn bits_f16(elements: &[f16]) -> Vec<u16> {
    elements.iter().map(|x| x.to_bits()).collect()
}

/// What a reader has put into its `out`, which holds something else before.
fn read<T: Element>(reader: impl FnOnce(&mut Vec<T>) -> Result<()>) -> Result<Vec<T>> {
    let mut out = vec![T::ZERO; 3];
    reader(&mut out).map(|()| out)
}

/// Text that is mostly a vector, of numbers in all notations, and sometimes goes wrong.
fn nearly_a_vector() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        8 => "[ \t\n\x0b]?[+-]?[0-9]{1,4}([.][0-9]{0,12})?([eE][+-]?[0-9])?",
        4 => "-?[.][0-9]{1,50}",
        4 => "[+-]?0[xX][0-9a-fA-F]{1,3}([.][0-9a-f]{0,20})?([pP]-?[0-9])?",
        1 => "[+-]?[0-9]{0,12}[.]?[0-9]{0,2}[eE][+-]?[0-9]{0,25}",
        1 => "-?0x[0-9a-f]{0,40}[.]?[0-9a-f]{0,40}(p[+-]?[0-9]{0,25})?",
        1 => "[+-]?(inf|Infinity|nan|NaN\\([a-z_]{0,3}\\)?)",
    ];
    let end =
        prop_oneof![9 => Just("]"), 1 => Just(" ]\n"), 1 => Just("]x"), 1 => Just(""), 1 => Just(",]é")];
    (vec(number, 1..5), end).prop_map(|(numbers, end)| format!("[{}{end}", numbers.join(",")))
}

/// Bytes with a header that says what the body mostly is, and a body that mostly holds finite numbers.
fn nearly_a_binary_form(element_size: usize) -> impl Strategy<Value = Vec<u8>> {
    let body = prop_oneof![vec(any::<u8>(), 0..80), vec(0u8..60, 0..80)];
    let unused = prop_oneof![9 => Just(0u16), 1 => any::<u16>()];
    (body, unused, prop_oneof![9 => Just(0i32), 1 => -1..2i32]).prop_map(move |(body, unused, more)| {
        let dimensions = (body.len() / element_size) as i32 + more;
        let mut bytes = (dimensions as u16).to_be_bytes().to_vec();
        bytes.extend(unused.to_be_bytes());
        bytes.extend(body);
        bytes
    })
}

/// What the readers accept is a vector that may be stored.
fn check_stored<T: Element>(elements: &[T]) -> std::result::Result<(), TestCaseError> {
    prop_assert!((1..=MAX_DIMENSIONS).contains(&elements.len()));
    prop_assert!(elements.iter().all(|x| x.check().is_ok()));
    Ok(())
}

fn check_any_text(text: &str) -> std::result::Result<(), TestCaseError> {
    if let Ok(elements) = read(|out| parse_vector(text, out)) {
        check_stored(&elements)?;
        let again = read(|out| parse_vector(&format_vector(&elements), out)).unwrap();
        prop_assert_eq!(bits_f32(&again), bits_f32(&elements));
    }
    if let Ok(elements) = read(|out| parse_halfvec(text, out)) {
        check_stored(&elements)?;
        // A halfvec is the rounded vector.
        let wide = read(|out| parse_vector(text, out)).unwrap();
        let rounded: Vec<f16> = wide.iter().map(|x| f16::from_f32_const(*x)).collect();
        prop_assert_eq!(bits_f16(&elements), bits_f16(&rounded));
    }
    Ok(())
}

/// There is one binary form of a vector: what is accepted is what would be written.
fn check_any_bytes(bytes: &[u8]) -> std::result::Result<(), TestCaseError> {
    if let Ok(elements) = read(|out| decode_vector(bytes, out)) {
        check_stored(&elements)?;
        prop_assert_eq!(encode_vector(&elements), bytes);
    }
    if let Ok(elements) = read(|out| decode_halfvec(bytes, out)) {
        check_stored(&elements)?;
        prop_assert_eq!(encode_halfvec(&elements), bytes);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn vector_survives_its_text(elements in vec(finite_f32(), 1..20)) {
        let text = format_vector(&elements);
        let again = read(|out| parse_vector(&text, out)).unwrap();
        prop_assert_eq!(bits_f32(&again), bits_f32(&elements), "{}", text);
    }

    #[test]
    fn halfvec_survives_its_text(elements in vec(finite_f16(), 1..20)) {
        let text = format_halfvec(&elements);
        let again = read(|out| parse_halfvec(&text, out)).unwrap();
        prop_assert_eq!(bits_f16(&again), bits_f16(&elements), "{}", text);
    }

    /// As few and as near as Rust's (of two equally near, PostgreSQL takes the even one), but for even numbers, where
    /// PostgreSQL refuses midpoints that Rust takes.
    #[test]
    fn text_has_the_fewest_digits(x in finite_f32().prop_map(|x| f32::from_bits(x.to_bits() | 1))) {
        let count = |text: &str| {
            let mantissa = text.split('e').next().unwrap_or_default();
            let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
            digits.trim_matches('0').len()
        };
        let distance = |text: &str| (text.parse::<f64>().unwrap() - f64::from(x)).abs();
        let (written, shortest) = (format_vector(&[x]), format!("{x:e}"));
        let written = written.trim_matches(['[', ']']);
        prop_assert_eq!(count(written), count(&shortest), "{}", written);
        // Both distances are rounded to f64.
        let rounding = f64::from(x).abs() * f64::EPSILON;
        prop_assert!(distance(written) <= distance(&shortest) + rounding, "{} {}", written, shortest);
    }

    #[test]
    fn decimal_numbers_are_read_as_rust_reads_them(
        number in "-?[0-9]{1,25}([.][0-9]{0,25})?(e[+-]?[0-9]{1,2})?",
    ) {
        let expected: f32 = number.parse().unwrap();
        match read(|out| parse_vector(&format!("[{number}]"), out)) {
            Ok(elements) => prop_assert_eq!(bits_f32(&elements), [expected.to_bits()]),
            Err(error) => {
                prop_assert_eq!(error, Error::OutOfRange { kind: Kind::Vector, value: number });
                prop_assert!(expected.is_infinite());
            }
        }
    }

    #[test]
    fn vector_survives_its_binary_form(elements in vec(finite_f32(), 1..50)) {
        let again = read(|out| decode_vector(&encode_vector(&elements), out)).unwrap();
        prop_assert_eq!(bits_f32(&again), bits_f32(&elements));
    }

    #[test]
    fn halfvec_survives_its_binary_form(elements in vec(finite_f16(), 1..50)) {
        let again = read(|out| decode_halfvec(&encode_halfvec(&elements), out)).unwrap();
        prop_assert_eq!(bits_f16(&again), bits_f16(&elements));
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        check_any_text(&text)?;
    }

    #[test]
    fn any_characters_of_a_vector_are_read_or_refused(text in "[\\[\\],.+0-9eExXpPinfatyNI() -]{0,40}") {
        check_any_text(&text)?;
        check_any_text(&format!("[{text}]"))?;
    }

    #[test]
    fn what_is_nearly_a_vector_is_read_or_refused(text in nearly_a_vector()) {
        check_any_text(&text)?;
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..100)) {
        check_any_bytes(&bytes)?;
    }

    #[test]
    fn what_is_nearly_a_binary_form_is_read_or_refused(
        four in nearly_a_binary_form(4),
        two in nearly_a_binary_form(2),
    ) {
        check_any_bytes(&four)?;
        check_any_bytes(&two)?;
    }
}

#[test]
fn every_half_survives_its_text() {
    for half in (0..=u16::MAX).map(f16::from_bits).filter(|h| h.is_finite()) {
        let text = format_halfvec(&[half]);
        let again = read(|out| parse_halfvec(&text, out)).unwrap();
        assert_eq!(bits_f16(&again), [half.to_bits()], "{text}");
    }
}

#[test]
fn longest_vector_survives() {
    let elements: Vec<f32> = (0..MAX_DIMENSIONS).map(|i| i as f32 / 7.0 - 1000.0).collect();
    let text = format_vector(&elements);
    assert_eq!(read(|out| parse_vector(&text, out)).unwrap(), elements);
    assert_eq!(read(|out| decode_vector(&encode_vector(&elements), out)).unwrap(), elements);
    let longer = format!("{},1]", text.trim_end_matches(']'));
    let refused = Err(Error::TooManyDimensions(Kind::Vector));
    assert_eq!(read(|out| parse_vector(&longer, out)), refused);
}

/// Both types read the same header: `dimensions`, `unused`, then `body` in both sizes of element.
#[track_caller]
fn refused(dimensions: u16, unused: u16, body: (&[f32], &[f16]), error: fn(Kind) -> Error) {
    let header = [dimensions.to_be_bytes(), unused.to_be_bytes()].concat();
    let mut four = header.clone();
    four.extend(body.0.iter().flat_map(|x| x.to_be_bytes()));
    let mut two = header;
    two.extend(body.1.iter().flat_map(|x| x.to_be_bytes()));
    assert_eq!(read(|out| decode_vector(&four, out)), Err(error(Kind::Vector)));
    assert_eq!(read(|out| decode_halfvec(&two, out)), Err(error(Kind::Halfvec)));
}

const ONES: (&[f32], &[f16]) = (&[1.0; 3], &[f16::ONE; 3]);

#[test]
fn binary_form_is_that_of_pgvector() {
    let bytes = [0, 2, 0, 0, 0x3f, 0x80, 0, 0, 0xc0, 0, 0, 0];
    assert_eq!(encode_vector(&[1.0, -2.0]), bytes);
    assert_eq!(read(|out| decode_vector(&bytes, out)), Ok(vec![1.0, -2.0]));
    let bytes = [0, 2, 0, 0, 0x3c, 0, 0xc0, 0];
    assert_eq!(encode_halfvec(&[f16::ONE, f16::from_f32(-2.0)]), bytes);
    assert_eq!(read(|out| decode_halfvec(&bytes, out)), Ok(vec![f16::ONE, f16::from_f32(-2.0)]));
}

#[test]
fn binary_form_with_wrong_dimensions() {
    refused(0, 0, (&[], &[]), Error::NoDimensions);
    refused(0, 0, ONES, Error::NoDimensions);
    for many in [MAX_DIMENSIONS as u16 + 1, 0x7fff, 0x8000, 0xffff] {
        refused(many, 0, ONES, Error::TooManyDimensions);
    }
    refused(2, 0, ONES, |_| Error::TrailingData);
    refused(4, 0, ONES, |_| Error::Truncated);
    refused(MAX_DIMENSIONS as u16, 0, ONES, |_| Error::Truncated);
}

#[test]
fn binary_form_with_unused_bits() {
    refused(3, 1, ONES, |_| Error::Unused(1));
    refused(3, 0x8000, ONES, |_| Error::Unused(0x8000));
}

#[test]
fn binary_form_with_elements_that_are_no_numbers() {
    refused(2, 0, (&[1.0, f32::NAN], &[f16::ONE, f16::NAN]), Error::NotANumber);
    refused(1, 0, (&[f32::INFINITY], &[f16::INFINITY]), Error::Infinite);
    refused(1, 0, (&[f32::NEG_INFINITY], &[f16::NEG_INFINITY]), Error::Infinite);
}

#[test]
fn binary_form_cut_short_or_drawn_out() {
    let (mut four, mut two) = (encode_vector(ONES.0), encode_halfvec(ONES.1));
    for n in 0..four.len() {
        assert_eq!(read(|out| decode_vector(&four[..n], out)), Err(Error::Truncated), "{n}");
    }
    for n in 0..two.len() {
        assert_eq!(read(|out| decode_halfvec(&two[..n], out)), Err(Error::Truncated), "{n}");
    }
    for n in 1..10 {
        four.push(0);
        two.push(0);
        assert_eq!(read(|out| decode_vector(&four, out)), Err(Error::TrailingData), "{n}");
        assert_eq!(read(|out| decode_halfvec(&two, out)), Err(Error::TrailingData), "{n}");
    }
}

/// The strategies give enough that is accepted.
#[test]
fn strategies_give_vectors() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut texts, mut bytes) = (0, 0);
    for _ in 0..1000 {
        let text = nearly_a_vector().new_tree(&mut runner).unwrap().current();
        texts += u32::from(parse_vector(&text, &mut Vec::new()).is_ok());
        let binary = nearly_a_binary_form(4).new_tree(&mut runner).unwrap().current();
        bytes += u32::from(decode_vector(&binary, &mut Vec::new()).is_ok());
    }
    assert!(texts > 100 && bytes > 100, "{texts} texts and {bytes} binary forms of 1000");
    assert!(texts < 900 && bytes < 900, "{texts} texts and {bytes} binary forms of 1000");
}
