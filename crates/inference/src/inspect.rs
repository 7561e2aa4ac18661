//! What a model is, found out from its files.

use pg_answer_models::{InstalledModel, Kind};

use crate::encoder::files::Files;
use crate::families::Source;
use crate::language::Rewriter;
use crate::{Check, Encoder, Kernels, LanguageModel, Pool, Reranker, Result};

/// What a model is and can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// What it can be asked for.
    pub kind: Kind,
    /// Its family.
    pub family: String,
    /// Elements of its vectors.
    pub dims: Option<usize>,
    /// Most tokens it reads at once.
    pub context_length: usize,
    /// How most of its weights are stored.
    pub quantization: String,
}

/// What kind of model `model` is and of which family, by its configuration alone: its weights need not be there yet.
///
/// # Errors
/// `Damaged` when there is no configuration, [`crate::Error::Unsupported`] when no family answers to it.
pub fn recognize(model: &InstalledModel) -> Result<(Kind, String)> {
    Source::kind(model, &Files::new(model))
}

/// Finds out what `model` is, whatever its card says, and loads it to be sure that it can be run.
///
/// # Errors
/// Why it cannot.
pub fn inspect(model: &InstalledModel, pool: &Pool, check: Check<'_>) -> Result<About> {
    let (kind, family) = recognize(model)?;
    let mut model = model.clone();
    (model.card.kind, model.card.architecture) = (kind, family.clone());
    model.card.dims = None;
    let (dims, context_length) = match kind {
        Kind::Encoder => {
            let encoder = Encoder::load(&model)?;
            (Some(encoder.dims()), encoder.max_tokens())
        }
        Kind::CrossEncoder => (None, Reranker::load(&model)?.max_tokens()),
        Kind::Decoder => (None, LanguageModel::load(&model, Kernels::Auto, pool, check)?.context_length()),
        Kind::EncoderDecoder => (None, Rewriter::load(&model)?.context_length()),
    };
    let quantization = crate::network::Tensors::open(&model)?.quantization();
    Ok(About { kind, family, dims, context_length, quantization })
}
