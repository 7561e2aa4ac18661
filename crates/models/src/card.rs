//! `model.json`: what an installed model is. The puller writes it last, so a folder with a card is complete.

use serde::{Deserialize, Serialize};

/// What a model can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Text in, vector out.
    Encoder,
    /// Text in, more text out.
    Decoder,
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

impl Card {
    /// SHA-256 of the weights: what the name stands for.
    pub fn sha256(&self) -> &str {
        self.files.first().map_or("", |f| &f.sha256)
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }
}
