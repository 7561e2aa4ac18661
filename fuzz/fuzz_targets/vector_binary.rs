//! Binary form of `vector` and `halfvec`: what is read is written as the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pg_answer_vector::wire::{decode_halfvec, decode_vector, encode_halfvec, encode_vector};

fuzz_target!(|bytes: &[u8]| {
    let mut elements = Vec::new();
    if decode_vector(bytes, &mut elements).is_ok() {
        assert_eq!(encode_vector(&elements), bytes);
    }
    let mut elements = Vec::new();
    if decode_halfvec(bytes, &mut elements).is_ok() {
        assert_eq!(encode_halfvec(&elements), bytes);
    }
});
