//! The folder of installed models: `<root>/<name>/model.json` and the files that it names.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::{Card, Digest, Error, File, Result};

pub use crate::card::{CARD, is_safe_path, is_valid_name};

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

impl Store {
    /// The store in folder `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The installed model `name`. The lengths of its files are checked when [`InstalledModel::file`] asks for them.
    ///
    /// # Errors
    /// [`Error::InvalidName`], [`Error::NotInstalled`], [`Error::Io`], or [`Error::Damaged`] when the card is wrong.
    pub fn open(&self, name: &str) -> Result<InstalledModel> {
        if !is_valid_name(name) {
            return Err(Error::InvalidName(name.to_owned()));
        }
        let dir = self.root.join(name);
        let path = dir.join(CARD);
        let damaged = |reason: String| Error::Damaged { path: path.clone(), reason };
        // A pipe or a device would block or never end: look before opening.
        let is_file = match std::fs::metadata(&path) {
            Ok(m) => m.is_file(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NotInstalled { name: name.to_owned(), root: self.root.clone() });
            }
            Err(e) => return Err(Error::io(&path, e)),
        };
        if !is_file {
            return Err(damaged("it is not a file".to_owned()));
        }
        let mut text = Vec::new();
        std::fs::File::open(&path)
            .and_then(|file| file.take(MAX_CARD_BYTES + 1).read_to_end(&mut text))
            .map_err(|e| Error::io(&path, e))?;
        if text.len() as u64 > MAX_CARD_BYTES {
            return Err(damaged("too long for a model card".to_owned()));
        }
        let card: Card = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        if card.name != name {
            return Err(damaged(format!("it is the card of \"{}\"", card.name)));
        }
        card.check().map_err(damaged)?;
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
    /// [`Error::Damaged`] when the card does not name it, it lies outside the folder, or its length differs.
    pub fn file(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        match self.card.files.iter().find(|f| f.path == name && is_safe_path(name)) {
            Some(file) => self.check_length(file),
            None => Err(Error::Damaged { path, reason: "the model card does not name it".to_owned() }),
        }
    }

    /// Reads `file` and compares its SHA-256. `step` learns the bytes of each block and may stop it.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`], or what `step` returns.
    pub fn verify_file<E: From<Error>>(
        &self,
        file: &File,
        step: &mut dyn FnMut(u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let path = self.check_length(file)?;
        let mut digest = Digest::default();
        digest.update_from(&path, step)?;
        let found = digest.hex();
        if found != file.sha256 {
            let reason = format!("its SHA-256 is {found} instead of {}", file.sha256);
            return Err(Error::Damaged { path, reason }.into());
        }
        Ok(())
    }

    fn check_length(&self, file: &File) -> Result<PathBuf> {
        let path = self.dir.join(&file.path);
        let damaged = |reason: String| Error::Damaged { path: path.clone(), reason };
        match std::fs::metadata(&path) {
            Ok(m) if !m.is_file() => return Err(damaged("it is not a file".to_owned())),
            Ok(m) if m.len() != file.bytes => {
                return Err(damaged(format!("{} bytes instead of {}", m.len(), file.bytes)));
            }
            Ok(_) => {}
            Err(e) => return Err(damaged(e.to_string())),
        }
        // A symbolic link must not make the server read what lies elsewhere.
        let inside =
            || Ok::<bool, std::io::Error>(path.canonicalize()?.starts_with(self.dir.canonicalize()?));
        if !inside().map_err(|e| Error::io(&path, e))? {
            return Err(damaged("it is a link out of the model's folder".to_owned()));
        }
        Ok(path)
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
