//! Encoders, rerankers and decoders on the CPU: model files, tokenizers, forward passes, sampling.
//!
//! Nothing here knows PostgreSQL. Long work calls a [`Check`] on the calling thread at least every few
//! tens of milliseconds; it stops the work by returning an error or by unwinding.

pub mod decoder;
pub mod encoder;
pub mod error;
pub mod families;
pub mod inspect;
pub mod network;
pub mod prepared;
pub mod reranker;
pub mod threads;

pub use encoder::{Encoder, Role, Tokens};
pub use error::{Error, Result};
pub use reranker::Reranker;
pub use threads::Pool;

use std::sync::Arc;

use pg_answer_models::{InstalledModel, Kind};
use prepared::Image;

/// Asked between pieces of work whether to go on. It may return an error or unwind.
pub type Check<'a> = &'a mut dyn FnMut() -> Result<()>;

/// Writes the prepared file of `model`, in place of an older one; none where sessions share the model's own files.
///
/// # Errors
/// What loading the model says; [`pg_answer_models::Error::Io`] when the file cannot be written; what `check` says.
pub fn prepare(model: &InstalledModel, pool: &Pool, check: Check<'_>) -> Result<Option<Arc<Image>>> {
    match model.card.kind {
        Kind::Encoder => encoder::prepare(model, check),
        Kind::Decoder => decoder::prepare(model, pool, check).map(Some),
        Kind::CrossEncoder => Ok(None),
    }
}

/// The prepared file that [`prepare`] would write, when it is there already.
///
/// # Errors
/// [`pg_answer_models::Error::Damaged`] when it is no such file.
pub fn prepared(model: &InstalledModel) -> Result<Option<Arc<Image>>> {
    match model.card.kind {
        Kind::Encoder => encoder::prepared(model),
        Kind::Decoder => Image::open(model, decoder::LAYOUT),
        Kind::CrossEncoder => Ok(None),
    }
}
