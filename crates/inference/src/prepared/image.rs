//! Reading a prepared model: mapped from its file, or built in memory.

use std::collections::HashMap;
use std::fs::File;
use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytemuck::Pod;
use memmap2::Mmap;
use pg_answer_models::{Digest, Error as ModelError, InstalledModel};
use serde::de::DeserializeOwned;

use super::header::Header;
use crate::{Check, Error, Result};

/// Bytes between two checks of [`Image::verify`].
const BLOCK: usize = 4 << 20;

/// A prepared model. It does not change.
#[derive(Debug)]
pub struct Image {
    /// The file; where there is none, the path it would have, for messages.
    path: PathBuf,
    pages: Mmap,
    /// Whether the pages are a file's, which all processes share.
    shared: bool,
    meta: serde_json::Value,
    content: String,
    /// Where the content begins in `pages`.
    start: usize,
    sections: HashMap<String, Range<usize>>,
}

impl Image {
    /// Maps the prepared file of `model` in `layout`; none when there is no such file.
    ///
    /// # Errors
    /// [`ModelError::Damaged`] when it is cut, foreign, or was made from other files than the model's;
    /// [`ModelError::Io`].
    pub fn open(model: &InstalledModel, layout: &str) -> Result<Option<Arc<Self>>> {
        let path = super::path(model, layout);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(ModelError::io(&path, e).into()),
        };
        let is_file = file.metadata().map_err(|e| ModelError::io(&path, e))?.is_file();
        if !is_file {
            return Err(damaged(&path, "it is not a file".to_owned()));
        }
        // SAFETY: the map is read-only. Prepared files are replaced by a rename and never written in place, as shared
        // libraries are; who may write to the model's folder is trusted as who may write to the server's binaries.
        let pages = unsafe { Mmap::map(&file) }.map_err(|e| ModelError::io(&path, e))?;
        // What must be read from disk then goes into large pages where the file system has them, and is found faster.
        #[cfg(target_os = "linux")]
        let _ = pages.advise(memmap2::Advice::HugePage);
        let (header, start) = Header::decode(&pages).map_err(|reason| damaged(&path, reason))?;
        if header.layout != layout {
            return Err(damaged(&path, format!("its layout is \"{}\", not \"{layout}\"", header.layout)));
        }
        if header.identity != super::identity(model) {
            return Err(damaged(&path, "it was prepared from other files than the model's".to_owned()));
        }
        Ok(Some(Arc::new(Self::new(path, pages, header, start, true))))
    }

    pub(super) fn new(path: PathBuf, pages: Mmap, header: Header, start: usize, shared: bool) -> Self {
        let range = |offset, bytes| start + offset..start + offset + bytes;
        let sections = header.sections.into_iter().map(|s| (s.name, range(s.offset, s.bytes))).collect();
        Self { path, pages, shared, meta: header.meta, content: header.content, start, sections }
    }

    /// The file; where there is none, the path it would have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of this process's own memory: nothing when the pages are a file's.
    pub fn private_memory(&self) -> usize {
        if self.shared { 0 } else { self.pages.len() }
    }

    /// Bytes of all pages.
    pub fn memory(&self) -> usize {
        self.pages.len()
    }

    /// What the layout keeps beside the sections.
    ///
    /// # Errors
    /// [`ModelError::Damaged`] when it is something else.
    pub fn meta<T: DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(&self.meta).map_err(|e| self.damaged(format!("its metadata: {e}")))
    }

    /// Whether there is a section `name`.
    pub fn has(&self, name: &str) -> bool {
        self.sections.contains_key(name)
    }

    /// The section `name`, which must hold `len` values.
    ///
    /// # Errors
    /// [`ModelError::Damaged`] when it is missing or has another length.
    pub fn view<T: Pod>(self: &Arc<Self>, name: &str, len: usize) -> Result<View<T>> {
        let view = self.view_all(name)?;
        if view.len() == len {
            return Ok(view);
        }
        Err(self.damaged(format!("its section \"{name}\" has {} values instead of {len}", view.len())))
    }

    /// The section `name`, however many values it holds.
    ///
    /// # Errors
    /// [`ModelError::Damaged`] when it is missing or holds no whole number of values.
    pub fn view_all<T: Pod>(self: &Arc<Self>, name: &str) -> Result<View<T>> {
        let range = self.sections.get(name);
        let range = range.ok_or_else(|| self.damaged(format!("it has no section \"{name}\"")))?;
        // Sections begin on pages, so only a length can be wrong here, and never later.
        bytemuck::try_cast_slice::<u8, T>(&self.pages[range.clone()])
            .map_err(|e| self.damaged(format!("its section \"{name}\": {e}")))?;
        Ok(View { image: Arc::clone(self), range: range.clone(), values: PhantomData })
    }

    /// Reads all sections and compares their SHA-256.
    ///
    /// # Errors
    /// [`ModelError::Damaged`]; what `check` says.
    pub fn verify(&self, check: Check<'_>) -> Result<()> {
        let mut digest = Digest::default();
        for block in self.pages[self.start..].chunks(BLOCK) {
            check()?;
            digest.update(block);
        }
        if digest.hex() == self.content {
            return Ok(());
        }
        Err(self.damaged("the SHA-256 of its content is wrong".to_owned()))
    }

    /// An error about this image.
    pub fn damaged(&self, reason: String) -> Error {
        damaged(&self.path, reason)
    }
}

pub(super) fn damaged(path: &Path, reason: String) -> Error {
    ModelError::Damaged { path: path.to_owned(), reason }.into()
}

/// A section of an image as a slice of `T`. Clones are cheap and keep the image alive.
#[derive(Debug, Clone)]
pub struct View<T> {
    image: Arc<Image>,
    range: Range<usize>,
    values: PhantomData<T>,
}

impl<T: Pod> Deref for View<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&self.image.pages[self.range.clone()])
    }
}
