//! The tiny models of `tests/fixtures/tiny` as installed ones.

use std::path::{Path, PathBuf};

use pg_answer_models::{Card, File, InstalledModel, Kind};
use serde::de::DeserializeOwned;

/// The configuration in the form that published models have, and in that of transformers 5.
pub const CONFIGS: [&str; 2] = ["config.json", "config.transformers5.json"];

/// A copy of a tiny model in a folder of its own.
pub struct Fixture {
    dir: tempfile::TempDir,
    pub model: InstalledModel,
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny").join(name)
}

/// `reference.json` of the tiny model `name`.
pub fn reference<T: DeserializeOwned>(name: &str) -> T {
    of(name, "reference.json")
}

/// The file `file` of the tiny model `name`.
pub fn of<T: DeserializeOwned>(name: &str, file: &str) -> T {
    serde_json::from_slice(&std::fs::read(source(name).join(file)).unwrap()).unwrap()
}

fn paths(dir: &Path, below: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{below}{}", entry.file_name().into_string().unwrap());
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(paths(&entry.path(), &format!("{name}/"))),
            false => found.push(name),
        }
    }
    found.sort();
    found
}

impl Fixture {
    /// The tiny model `name`, a model of `kind`, with its file `config` as `config.json`.
    pub fn new(name: &str, kind: Kind, config: &str) -> Self {
        let (from, dir) = (source(name), tempfile::tempdir().unwrap());
        let mut files = Vec::new();
        for path in paths(&from, "") {
            let to = match path.as_str() {
                "reference.json" | "beams.json" => continue,
                path if path == config => "config.json",
                path if CONFIGS.contains(&path) => continue,
                path => path,
            };
            let target = dir.path().join(to);
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            let content = std::fs::read(from.join(&path)).unwrap();
            std::fs::write(target, &content).unwrap();
            files.push(File { path: to.to_owned(), bytes: content.len() as u64, sha256: String::new() });
        }
        files.sort_by_key(|f| !f.path.ends_with(".safetensors") && !f.path.ends_with(".gguf"));
        Self::of(dir, name, kind, files)
    }

    /// A model of `kind` that is the GGUF file `file` alone, of architecture `name`.
    pub fn of_gguf(file: &str, name: &str, kind: Kind) -> Self {
        let mut model = Self::of(tempfile::tempdir().unwrap(), name, kind, Vec::new());
        model.set("tiny.gguf", &std::fs::read(source("gguf").join(file)).unwrap());
        model
    }

    fn of(dir: tempfile::TempDir, name: &str, kind: Kind, files: Vec<File>) -> Self {
        let card = Card {
            name: "tiny".to_owned(),
            kind,
            architecture: name.to_owned(),
            dims: None,
            context_length: 48,
            quantization: "F32".to_owned(),
            license: String::new(),
            origin: None,
            description: String::new(),
            files,
        };
        let model = InstalledModel { card, dir: dir.path().to_owned() };
        Self { dir, model }
    }

    /// Replaces the file `path`, or adds it.
    pub fn set(&mut self, path: &str, content: &[u8]) {
        std::fs::write(self.dir.path().join(path), content).unwrap();
        let bytes = content.len() as u64;
        match self.model.card.files.iter_mut().find(|f| f.path == path) {
            Some(file) => file.bytes = bytes,
            None => self.model.card.files.push(File { path: path.to_owned(), bytes, sha256: String::new() }),
        }
    }

    /// The content of the file `path`.
    pub fn get(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.dir.path().join(path)).unwrap()
    }

    /// Takes the file `path` away.
    pub fn remove(&mut self, path: &str) {
        self.model.card.files.retain(|f| f.path != path);
    }
}
