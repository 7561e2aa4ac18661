//! Text of `vector` and `halfvec`: what is read is written so that it reads as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pg_answer_vector::text::{format_halfvec, format_vector, parse_halfvec, parse_vector};

fuzz_target!(|text: &str| {
    let (mut elements, mut again) = (Vec::new(), Vec::new());
    if parse_vector(text, &mut elements).is_ok() {
        parse_vector(&format_vector(&elements), &mut again).expect("own output");
        let bits = |v: &[f32]| v.iter().map(|e| e.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&elements), bits(&again));
    }
    let (mut elements, mut again) = (Vec::new(), Vec::new());
    if parse_halfvec(text, &mut elements).is_ok() {
        parse_halfvec(&format_halfvec(&elements), &mut again).expect("own output");
        let bits = |v: &[half::f16]| v.iter().map(|e| e.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&elements), bits(&again));
    }
});
