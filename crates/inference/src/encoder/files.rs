//! Reading a model's files with limits, and naming them in errors.

use std::io::Read;

use pg_answer_models::InstalledModel;
use serde::de::DeserializeOwned;

use super::config::parse;
use crate::decoder::gguf::Gguf;
use crate::{Error, Result};

/// Configuration files are small; a longer one is not one.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// The files of a model.
pub struct Files<'a> {
    model: &'a InstalledModel,
    /// Folder of the network's files inside the model's, "" or "name/".
    folder: String,
}

impl<'a> Files<'a> {
    /// The files of `model`.
    pub fn new(model: &'a InstalledModel) -> Self {
        Self { model, folder: String::new() }
    }

    /// From now on names are looked up in `folder` of the model's folder.
    pub fn set_folder(&mut self, folder: &str) {
        let is_root = matches!(folder, "" | ".");
        self.folder = if is_root { String::new() } else { format!("{folder}/") };
    }

    /// The file `name` as JSON, or none when the model's card does not name it.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`] when it is no such JSON, or too long.
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        self.json_at_root(&format!("{}{name}", self.folder))
    }

    /// As [`Files::json`] for a file that lies in the model's folder itself.
    ///
    /// # Errors
    /// As [`Files::json`].
    pub fn json_at_root<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        if !self.model.card.files.iter().any(|f| f.path == path) {
            return Ok(None);
        }
        let text = self.read_at_root(path, MAX_CONFIG_BYTES)?;
        let parsed = parse(&text).map_err(|reason| self.damaged_at_root(path, reason))?;
        Ok(Some(parsed))
    }

    /// The file `name` as JSON.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`] when it is missing, too long, or no such JSON.
    pub fn required<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        self.json(name)?.ok_or_else(|| self.damaged(name, "the model card does not name it".to_owned()))
    }

    /// The content of the file `name`.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`] when it is missing or longer than `limit` bytes.
    pub fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        self.read_at_root(&format!("{}{name}", self.folder), limit)
    }

    /// The model's GGUF file, when that is what holds its weights.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`] when it is none.
    pub fn gguf(&self) -> Result<Option<Gguf>> {
        match self.weights_name().ends_with(".gguf") {
            true => Gguf::open(&self.model.weights()?).map(Some),
            false => Ok(None),
        }
    }

    /// Whether the model's card names the file `name`.
    pub fn has(&self, name: &str) -> bool {
        let path = format!("{}{name}", self.folder);
        self.model.card.files.iter().any(|f| f.path == path)
    }

    /// The model.
    pub fn model(&self) -> &InstalledModel {
        self.model
    }

    fn weights_name(&self) -> &str {
        self.model.card.files.first().map_or("", |f| &f.path)
    }

    fn read_at_root(&self, path: &str, limit: u64) -> Result<Vec<u8>> {
        let file = self.model.file(path)?;
        let io = |source| pg_answer_models::Error::Io { path: file.clone(), source };
        let opened = std::fs::File::open(&file).map_err(io)?;
        let length = opened.metadata().map_err(io)?.len();
        if length > limit {
            return Err(
                self.damaged_at_root(path, format!("{length} bytes, more than the {limit} that are read"))
            );
        }
        let mut content = Vec::new();
        content
            .try_reserve_exact(usize::try_from(length).unwrap_or(usize::MAX))
            .map_err(|e| self.damaged_at_root(path, e.to_string()))?;
        opened.take(length).read_to_end(&mut content).map_err(io)?;
        Ok(content)
    }

    /// An error about the file `name`.
    pub fn damaged(&self, name: &str, reason: String) -> Error {
        self.damaged_at_root(&format!("{}{name}", self.folder), reason)
    }

    /// An error about the weights.
    pub fn damaged_weights(&self, reason: String) -> Error {
        self.damaged_at_root(self.weights_name(), reason)
    }

    fn damaged_at_root(&self, path: &str, reason: String) -> Error {
        pg_answer_models::Error::Damaged { path: self.model.dir.join(path), reason }.into()
    }

    /// An error about the model as a whole.
    pub fn unsupported(&self, reason: String) -> Error {
        Error::Unsupported { model: self.model.card.name.clone(), reason }
    }
}
