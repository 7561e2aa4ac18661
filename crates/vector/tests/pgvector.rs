//! What pgvector's own regression tests expect of the same input.

use half::f16;
use pg_answer_vector::text::{format_halfvec, format_vector, parse_halfvec, parse_vector};
use pg_answer_vector::{Error, Kind, MAX_DIMENSIONS, distance, elementwise, half as convert};

fn vector(text: &str) -> Vec<f32> {
    let mut out = Vec::new();
    parse_vector(text, &mut out).unwrap_or_else(|e| panic!("{text}: {e}"));
    out
}

fn halfvec(text: &str) -> Vec<f16> {
    let mut out = Vec::new();
    parse_halfvec(text, &mut out).unwrap_or_else(|e| panic!("{text}: {e}"));
    out
}

#[track_caller]
fn both_refuse(text: &str, message: &str, detail: Option<&str>) {
    for (kind, error) in [
        ("vector", parse_vector(text, &mut Vec::new()).unwrap_err()),
        ("halfvec", parse_halfvec(text, &mut Vec::new()).unwrap_err()),
    ] {
        assert_eq!(error.to_string(), message.replace("{kind}", kind), "{text}");
        assert_eq!(error.detail(), detail, "{text}");
    }
}

#[test]
fn text_round_trip() {
    for (input, expected) in [
        ("[1,2,3]", "[1,2,3]"),
        ("[-1,-2,-3]", "[-1,-2,-3]"),
        ("[1.,2.,3.]", "[1,2,3]"),
        (" [ 1,  2 ,    3  ] ", "[1,2,3]"),
        ("\t\n\x0b\x0c\r[1]\x0b", "[1]"),
        ("[0x10,1E2]", "[16,100]"),
    ] {
        assert_eq!(format_vector(&vector(input)), expected);
        assert_eq!(format_halfvec(&halfvec(input)), expected);
    }
    assert_eq!(format_vector(&vector("[1.23456]")), "[1.23456]");
    assert_eq!(format_vector(&vector("[1.5e38,-1.5e+38]")), "[1.5e+38,-1.5e+38]");
    assert_eq!(format_vector(&vector("[1.5e-38,1e-46,-1e-46]")), "[1.5e-38,0,-0]");
    assert_eq!(format_halfvec(&halfvec("[1.23456]")), "[1.234375]");
    assert_eq!(format_halfvec(&halfvec("[65519,-65519]")), "[65504,-65504]");
    assert_eq!(format_halfvec(&halfvec("[1e-8,-1e-8,1e-46]")), "[0,-0,0]");
}

#[test]
fn bad_text() {
    const SYNTAX: &str = "invalid input syntax for type {kind}: \"{text}\"";
    for text in ["[hello,1]", "[1,2,3", "[", "[ ", "[,", "[,]", "[1,]", "[1a]", "[1,,3]", "[1, ,3]", "[1 2]"]
    {
        both_refuse(text, &SYNTAX.replace("{text}", text), None);
    }
    for text in ["1,2,3", "", " ", "{1}"] {
        let detail = Some("Vector contents must start with \"[\".");
        both_refuse(text, &SYNTAX.replace("{text}", text), detail);
    }
    for text in ["[1,2,3]9", "[1]]", "[1],"] {
        both_refuse(text, &SYNTAX.replace("{text}", text), Some("Junk after closing right brace."));
    }
    for text in ["[]", "[ ]"] {
        both_refuse(text, "{kind} must have at least 1 dimension", None);
    }
    both_refuse("[NaN,1]", "NaN not allowed in {kind}", None);
    for text in ["[Infinity,1]", "[-Infinity,1]", "[1,inf"] {
        both_refuse(text, "infinite value not allowed in {kind}", None);
    }
    both_refuse("[4e38,1]", "\"4e38\" is out of range for type {kind}", None);
    both_refuse("[ -4e38 ,1]", "\"-4e38\" is out of range for type {kind}", None);
    let error = parse_halfvec("[65520,-65520]", &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "\"65520\" is out of range for type halfvec");
}

#[test]
fn dimensions_are_limited() {
    let text = |n: usize| format!("[{}]", vec!["1"; n].join(","));
    assert_eq!(vector(&text(MAX_DIMENSIONS)).len(), MAX_DIMENSIONS);
    assert_eq!(halfvec(&text(MAX_DIMENSIONS)).len(), MAX_DIMENSIONS);
    both_refuse(&text(MAX_DIMENSIONS + 1), "{kind} cannot have more than 16000 dimensions", None);
}

#[test]
fn elementwise_results() {
    let mut out = Vec::new();
    let (a, b) = (vector("[1,2,3]"), vector("[4,5,6]"));
    elementwise::add(&a, &b, &mut out).unwrap();
    assert_eq!(out, [5.0, 7.0, 9.0]);
    elementwise::sub(&a, &b, &mut out).unwrap();
    assert_eq!(out, [-3.0, -3.0, -3.0]);
    elementwise::mul(&a, &b, &mut out).unwrap();
    assert_eq!(out, [4.0, 10.0, 18.0]);
    elementwise::concat(&a, &b[..2], &mut out).unwrap();
    assert_eq!(out, [1.0, 2.0, 3.0, 4.0, 5.0]);

    let refuse = |result: Result<(), Error>, error| assert_eq!(result, Err(error));
    refuse(elementwise::add(&[3e38], &[3e38], &mut out), Error::Overflow);
    refuse(elementwise::sub(&[-3e38], &[3e38], &mut out), Error::Overflow);
    refuse(elementwise::mul(&[1e37], &[1e37], &mut out), Error::Overflow);
    refuse(elementwise::mul(&[1e-37], &[1e-37], &mut out), Error::Underflow);
    refuse(elementwise::concat(&vec![0.0; 16000], &[1.0], &mut out), Error::TooManyDimensions(Kind::Vector));
    elementwise::mul(&[0.0, 1e-40], &[1e-37, 0.0], &mut out).unwrap();
    assert_eq!(Error::Overflow.to_string(), "value out of range: overflow");
    assert_eq!(Error::Underflow.to_string(), "value out of range: underflow");

    let mut out = Vec::new();
    let (big, small) = (halfvec("[65519]"), halfvec("[1e-7]"));
    refuse(elementwise::add(&big, &big, &mut out), Error::Overflow);
    refuse(elementwise::sub(&halfvec("[-65519]"), &big, &mut out), Error::Overflow);
    refuse(elementwise::mul(&big, &big, &mut out), Error::Overflow);
    refuse(elementwise::mul(&small, &small, &mut out), Error::Underflow);
    elementwise::l2_normalize(&halfvec("[3,4]"), &mut out).unwrap();
    assert_eq!(format_halfvec(&out), "[0.60009766,0.7998047]");
    elementwise::l2_normalize(&halfvec("[65504]"), &mut out).unwrap();
    assert_eq!(format_halfvec(&out), "[1]");
}

#[test]
fn normalize() {
    let mut out = Vec::new();
    for (input, expected) in [
        ("[3,4]", "[0.6,0.8]"),
        ("[3,0]", "[1,0]"),
        ("[0,0.1]", "[0,1]"),
        ("[0,0]", "[0,0]"),
        ("[3e38]", "[1]"),
    ] {
        elementwise::l2_normalize(&vector(input), &mut out).unwrap();
        assert_eq!(format_vector(&out), expected);
    }
}

#[test]
fn quantize() {
    let quantize = |text: &str| elementwise::binary_quantize(&vector(text));
    assert_eq!(quantize("[1,0,-1]"), [0b1000_0000]);
    assert_eq!(quantize("[0,0.1,-0.2,-0.3,0.4,0.5,0.6,-0.7,0.8,-0.9,1]"), [0b0100_1110, 0b1010_0000]);
    let bits = elementwise::binary_quantize(&halfvec("[1,2,3,-4,5,6,-7,8,1,-2,-3,4,5,-6,7,8,-1,2,3]"));
    assert_eq!(bits, [0b1110_1101, 0b1001_1011, 0b0110_0000]);
}

#[test]
fn subvector() {
    let a = vector("[1,2,3,4,5]");
    for (start, count, expected) in [
        (1, 3, &a[..3]),
        (3, 2, &a[2..4]),
        (-1, 3, &a[..1]),
        (3, 9, &a[2..]),
        (3, i32::MAX, &a[2..]),
        (-2147483644, i32::MAX, &a[..2]),
    ] {
        assert_eq!(elementwise::subvector(&a, start, count), Ok(expected), "{start} {count}");
    }
    for (start, count) in [(1, 0), (3, -1), (-1, 2), (i32::MAX, 10), (6, 1), (i32::MIN, i32::MIN)] {
        let error = Err(Error::NoDimensions(Kind::Vector));
        assert_eq!(elementwise::subvector(&a, start, count), error, "{start} {count}");
    }
}

#[test]
fn order() {
    use std::cmp::Ordering::*;
    for (a, b, expected) in [
        ("[1,2,3]", "[1,2,3]", Equal),
        ("[1,2,3]", "[0,0,0]", Greater),
        ("[0,0,0]", "[1,2,3]", Less),
        ("[1,2]", "[1,2,3]", Less),
        ("[1,2,3]", "[1,2]", Greater),
        ("[1,2]", "[2,3,4]", Less),
        ("[2,3]", "[1,2,3]", Greater),
        ("[0]", "[-0]", Equal),
        ("[-0,-1]", "[0,-2]", Greater),
    ] {
        assert_eq!(elementwise::cmp(&vector(a), &vector(b)), expected, "{a} {b}");
        assert_eq!(elementwise::cmp(&halfvec(a), &halfvec(b)), expected, "{a} {b}");
    }
}

/// Every kernel set gives exactly what pgvector prints.
#[test]
fn distances() {
    for set in distance::KernelSet::available() {
        let v = vector;
        let l2 = |a: &str, b: &str| f64::from(set.l2_squared(&v(a), &v(b))).sqrt();
        assert_eq!(l2("[0,0]", "[3,4]"), 5.0);
        assert_eq!(l2("[0,0]", "[0,1]"), 1.0);
        assert_eq!(l2("[3e38]", "[-3e38]"), f64::INFINITY);
        assert_eq!(l2("[1,1,1,1,1,1,1,1,1]", "[1,1,1,1,1,1,1,4,5]"), 5.0);
        let dot = |a: &str, b: &str| set.inner_product(&v(a), &v(b));
        assert_eq!(dot("[1,2]", "[3,4]"), 11.0);
        assert_eq!(dot("[3e38]", "[3e38]"), f32::INFINITY);
        assert_eq!(dot("[1,1,1,1,1,1,1,1,1]", "[1,2,3,4,5,6,7,8,9]"), 45.0);
        let l1 = |a: &str, b: &str| set.l1(&v(a), &v(b));
        assert_eq!(l1("[0,0]", "[3,4]"), 7.0);
        assert_eq!(l1("[3e38]", "[-3e38]"), f32::INFINITY);
        assert_eq!(l1("[1,2,3,4,5,6,7,8,9]", "[0,3,2,5,4,7,6,9,8]"), 9.0);
        for (a, b, expected) in [
            ("[1,2]", "[2,4]", 0.0),
            ("[1,1]", "[1,1]", 0.0),
            ("[1,0]", "[0,2]", 1.0),
            ("[1,1]", "[-1,-1]", 2.0),
            ("[1,1]", "[1.1,1.1]", 0.0),
            ("[1,1]", "[-1.1,-1.1]", 2.0),
            ("[1,2,3,4,5,6,7,8,9]", "[1,2,3,4,5,6,7,8,9]", 0.0),
            ("[1,2,3,4,5,6,7,8,9]", "[-1,-2,-3,-4,-5,-6,-7,-8,-9]", 2.0),
        ] {
            let name = set.name();
            assert_eq!(set.cosine_parts(&v(a), &v(b)).distance(), expected, "{name} {a} {b}");
            assert_eq!(set.cosine_parts(&halfvec(a), &halfvec(b)).distance(), expected, "{name} {a} {b}");
        }
        assert!(set.cosine_parts(&v("[1,2]"), &v("[0,0]")).distance().is_nan());
        assert!(set.cosine_parts(&v("[3e38]"), &v("[3e38]")).distance().is_nan());
        assert_eq!(set.inner_product(&halfvec("[65504]"), &halfvec("[65504]")), 4290774016.0);
        assert_eq!(set.norm_squared(&v("[3,4]")).sqrt(), 5.0);
        assert_eq!(set.norm_squared(&v("[3e37,4e37]")).sqrt() as f32, 5e37);
    }
}

#[test]
fn vector_to_halfvec() {
    let mut out = Vec::new();
    convert::narrow(&[65519.0, -65519.0, f32::INFINITY, 1e-8], &mut out).unwrap();
    let infinity = f16::INFINITY;
    assert_eq!(out, [f16::MAX, f16::MIN, infinity, f16::ZERO]);
    let error = convert::narrow(&[1.0, 65520.0], &mut out).unwrap_err();
    assert_eq!(error.to_string(), "\"65520\" is out of range for type halfvec");
    let error = convert::from_f32(-1e6).unwrap_err();
    assert_eq!(error.to_string(), "\"-1e+06\" is out of range for type halfvec");
}
