//! What can be wrong with a model's name, folder or files.

use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong with a model's name, folder or files.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name could not be a model's: it must match `^[A-Za-z0-9][A-Za-z0-9._-]*$`.
    #[error("invalid model name: \"{0}\"")]
    InvalidName(String),
    /// No folder of that name is in the store.
    #[error("model \"{name}\" is not installed")]
    NotInstalled {
        /// The model that was asked for.
        name: String,
        /// The store it was looked for in.
        root: PathBuf,
    },
    /// A file is missing, cut, or not what the card says.
    #[error("model file \"{}\" is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system refused to read or write a file.
    #[error("could not access \"{}\": {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    /// [`Error::Io`] about `path`.
    pub fn io(path: impl AsRef<Path>, source: impl Into<std::io::Error>) -> Self {
        Self::Io { path: path.as_ref().to_owned(), source: source.into() }
    }
}
