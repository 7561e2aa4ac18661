//! The prepared image of a vocabulary alone, for networks that run on their files as they are: with it a session's first
//! text waits for no `tokenizer.json` to be parsed.

use std::sync::Arc;

use pg_answer_models::InstalledModel;

use super::files::Files;
use super::tokenizer::{Prepared, Tokenizer};
use crate::prepared::{Image, Place, Plan};
use crate::{Error, Result};

/// Name and version of this layout.
pub const LAYOUT: &str = "words-1";

/// The tokenizer of `model`, from its prepared file if there is one, otherwise on the same image in memory; by the
/// tokenizers library where no image can hold it.
///
/// # Errors
/// [`pg_answer_models::Error::Damaged`], for the prepared file or the model's own.
pub fn open(model: &InstalledModel, files: &Files<'_>) -> Result<Tokenizer> {
    if let Some(image) = Image::open(model, LAYOUT)? {
        return Tokenizer::open(&image, image.meta()?);
    }
    let tokenizer = Tokenizer::read(files)?;
    match image_of(model, &tokenizer, Place::Memory)? {
        Some(image) => Tokenizer::open(&image, image.meta()?),
        None => Ok(tokenizer),
    }
}

/// Writes the vocabulary of `model` where `place` says; none where no image can hold it.
///
/// # Errors
/// As [`open`]; [`pg_answer_models::Error::Io`].
pub fn build(model: &InstalledModel, files: &Files<'_>, place: Place) -> Result<Option<Arc<Image>>> {
    image_of(model, &Tokenizer::read(files)?, place)
}

fn image_of(model: &InstalledModel, tokenizer: &Tokenizer, place: Place) -> Result<Option<Arc<Image>>> {
    let Some((prepared, table)): Option<(Prepared, _)> = tokenizer.prepare() else { return Ok(None) };
    let meta = serde_json::to_value(&prepared).map_err(|e| Error::Internal(e.to_string()))?;
    let mut plan = Plan::new(model, LAYOUT, meta);
    table.plan(&mut plan);
    let mut draft = plan.start(place)?;
    table.fill(&mut draft)?;
    draft.finish().map(Some)
}
