//! `model.json`: what an installed model is. The puller writes it last, so a folder with a card is complete.

use std::collections::HashSet;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

/// Name of the card inside a model's folder.
pub const CARD: &str = "model.json";

/// What a model can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Text in, vector out.
    Encoder,
    /// Text in, more text out.
    Decoder,
    /// A question and a passage in, a score out.
    CrossEncoder,
    /// Text in, another text about it out.
    EncoderDecoder,
}

/// What an installed model is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// Name in SQL, and of the folder.
    pub name: String,
    /// What it can be asked for.
    pub kind: Kind,
    /// Model family: `bert`, `qwen2`, ...
    pub architecture: String,
    /// Elements of the vectors it makes; encoders only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dims: Option<usize>,
    /// Most tokens it reads at once.
    pub context_length: usize,
    /// How its weights are stored: `F32`, `Q4_K_M`, ...
    pub quantization: String,
    /// SPDX name of its licence.
    pub license: String,
    /// Where it was taken from on trust, for models in no catalogue or without hashes there: `owner/name@commit` on the
    /// Hugging Face hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// Its files; the first holds the weights.
    pub files: Vec<File>,
}

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Path inside the model's folder.
    pub path: String,
    /// Length.
    pub bytes: u64,
    /// SHA-256 of the content, lower-case hex.
    pub sha256: String,
}

impl Kind {
    /// The word for it in cards, tables and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Encoder => "encoder",
            Self::Decoder => "decoder",
            Self::CrossEncoder => "cross-encoder",
            Self::EncoderDecoder => "encoder-decoder",
        }
    }
}

impl Card {
    /// SHA-256 of the weights: what the name stands for.
    pub fn sha256(&self) -> &str {
        self.files.first().map_or("", |f| &f.sha256)
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, f| sum.saturating_add(f.bytes))
    }

    /// Whether its name, paths, hashes and numbers can be a model's. It looks at no file.
    ///
    /// # Errors
    /// What is wrong, in a sentence.
    pub fn check(&self) -> Result<(), String> {
        if !is_valid_name(&self.name) {
            return Err(format!("\"{}\" is no name of a model", self.name));
        }
        if self.files.is_empty() {
            return Err("it names no files".to_owned());
        }
        if self.context_length == 0 {
            return Err("its context length is 0".to_owned());
        }
        match (self.kind, self.dims) {
            (Kind::Encoder, None | Some(0)) => return Err("it is an encoder without dimensions".to_owned()),
            (Kind::Decoder | Kind::CrossEncoder | Kind::EncoderDecoder, Some(_)) => {
                return Err(format!("it is of kind {} and has dimensions", self.kind.as_str()));
            }
            _ => {}
        }
        let mut paths = HashSet::new();
        for file in &self.files {
            let path = &file.path;
            if !is_safe_path(path) {
                return Err(format!("\"{path}\" is no path inside the model's folder"));
            }
            if path == CARD || !paths.insert(path) {
                return Err(format!("it names \"{path}\" twice"));
            }
            let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            if file.sha256.len() != 64 || !file.sha256.bytes().all(hex) {
                return Err(format!("the SHA-256 of \"{path}\" is not 64 lower-case hex digits"));
            }
        }
        Ok(())
    }
}

/// Whether `name` can be a model's name: `^[A-Za-z0-9][A-Za-z0-9._-]*$`, at most 128 bytes.
pub fn is_valid_name(name: &str) -> bool {
    name.len() <= 128 && is_word(name)
}

/// Whether `word` is harmless as a path component and as an argument of a command.
pub(crate) fn is_word(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphanumeric())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// Whether `path` is relative, stays below where it starts, and is spelt in the one plain way.
pub fn is_safe_path(path: &str) -> bool {
    let components: Vec<Component> = Path::new(path).components().collect();
    let plain = components.iter().all(|c| matches!(c, Component::Normal(_)));
    let spelling: Vec<_> = components.iter().filter_map(|c| c.as_os_str().to_str()).collect();
    !path.is_empty() && plain && !path.contains('\0') && spelling.join("/") == path
}
