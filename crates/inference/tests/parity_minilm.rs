//! all-MiniLM-L6-v2 against the vectors of sentence-transformers, for 461 awkward texts.

use std::path::Path;

use pg_answer_inference::encoder::Kernels;
use pg_answer_inference::{Encoder, Pool, Role, Tokens};
use pg_answer_models::Store;

const MODEL: &str = "all-MiniLM-L6-v2";

#[derive(serde::Deserialize)]
struct Case {
    i: usize,
    text: String,
    ids: Vec<u32>,
    n_tokens_untruncated: usize,
}

fn encoder() -> Encoder {
    encoder_for(Kernels::Auto)
}

fn encoder_for(kernels: Kernels) -> Encoder {
    let root = std::env::var_os("PG_ANSWER_MODEL_PATH").expect(
        "set PG_ANSWER_MODEL_PATH to the folder of models; `pg_answer_model pull all-MiniLM-L6-v2` fills it",
    );
    let model = Store::new(&root).open(MODEL).unwrap_or_else(|e| {
        panic!("{e} in {}: run `pg_answer_model pull {MODEL}`", Path::new(&root).display());
    });
    Encoder::load_for(&model, kernels).unwrap()
}

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/embed").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All cases with their vectors. The .npy is version 1.0 with a header of 128 bytes, then float32.
fn cases() -> Vec<(Case, Vec<f32>)> {
    let lines = String::from_utf8(fixture("minilm_reference.jsonl")).unwrap();
    let npy = fixture("minilm_reference.npy");
    let values: Vec<f32> = npy[128..].as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let vectors: Vec<&[f32]> = values.chunks_exact(384).collect();
    let cases: Vec<Case> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((cases.len(), vectors.len()), (461, 461));
    cases.into_iter().map(|case| (vectors[case.i].to_vec(), case)).map(|(v, c)| (c, v)).collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn tokenize(encoder: &Encoder, cases: &[(Case, Vec<f32>)]) -> Vec<Tokens> {
    cases.iter().map(|(case, _)| encoder.tokenize(&case.text, Role::Plain).unwrap()).collect()
}

#[test]
fn token_ids_and_counts_are_equal() {
    let encoder = encoder();
    assert_eq!((encoder.dims(), encoder.max_tokens()), (384, 256));
    for (case, _) in cases() {
        let tokens = encoder.tokenize(&case.text, Role::Plain).unwrap();
        assert_eq!(tokens.ids, case.ids, "case {}: {:?}", case.i, case.text);
        assert_eq!(tokens.untruncated, case.n_tokens_untruncated, "case {}", case.i);
        assert_eq!(encoder.count_tokens(&case.text).unwrap(), case.n_tokens_untruncated, "case {}", case.i);
    }
}

/// The vocabulary of the image against the tokenizers library, where texts are glued together.
#[test]
fn token_ids_are_those_of_the_library() {
    let [mapped, library] = [Kernels::Auto, Kernels::Candle].map(encoder_for);
    let cases = cases();
    for pair in cases.windows(2) {
        let text = format!("{}{}", pair[0].0.text, pair[1].0.text);
        let [got, want] = [&mapped, &library].map(|encoder| encoder.tokenize(&text, Role::Plain).unwrap());
        assert_eq!(got, want, "{text:?}");
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn candle_computes_the_reference() {
    let encoder = encoder_for(Kernels::Candle);
    let cases = cases();
    let tokens = tokenize(&encoder, &cases);
    let vectors = encoder.embed(&tokens, &Pool::new(1).unwrap(), &mut || Ok(())).unwrap();
    for ((case, want), got) in cases.iter().zip(&vectors) {
        let difference = largest_difference(got, want);
        assert!(difference < 1e-5, "case {}: {difference}", case.i);
        assert!(cosine(got, want) > 0.99999, "case {}", case.i);
    }
}

#[test]
fn kernels_are_near_the_reference() {
    let encoder = encoder();
    let cases = cases();
    let tokens = tokenize(&encoder, &cases);
    let vectors = encoder.embed(&tokens, &Pool::new(2).unwrap(), &mut || Ok(())).unwrap();
    assert_eq!(vectors.len(), cases.len());
    let cosines: Vec<f64> = cases.iter().zip(&vectors).map(|((_, want), got)| cosine(got, want)).collect();
    let worst = cosines.iter().copied().fold(1.0, f64::min);
    let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
    println!("cosine to the reference: mean {mean:.7}, least {worst:.7}");
    assert!(worst >= 0.999, "least cosine {worst}");
    assert!(mean >= 0.9999, "mean cosine {mean}");
}

#[test]
fn vectors_depend_on_nothing_but_their_text() {
    let encoder = encoder();
    let tokens = tokenize(&encoder, &cases());
    let embed = |tokens: &[Tokens], threads| {
        encoder.embed(tokens, &Pool::new(threads).unwrap(), &mut || Ok(())).unwrap()
    };
    let together = embed(&tokens, 2);
    assert!(embed(&tokens, 1) == together, "other vectors with one thread");
    assert!(embed(&tokens, 3) == together, "other vectors with three threads");
    let pools = [Pool::new(1).unwrap(), Pool::new(2).unwrap()];
    for (i, (one, want)) in tokens.iter().zip(&together).enumerate() {
        let alone = encoder.embed(std::slice::from_ref(one), &pools[i % 2], &mut || Ok(())).unwrap();
        assert!(alone[0] == *want, "case {i} by itself");
    }
}
