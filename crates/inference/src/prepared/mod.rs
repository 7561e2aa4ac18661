//! Prepared files: a model's weights in the layout that the kernels read, one page-aligned file per model.
//!
//! Every process maps the file read-only, so a hundred sessions hold one copy and a new one loads nothing. Where
//! there is no such file the same image is built in the memory of the process, by the same code:
//!
//! `model files → [Plan] (sections and their sizes) → [Draft] (filled) → [Image] (read) → [View] (a section)`
//!
//! A file is magic, lengths, SHA-256 of the header, the header as JSON, and the sections, each on a page of its own.
//! All of it is checked when it is opened but the content of the sections, which [`Image::verify`] reads whole:
//! sections are numbers to calculate with, and whatever they are, no kernel reads outside of them.

mod draft;
mod header;
mod image;

pub use draft::{Draft, Place, Plan};
pub use image::{Image, View};

use std::path::PathBuf;
use std::sync::Arc;

use pg_answer_models::{Digest, Error, InstalledModel};

use crate::Result;

const PREFIX: &str = "prepared-";
const SUFFIX: &str = ".bin";

/// Where the prepared file of `model` in `layout` lies, whether or not there is one.
///
/// A layout names what the sections are, with a version: `bert-1`. A newer extension that needs another layout does
/// not find the old file and does not stumble over it.
pub fn path(model: &InstalledModel, layout: &str) -> PathBuf {
    model.dir.join(format!("{PREFIX}{layout}{SUFFIX}"))
}

/// All prepared files of `model`, also those in layouts of other versions.
///
/// # Errors
/// As [`Image::open`], for each of them; [`pg_answer_models::Error::Io`] when the folder cannot be read.
pub fn all(model: &InstalledModel) -> Result<Vec<Result<Arc<Image>>>> {
    Ok(layouts(model)?.iter().filter_map(|layout| Image::open(model, layout).transpose()).collect())
}

/// Removes the prepared files of `model` in other layouts than `image` has: those of older versions, which nobody
/// opens any more. Who has mapped one keeps it.
///
/// # Errors
/// [`pg_answer_models::Error::Io`].
pub fn remove_others(model: &InstalledModel, image: &Image) -> Result<()> {
    let paths = layouts(model)?.into_iter().map(|layout| path(model, &layout));
    for other in paths.filter(|path| path != image.path()) {
        std::fs::remove_file(&other).map_err(|e| Error::io(&other, e))?;
    }
    Ok(())
}

/// The layouts of the prepared files of `model`, sorted.
fn layouts(model: &InstalledModel) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(&model.dir).map_err(|e| Error::io(&model.dir, e))?;
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    let layout = |name: String| Some(name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.to_owned());
    let mut layouts: Vec<String> = names.filter_map(layout).collect();
    layouts.sort();
    Ok(layouts)
}

/// What a prepared file was made from: a SHA-256 over the hashes of all files that the model's card names.
pub fn identity(model: &InstalledModel) -> String {
    let mut digest = Digest::default();
    for file in &model.card.files {
        digest.update(format!("{} {}\n", file.sha256, file.path).as_bytes());
    }
    digest.hex()
}

#[cfg(test)]
mod tests;
