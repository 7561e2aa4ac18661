//! The folder of installed models: `<root>/<name>/model.json` and the files that it names.

use std::path::{Path, PathBuf};

use crate::{Card, Error, Result};

/// Name of the card inside a model's folder.
pub const CARD: &str = "model.json";

/// Cards are small; a larger file is not one.
const MAX_CARD_BYTES: u64 = 1 << 20;

/// The folder of installed models.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// A model whose card has been read.
#[derive(Debug, Clone)]
pub struct InstalledModel {
    /// What it is.
    pub card: Card,
    /// Its folder.
    pub dir: PathBuf,
}

/// Whether `name` can be a model's name: `^[A-Za-z0-9][A-Za-z0-9._-]*$`, at most 128 bytes.
pub fn is_valid_name(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

impl Store {
    /// The store in folder `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The installed model `name`.
    ///
    /// # Errors
    /// [`Error::InvalidName`], [`Error::NotInstalled`], or [`Error::Damaged`] when the card or a file's length is wrong.
    pub fn open(&self, name: &str) -> Result<InstalledModel> {
        if !is_valid_name(name) {
            return Err(Error::InvalidName(name.to_owned()));
        }
        let dir = self.root.join(name);
        let path = dir.join(CARD);
        let length = match std::fs::metadata(&path) {
            Ok(m) => m.len(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NotInstalled { name: name.to_owned(), root: self.root.clone() });
            }
            Err(source) => return Err(Error::Io { path, source }),
        };
        if length > MAX_CARD_BYTES {
            return Err(Error::Damaged { path, reason: "too long for a model card".to_owned() });
        }
        let text = std::fs::read(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        let card: Card = serde_json::from_slice(&text)
            .map_err(|e| Error::Damaged { path: path.clone(), reason: e.to_string() })?;
        if card.name != name {
            return Err(Error::Damaged { path, reason: format!("it is the card of \"{}\"", card.name) });
        }
        Ok(InstalledModel { card, dir })
    }

    /// All installed models in the order of their names; folders without a card are passed over.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder exists but cannot be read. A damaged card is an item of the list.
    pub fn list(&self) -> Result<Vec<Result<InstalledModel>>> {
        let entries = match std::fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(Error::Io { path: self.root.clone(), source }),
        };
        let mut names: Vec<String> = entries
            .filter_map(|e| e.ok()?.file_name().into_string().ok())
            .filter(|name| is_valid_name(name) && self.root.join(name).join(CARD).exists())
            .collect();
        names.sort();
        Ok(names.iter().map(|name| self.open(name)).collect())
    }
}

impl InstalledModel {
    /// Path of the file that the card calls `name`, after a check of its length.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the card does not name it, its path leaves the folder, or its length differs.
    pub fn file(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        let damaged = |reason: String| Error::Damaged { path: path.clone(), reason };
        let safe = Path::new(name).components().all(|c| matches!(c, std::path::Component::Normal(_)));
        let file = self.card.files.iter().find(|f| f.path == name && safe);
        let file = file.ok_or_else(|| damaged("the model card does not name it".to_owned()))?;
        match std::fs::metadata(&path) {
            Ok(m) if m.len() == file.bytes => Ok(path),
            Ok(m) => Err(damaged(format!("{} bytes instead of {}", m.len(), file.bytes))),
            Err(e) => Err(damaged(e.to_string())),
        }
    }

    /// Path of the weights, the card's first file.
    ///
    /// # Errors
    /// As [`InstalledModel::file`].
    pub fn weights(&self) -> Result<PathBuf> {
        let first = self.card.files.first().map(|f| f.path.clone()).unwrap_or_default();
        self.file(&first)
    }
}
