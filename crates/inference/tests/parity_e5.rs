//! multilingual-e5-small in Q4_0 against PyTorch: the folder that PG_ANSWER_E5_PATH names has its files, and
//! PG_ANSWER_FIXTURES the references and retrieval sets.

use std::collections::HashMap;
use std::path::PathBuf;

use pg_answer_inference::encoder::Kernels;
use pg_answer_inference::{Encoder, Pool, Role, Tokens};
use pg_answer_models::{Card, File, InstalledModel, Kind};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    i: usize,
    text: String,
    ids: Vec<u32>,
    ids_llama_cpp: Option<Vec<u32>>,
}

#[derive(Deserialize)]
struct Line {
    id: serde_json::Value,
    text: String,
}

fn folder(variable: &str) -> PathBuf {
    std::env::var_os(variable).map(PathBuf::from).unwrap_or_else(|| panic!("{variable} is not set"))
}

const CONFIG: [&str; 7] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
];

/// The model, with or without the files beside the GGUF.
fn model(whole: bool) -> InstalledModel {
    let dir = folder("PG_ANSWER_E5_PATH");
    let names = std::iter::once("multilingual-e5-small-q4_0.gguf");
    let files = names.chain(CONFIG.into_iter().filter(|_| whole)).map(|path| {
        let bytes = std::fs::metadata(dir.join(path)).unwrap().len();
        File { path: path.to_owned(), bytes, sha256: String::new() }
    });
    let card = Card {
        name: "e5".to_owned(),
        kind: Kind::Encoder,
        architecture: "bert".to_owned(),
        dims: Some(384),
        context_length: 512,
        quantization: "Q4_0".to_owned(),
        license: "MIT".to_owned(),
        origin: None,
        description: String::new(),
        files: files.collect(),
    };
    InstalledModel { card, dir: dir.clone() }
}

fn lines<T: for<'a> Deserialize<'a>>(path: &str) -> Vec<T> {
    let path = folder("PG_ANSWER_FIXTURES").join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn vectors() -> Vec<Vec<f32>> {
    let bytes =
        std::fs::read(folder("PG_ANSWER_FIXTURES").join("embed/e5_multilingual_reference.npy")).unwrap();
    let values: Vec<f32> = bytes[128..].as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    values.chunks_exact(384).map(<[f32]>::to_vec).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[test]
fn ids_are_those_of_the_tokenizer_file_or_of_llama_cpp() {
    let (whole, bare) = (Encoder::load(&model(true)).unwrap(), Encoder::load(&model(false)).unwrap());
    let mut other = Vec::new();
    for case in lines::<Case>("embed/e5_multilingual_reference.jsonl") {
        assert_eq!(whole.tokenize(&case.text, Role::Plain).unwrap().ids, case.ids, "{}", case.i);
        let want = case.ids_llama_cpp.unwrap_or(case.ids);
        if bare.tokenize(&case.text, Role::Plain).unwrap().ids != want {
            other.push(case.i);
        }
    }
    // Decomposed accents and Hangul, and half-width kana with voicing marks: the library replaces whole graphemes,
    // llama.cpp the longest match.
    assert_eq!(other, [78, 102, 108, 110]);
}

#[test]
fn vectors_are_those_of_the_reference() {
    let pool = Pool::new(2).unwrap();
    let want = vectors();
    for (kernels, least) in [(Kernels::Exact, 0.999_999), (Kernels::Auto, 0.9995)] {
        let encoder = Encoder::load_for(&model(true), kernels).unwrap();
        let tokens: Vec<Tokens> = lines::<Case>("embed/e5_multilingual_reference.jsonl")
            .into_iter()
            .map(|case| Tokens { untruncated: case.ids.len(), ids: case.ids })
            .collect();
        let got = encoder.embed(&tokens, &pool, &mut || Ok(())).unwrap();
        assert_eq!(got.len(), want.len());
        let mut worst = (1.0_f64, 0.0_f32);
        for (got, want) in got.iter().zip(&want) {
            let difference = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            worst = (worst.0.min(dot(got, want)), worst.1.max(difference));
        }
        println!("{kernels:?}: least cosine {:.7}, largest difference {:e}", worst.0, worst.1);
        assert!(worst.0 >= least && (kernels == Kernels::Auto || worst.1 < 1e-5));
    }
}

/// nDCG@10 of the questions of `queries` over the passages of `corpus`, which have the same ids.
fn ndcg(encoder: &Encoder, pool: &Pool, queries: &str, corpus: &str) -> f64 {
    let embed = |path: &str, role| -> Vec<(String, Vec<f32>)> {
        let lines = lines::<Line>(path);
        let tokens: Vec<Tokens> =
            lines.iter().map(|line| encoder.tokenize(&line.text, role).unwrap()).collect();
        let vectors = encoder.embed(&tokens, pool, &mut || Ok(())).unwrap();
        let key = |id: &serde_json::Value| id.as_str().map_or_else(|| id.to_string(), str::to_owned);
        lines.iter().zip(vectors).map(|(line, vector)| (key(&line.id), vector)).collect()
    };
    let passages = embed(&format!("retrieval/{corpus}/corpus.jsonl"), Role::Document);
    let questions = embed(&format!("retrieval/{queries}/queries.jsonl"), Role::Query);
    let path = folder("PG_ANSWER_FIXTURES").join(format!("retrieval/{queries}/qrels.tsv"));
    let mut relevant: HashMap<String, Vec<String>> = HashMap::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let parts: Vec<&str> = line.split('\t').collect();
        if parts[2] != "0" {
            relevant.entry(parts[0].to_owned()).or_default().push(parts[1].to_owned());
        }
    }
    let gain = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
    let mut sum = 0.0;
    for (id, question) in &questions {
        let wanted = relevant.get(id).map_or(&[][..], Vec::as_slice);
        let mut order: Vec<(f64, &str)> =
            passages.iter().map(|(id, passage)| (dot(question, passage), id.as_str())).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        let top = order.iter().take(10).enumerate();
        let found: f64 =
            top.filter(|(_, (_, id))| wanted.iter().any(|w| w == id)).map(|(i, _)| gain(i)).sum();
        let ideal: f64 = (0..wanted.len().min(10)).map(gain).sum();
        sum += if ideal > 0.0 { found / ideal } else { 0.0 };
    }
    sum / questions.len() as f64
}

#[test]
fn questions_find_their_passages_across_languages() {
    let pool = Pool::new(2).unwrap();
    let encoder = Encoder::load(&model(true)).unwrap();
    for (queries, corpus, want) in
        [("xquad_zh", "xquad_zh", 0.9490), ("xquad_zh", "xquad_en", 0.7938), ("xquad_en", "xquad_en", 0.9608)]
    {
        let got = ndcg(&encoder, &pool, queries, corpus);
        println!("{queries} → {corpus}: nDCG@10 {got:.4}, reference {want}");
        assert!((got - want).abs() < 0.005, "{queries} → {corpus}: {got}");
    }
}
