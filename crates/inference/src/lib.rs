//! Encoders, rerankers and decoders on the CPU: model files, tokenizers, forward passes, sampling.
//!
//! Nothing here knows PostgreSQL. Long work calls a [`Check`] on the calling thread at least every few
//! tens of milliseconds; it stops the work by returning an error or by unwinding.

pub mod constraint;
pub mod decoder;
pub mod encoder;
pub mod error;
pub mod families;
pub mod inspect;
pub mod language;
pub mod network;
pub mod prepared;
pub mod reranker;
mod sentence_piece;
pub mod threads;

pub use encoder::{Encoder, Role, Tokens};
pub use error::{Error, Result};
pub use language::LanguageModel;
pub use reranker::Reranker;
pub use threads::Pool;

use std::sync::Arc;

use pg_answer_models::{InstalledModel, Kind};
use prepared::Image;

/// Asked between pieces of work whether to go on. It may return an error or unwind.
pub type Check<'a> = &'a mut dyn FnMut() -> Result<()>;

/// Which arithmetic runs a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kernels {
    /// The kernels of this crate.
    #[default]
    Auto,
    /// Packed panels in bfloat16, where the model is a BERT.
    Packed,
    /// f32 on the weights as they are.
    Exact,
    /// Those of candle: slow, and the reference of the others.
    Candle,
}

/// Writes the prepared file of `model`, in place of older ones; none where sessions share the model's own
/// files as they are.
///
/// # Errors
/// What loading the model says; [`pg_answer_models::Error::Io`] when the file cannot be written; what `check` says.
pub fn prepare(model: &InstalledModel, pool: &Pool, check: Check<'_>) -> Result<Option<Arc<Image>>> {
    let image = match model.card.kind {
        Kind::Encoder => encoder::prepare(model, check),
        Kind::Decoder if language::has_kernels(model) => decoder::prepare(model, pool, check).map(Some),
        Kind::Decoder => Ok(None),
        Kind::CrossEncoder | Kind::EncoderDecoder => Ok(None),
    }?;
    if let Some(image) = &image {
        prepared::remove_others(model, image)?;
    }
    Ok(image)
}

/// The prepared file that [`prepare`] would write, when it is there already.
///
/// # Errors
/// [`pg_answer_models::Error::Damaged`] when it is no such file.
pub fn prepared(model: &InstalledModel) -> Result<Option<Arc<Image>>> {
    match model.card.kind {
        Kind::Encoder => encoder::prepared(model),
        Kind::Decoder => Image::open(model, decoder::LAYOUT),
        Kind::CrossEncoder | Kind::EncoderDecoder => Ok(None),
    }
}
