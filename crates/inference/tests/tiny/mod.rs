//! A tiny random model whose logits are known, for the tests of the decoder.
#![allow(dead_code, missing_docs)] // each of them uses a part

use std::path::{Path, PathBuf};

use pg_answer_inference::decoder::gguf::Gguf;
use pg_answer_inference::decoder::{Decoder, GenerateOptions, Message, Prompt, Sampling};
use pg_answer_inference::{Pool, Result};
use pg_answer_models::{Card, File, InstalledModel, Kind};
use serde::Deserialize;

#[derive(Deserialize)]
pub struct Reference {
    pub files: Files,
    pub chat_template_check: Chat,
}

#[derive(Deserialize)]
pub struct Files {
    pub f32: Model,
    pub q8_0: Model,
}

#[derive(Deserialize)]
pub struct Model {
    pub file: String,
    pub cases: Vec<Case>,
}

#[derive(Deserialize)]
pub struct Case {
    pub text: String,
    pub input_ids: Vec<u32>,
    pub last_logits: Vec<f32>,
    #[serde(default)]
    pub greedy_ids: Vec<u32>,
}

#[derive(Deserialize)]
pub struct Chat {
    pub prompt: String,
}

pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny/qwen2_gguf")
}

pub fn reference() -> Reference {
    serde_json::from_str(&std::fs::read_to_string(folder().join("reference.json")).unwrap()).unwrap()
}

/// The tiny model, its weights in 8 bits, as one that is installed in `dir`.
pub fn model(dir: &Path) -> InstalledModel {
    model_of(dir, "tiny-qwen2-q8_0.gguf", 0, "Q8_0")
}

/// The tiny model as a file of so many `bytes` in `dir`.
pub fn model_of(dir: &Path, file: &str, bytes: u64, quantization: &str) -> InstalledModel {
    let file = File { path: file.to_owned(), bytes, sha256: "0".repeat(64) };
    let card = Card {
        name: "tiny".to_owned(),
        kind: Kind::Decoder,
        architecture: "qwen2".to_owned(),
        dims: None,
        context_length: 256,
        quantization: quantization.to_owned(),
        license: "PostgreSQL".to_owned(),
        origin: None,
        description: String::new(),
        files: vec![file],
    };
    InstalledModel { card, dir: dir.to_owned() }
}

pub fn read(bytes: Vec<u8>, pool: &Pool) -> Result<Decoder> {
    let gguf = Gguf::from_source(Box::new(bytes), Path::new("tiny.gguf"))?;
    Decoder::from_gguf(&gguf, &model(Path::new("")), pool, &mut || Ok(()))
}

pub fn load(file: &str, pool: &Pool) -> Decoder {
    read(std::fs::read(folder().join(file)).unwrap(), pool).unwrap()
}

pub fn options(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        max_tokens,
        sampling: Sampling::default(),
        stop: Vec::new(),
        draft: true,
        max_memory: usize::MAX,
    }
}

pub fn message(content: &str) -> Message {
    Message { role: "user".to_owned(), content: content.to_owned() }
}

pub fn prompt(ids: &[u32]) -> Prompt {
    Prompt { text: String::new(), ids: ids.to_vec(), fixed: 0 }
}
