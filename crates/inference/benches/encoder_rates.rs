//! The encoder beside ONNX Runtime and OpenVINO: `benches/peers/encoder.py`, run by the Python that `PG_ANSWER_PEERS`
//! names. With arguments this is one round of it, in JSON, with the texts per second of a model.
//!
//! Arguments: the model's name, the number of threads, and a file of texts, one a line: the first is embedded by
//! itself, an empty line ends the short texts, after it come passages. PG_ANSWER_MODEL_PATH is the folder of models.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
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

fn beside_peers(root: &OsStr) {
    let Some(python) = std::env::var_os("PG_ANSWER_PEERS") else {
        println!("encoders: PG_ANSWER_PEERS names no Python with their peers");
        return;
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let status = Command::new(python)
        .arg(source.join("benches/peers/encoder.py"))
        .arg(std::env::current_exe().expect("the name of this program"))
        .args([Path::new(root).join("all-MiniLM-L6-v2"), source.join("tests/fixtures")])
        .status();
    assert!(status.expect("the Python of PG_ANSWER_PEERS").success(), "benches/peers/encoder.py failed");
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let root = std::env::var_os("PG_ANSWER_MODEL_PATH").expect("PG_ANSWER_MODEL_PATH");
    let [model, threads, texts] = &arguments[..] else { return beside_peers(&root) };
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
