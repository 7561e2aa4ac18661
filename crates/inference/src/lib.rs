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

/// Asked between pieces of work whether to go on. It may return an error or unwind.
pub type Check<'a> = &'a mut dyn FnMut() -> Result<()>;
