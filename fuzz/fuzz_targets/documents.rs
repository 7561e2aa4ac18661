//! Documents of every kind, cut into chunks: ranges lie in the text, and nothing but a single character exceeds the limit.
#![no_main]

use std::convert::Infallible;

use libfuzzer_sys::fuzz_target;
use pg_answer_text::chunk::Limits;
use pg_answer_text::document::{Method, chunks};

fuzz_target!(|input: (u8, u8, &str)| {
    let (size, overlap, text) = input;
    let max_tokens = 1 + usize::from(size);
    let limits = Limits::new(max_tokens).expect("not 0");
    let limits = limits.with_overlap(usize::from(overlap)).unwrap_or(limits);
    // Two "special tokens" and one for three bytes, as a tokenizer counts.
    let count = |text: &str| Ok::<usize, Infallible>(2 + text.len().div_ceil(3));
    for (_, method) in Method::ALL {
        let Ok(found) = chunks(text, method, limits, &count);
        for chunk in &found {
            assert!(!chunk.text.trim().is_empty(), "{method}: an empty chunk");
            assert!(chunk.characters.start < chunk.characters.end, "{method}: {chunk:?}");
            assert!(
                method == Method::None || chunk.tokens <= max_tokens || chunk.text.chars().count() == 1,
                "{method}: {} tokens, {max_tokens} allowed: {chunk:?}",
                chunk.tokens
            );
        }
    }
});
