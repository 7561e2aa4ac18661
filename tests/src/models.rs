//! The store of installed models, and damaged copies of it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::{DECODER, ENCODER};

/// Environment variable that names the store.
pub const STORE_VARIABLE: &str = "PG_ANSWER_MODEL_PATH";

/// A folder of installed models.
#[derive(Debug)]
pub struct ModelStore {
    path: PathBuf,
    /// Of a copy: the store that it was made of, and the guard that removes the copy.
    copy_of: Option<(PathBuf, tempfile::TempDir)>,
}

impl ModelStore {
    /// The store of the environment with both models that the tests need.
    ///
    /// # Errors
    /// With what to run, when the variable is not set or a model is missing.
    pub fn find() -> Result<Self> {
        let path = std::env::var_os(STORE_VARIABLE).map(PathBuf::from).with_context(|| {
            format!("{STORE_VARIABLE} is not set: run `make test`, or set it to a folder of installed models")
        })?;
        for model in [ENCODER, DECODER] {
            ensure!(
                path.join(model).join("model.json").exists(),
                "model {model} is not in {}: run `pg_answer_model pull {model} --model-path {0}`",
                path.display()
            );
        }
        Ok(Self { path, copy_of: None })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A store whose models are this one's through hard links, or copies on another file system;
    /// [`ModelStore::replace`] turns a link into a file of its own. Every user can read it.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn copy(&self) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("pg_answer_models.").tempdir()?;
        readable_by_all(folder.path())?;
        let path = folder.path().to_owned();
        let copy = Self { path, copy_of: Some((self.path.clone(), folder)) };
        [ENCODER, DECODER].iter().try_for_each(|model| copy.restore(model))?;
        Ok(copy)
    }

    /// Replaces a file of a [copy](Self::copy) by `change` of its content, and states the new length in the card,
    /// so that only the reader of the file itself can notice. Prepared files, which would be read instead, go away.
    ///
    /// # Errors
    /// When the file is missing or the file system refuses.
    pub fn replace(&self, model: &str, file: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Result<()> {
        self.original()?;
        for prepared in self.prepared(model)?.iter().filter(|prepared| *prepared != file) {
            std::fs::remove_file(self.path.join(model).join(prepared))?;
        }
        let path = self.path.join(model).join(file);
        let content = change(std::fs::read(&path).with_context(|| path.display().to_string())?);
        let bytes = content.len();
        std::fs::remove_file(&path)?;
        std::fs::write(&path, content)?;
        let card_path = self.path.join(model).join("model.json");
        let mut card: serde_json::Value = serde_json::from_slice(&std::fs::read(&card_path)?)?;
        let files = card["files"].as_array_mut().context("the card has no files")?;
        for entry in files.iter_mut().filter(|entry| entry["path"] == file) {
            entry["bytes"] = bytes.into();
        }
        std::fs::remove_file(&card_path)?;
        std::fs::write(&card_path, serde_json::to_vec(&card)?)?;
        Ok(())
    }

    /// Names of a model's prepared files.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn prepared(&self, model: &str) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(self.path.join(model))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter(|name| name.starts_with("prepared-")).collect())
    }

    /// Removes a model from a [copy](Self::copy).
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remove(&self, model: &str) -> Result<()> {
        self.original()?;
        Ok(std::fs::remove_dir_all(self.path.join(model))?)
    }

    /// Puts a model that was [removed](Self::remove) back, undamaged.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn restore(&self, model: &str) -> Result<()> {
        link_all(&self.original()?.join(model), &self.path.join(model))
    }

    /// The store that this is a copy of: nothing else may be changed.
    fn original(&self) -> Result<&Path> {
        let (path, _) = self.copy_of.as_ref().context("only a copy of the models may be changed")?;
        Ok(path)
    }
}

/// Makes folder `to` like folder `from`, with a hard link in place of each file, or a copy where there can be none.
fn link_all(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to)?;
    readable_by_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link_all(&entry.path(), &target)?;
        } else {
            std::fs::hard_link(entry.path(), &target)
                .or_else(|_| std::fs::copy(entry.path(), &target).map(drop))?;
        }
    }
    Ok(())
}

fn readable_by_all(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?)
}
