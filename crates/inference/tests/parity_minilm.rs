//! all-MiniLM-L6-v2 against the vectors of sentence-transformers, for 461 awkward texts.

use std::path::Path;

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
    let root = std::env::var_os("PG_ANSWER_MODEL_PATH").expect(
        "set PG_ANSWER_MODEL_PATH to the folder of models; `pg_answer_model pull all-MiniLM-L6-v2` fills it",
    );
    let model = Store::new(&root).open(MODEL).unwrap_or_else(|e| {
        panic!("{e} in {}: run `pg_answer_model pull {MODEL}`", Path::new(&root).display());
    });
    Encoder::load(&model).unwrap()
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

#[test]
fn vectors_are_near_the_reference_with_any_number_of_threads() {
    let encoder = encoder();
    let cases = cases();
    let tokens = tokenize(&encoder, &cases);
    for threads in [1, 2, 3] {
        let pool = Pool::new(threads).unwrap();
        let vectors = encoder.embed(&tokens, &pool, &mut || Ok(())).unwrap();
        assert_eq!(vectors.len(), cases.len());
        let mut worst = 0.0f32;
        for ((case, want), got) in cases.iter().zip(&vectors) {
            let difference = largest_difference(got, want);
            worst = worst.max(difference);
            assert!(difference < 1e-5, "case {}: {difference}", case.i);
            let dot = |a: &[f32], b: &[f32]| {
                a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
            };
            let cosine = dot(got, want) / (dot(got, got) * dot(want, want)).sqrt();
            assert!(cosine > 0.99999, "case {}: cosine {cosine}", case.i);
        }
        println!("{threads} threads: largest difference {worst:e}");
    }
}

#[test]
fn a_batch_equals_its_singles() {
    let encoder = encoder();
    let pool = Pool::new(2).unwrap();
    let tokens = tokenize(&encoder, &cases());
    let together = encoder.embed(&tokens, &pool, &mut || Ok(())).unwrap();
    let mut worst = 0.0f32;
    for (i, (one, want)) in tokens.iter().zip(&together).enumerate() {
        let alone = encoder.embed(std::slice::from_ref(one), &pool, &mut || Ok(())).unwrap();
        let difference = largest_difference(&alone[0], want);
        worst = worst.max(difference);
        assert!(difference <= 1e-6, "case {i}: {difference}");
    }
    println!("largest difference {worst:e}");
}
