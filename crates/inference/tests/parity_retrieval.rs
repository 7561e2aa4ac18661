//! How well all-MiniLM-L6-v2 finds what was judged relevant, beside what it finds in f32 (sentence-transformers, exact
//! cosine over all passages, 256 tokens; `tests/fixtures/retrieval/SOURCES.md`).

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use pg_answer_inference::{Encoder, Pool, Role, Tokens};
use pg_answer_models::Store;

/// Rows of the ranking that count.
const DEPTH: usize = 10;
/// How much may be lost to rounding.
const TOLERANCE: f64 = 0.003;

#[derive(serde::Deserialize)]
struct Text {
    id: String,
    text: String,
}

fn read(set: &str, file: &str) -> String {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/retrieval").join(set).join(file);
    let opened = std::fs::File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut text = String::new();
    GzDecoder::new(opened).read_to_string(&mut text).unwrap();
    text
}

fn texts(set: &str, file: &str) -> Vec<Text> {
    read(set, file).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn embed(encoder: &Encoder, pool: &Pool, texts: &[Text]) -> Vec<Vec<f32>> {
    let tokens: Vec<Tokens> =
        texts.iter().map(|text| encoder.tokenize(&text.text, Role::Plain).unwrap()).collect();
    encoder.embed(&tokens, pool, &mut || Ok(())).unwrap()
}

/// The mean over the queries of nDCG@10, each relevant passage with a gain of 1 (Järvelin and Kekäläinen 2002).
fn ndcg(set: &str) -> f64 {
    let root =
        std::env::var_os("PG_ANSWER_MODEL_PATH").expect("set PG_ANSWER_MODEL_PATH to the folder of models");
    let encoder = Encoder::load(&Store::new(root).open("all-MiniLM-L6-v2").unwrap()).unwrap();
    let pool = Pool::new(2).unwrap();
    let (corpus, queries) = (texts(set, "corpus.jsonl.gz"), texts(set, "queries.jsonl.gz"));
    let mut relevant: HashMap<String, HashSet<String>> = HashMap::new();
    for line in read(set, "qrels.tsv.gz").lines() {
        let [query, passage, grade] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        if grade != "0" {
            relevant.entry(query.to_owned()).or_default().insert(passage.to_owned());
        }
    }
    let (passages, questions) = (embed(&encoder, &pool, &corpus), embed(&encoder, &pool, &queries));
    let discount = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
    let gain = |(query, question): (&Text, &Vec<f32>)| {
        let judged = &relevant[&query.id];
        let cosine = |passage: &Vec<f32>| question.iter().zip(passage).map(|(a, b)| a * b).sum::<f32>();
        let mut ranked: Vec<(f32, usize)> = passages.iter().map(cosine).zip(0..).collect();
        ranked.sort_by(|(a, i), (b, j)| b.total_cmp(a).then(i.cmp(j)));
        let found = ranked[..DEPTH].iter().enumerate().filter(|(_, (_, i))| judged.contains(&corpus[*i].id));
        let ideal: f64 = (0..judged.len().min(DEPTH)).map(discount).sum();
        found.map(|(rank, _)| discount(rank)).sum::<f64>() / ideal
    };
    queries.iter().zip(&questions).map(gain).sum::<f64>() / queries.len() as f64
}

#[test]
fn what_is_found_is_as_good_as_in_f32() {
    for (set, reference) in [("cranfield", 0.4215), ("xquad_en", 0.9366)] {
        let got = ndcg(set);
        println!("{set}: nDCG@10 {got:.4}, in f32 {reference}");
        assert!(got > reference - TOLERANCE && got < reference + TOLERANCE, "{set}: {got}, not {reference}");
    }
}
