//! A copy of the tiny BERT whose files can be changed.

use std::path::{Path, PathBuf};

use half::{bf16, f16};
use pg_answer_models::{Card, File, InstalledModel, Kind};
use serde_json::{Map, Value};

/// Its files; the weights come first.
pub const FILES: [&str; 6] = [
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "sentence_bert_config.json",
    "modules.json",
];

/// A text of the reference.
#[derive(serde::Deserialize)]
pub struct Case {
    pub text: String,
    pub input_ids: Vec<u32>,
    pub embedding: Vec<f32>,
}

/// A tiny BERT in a folder of its own.
pub struct TinyModel {
    dir: tempfile::TempDir,
    files: Vec<String>,
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny/bert_cls")
}

/// The texts of the reference.
pub fn read_reference() -> Vec<Case> {
    #[derive(serde::Deserialize)]
    struct Reference {
        cases: Vec<Case>,
    }
    let text = std::fs::read(fixture().join("reference.json")).unwrap();
    serde_json::from_slice::<Reference>(&text).unwrap().cases
}

impl TinyModel {
    /// An unchanged copy.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("1_Pooling")).unwrap();
        let files: Vec<String> =
            FILES.iter().chain(&["1_Pooling/config.json"]).map(|f| (*f).to_owned()).collect();
        for file in &files {
            std::fs::copy(fixture().join(file), dir.path().join(file)).unwrap();
        }
        Self { dir, files }
    }

    /// The model with a card that fits its files.
    pub fn open(&self) -> InstalledModel {
        let file = |path: &String| {
            let bytes = std::fs::metadata(self.dir.path().join(path)).unwrap().len();
            File { path: path.clone(), bytes, sha256: String::new() }
        };
        let card = Card {
            name: "tiny".to_owned(),
            kind: Kind::Encoder,
            architecture: "bert".to_owned(),
            dims: None,
            context_length: 48,
            quantization: "F32".to_owned(),
            license: String::new(),
            origin: None,
            description: String::new(),
            files: self.files.iter().map(file).collect(),
        };
        InstalledModel { card, dir: self.dir.path().to_owned() }
    }

    /// The content of a file.
    pub fn get(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.dir.path().join(file)).unwrap()
    }

    /// Replaces or adds a file.
    pub fn set(&mut self, file: &str, content: &[u8]) {
        std::fs::write(self.dir.path().join(file), content).unwrap();
        if !self.files.iter().any(|f| f == file) {
            self.files.push(file.to_owned());
        }
    }

    /// Removes a file, from the card too.
    pub fn remove(&mut self, file: &str) {
        self.files.retain(|f| f != file);
    }

    /// Changes a JSON file.
    pub fn edit(&mut self, file: &str, edit: impl FnOnce(&mut Value)) {
        let mut json = serde_json::from_slice(&self.get(file)).unwrap();
        edit(&mut json);
        self.set(file, json.to_string().as_bytes());
    }

    fn weights(&self) -> (Map<String, Value>, Vec<u8>) {
        let content = self.get(FILES[0]);
        let length = u64::from_le_bytes(*content.first_chunk().unwrap()) as usize;
        (serde_json::from_slice(&content[8..8 + length]).unwrap(), content[8 + length..].to_vec())
    }

    fn set_weights(&mut self, header: &Map<String, Value>, data: &[u8]) {
        let header = serde_json::to_vec(header).unwrap();
        let length = (header.len() as u64).to_le_bytes();
        self.set(FILES[0], &[&length, &header[..], data].concat());
    }

    /// Changes the header of the weights.
    pub fn edit_header(&mut self, edit: impl FnOnce(&mut Map<String, Value>)) {
        let (mut header, data) = self.weights();
        edit(&mut header);
        self.set_weights(&header, &data);
    }

    /// Rounds all F32 tensors to `dtype`, F16 or BF16.
    pub fn narrow(&mut self, dtype: &str) {
        let (mut header, data) = self.weights();
        let mut tensors: Vec<_> = header.iter_mut().filter(|(name, _)| *name != "__metadata__").collect();
        let offset = |t: &Value, i: usize| t["data_offsets"][i].as_u64().unwrap() as usize;
        tensors.sort_by_key(|(_, t)| offset(t, 0));
        let mut narrow: Vec<u8> = Vec::new();
        for (_, tensor) in tensors {
            let start = narrow.len();
            let old = &data[offset(tensor, 0)..offset(tensor, 1)];
            if tensor["dtype"] == "F32" {
                for x in old.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)) {
                    let two = if dtype == "F16" {
                        f16::from_f32(x).to_le_bytes()
                    } else {
                        bf16::from_f32(x).to_le_bytes()
                    };
                    narrow.extend(two);
                }
                tensor["dtype"] = dtype.into();
            } else {
                narrow.extend(old);
            }
            tensor["data_offsets"] = serde_json::json!([start, narrow.len()]);
        }
        self.set_weights(&header, &narrow);
    }

    /// Makes all weights NaN.
    pub fn poison(&mut self) {
        let (header, mut data) = self.weights();
        data.fill(0xff);
        self.set_weights(&header, &data);
    }
}
