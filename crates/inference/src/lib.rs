//! Encoders and decoders on the CPU: model files, tokenizers, forward passes, sampling.
//!
//! Nothing here knows PostgreSQL. Long work calls a [`Check`] on the calling thread at least every few
//! tens of milliseconds; it stops the work by returning an error or by unwinding.

pub mod decoder;
pub mod encoder;
pub mod error;
pub mod prepared;
pub mod threads;

pub use encoder::{Encoder, Role, Tokens};
pub use error::{Error, Result};
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
    /// Those of candle: slow, and the reference of the others.
    Candle,
}

/// Writes the prepared file of `model`, in place of older ones.
///
/// # Errors
/// What loading the model says; [`pg_answer_models::Error::Io`] when the file cannot be written; what `check` says.
pub fn prepare(model: &InstalledModel, pool: &Pool, check: Check<'_>) -> Result<Arc<Image>> {
    let image = match model.card.kind {
        Kind::Encoder => encoder::prepare(model, check),
        Kind::Decoder => decoder::prepare(model, pool, check),
    }?;
    prepared::remove_others(model, &image)?;
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
    }
}
