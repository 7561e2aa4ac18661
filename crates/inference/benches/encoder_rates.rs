//! One round of `benches/peers/encoder.py`: texts per second of a model, as JSON.
//!
//! Arguments: the model's name, the number of threads, and a file of texts, one a line: the first is embedded by
//! itself, an empty line ends the short texts, after it come passages. PG_ANSWER_MODEL_PATH is the folder of models.

use std::time::{Duration, Instant};

use pg_answer_inference::{Encoder, Pool, Role, Tokens};
use pg_answer_models::Store;

/// Calls per second of `run`, which is called for at least half a second.
fn rate(mut run: impl FnMut()) -> f64 {
    run();
    let start = Instant::now();
    let mut calls = 0;
    while start.elapsed() < Duration::from_millis(500) {
        run();
        calls += 1;
    }
    f64::from(calls) / start.elapsed().as_secs_f64()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let [model, threads, texts] = &arguments[..] else {
        // `cargo bench` runs all benches; this one has nothing to say by itself.
        println!("for benches/peers/encoder.py: MODEL THREADS TEXTS");
        return;
    };
    let root = std::env::var_os("PG_ANSWER_MODEL_PATH").expect("PG_ANSWER_MODEL_PATH");
    let encoder = Encoder::load(&Store::new(root).open(model).expect("the model")).expect("the model");
    let pool = Pool::new(threads.parse().expect("a number of threads")).expect("threads");
    let texts = std::fs::read_to_string(texts).expect("the texts");
    let (short, long) = texts.split_once("\n\n").expect("an empty line");
    let embed = |texts: &[&str]| {
        let tokens: Vec<Tokens> = texts.iter().map(|t| encoder.tokenize(t, Role::Plain).unwrap()).collect();
        std::hint::black_box(encoder.embed(&tokens, &pool, &mut || Ok(())).unwrap());
    };
    let short: Vec<&str> = short.lines().collect();
    let long: Vec<&str> = long.lines().collect();
    let batches = rate(|| short.chunks(32).for_each(embed)) * short.len() as f64;
    let passages = rate(|| embed(&long)) * long.len() as f64;
    let one = rate(|| embed(&short[..1]));
    println!("{{\"short\": {batches}, \"long\": {passages}, \"one\": {one}}}");
}
