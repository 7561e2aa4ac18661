//! What can go wrong while a model is loaded or run.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong while a model is loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model's name, folder or files.
    #[error(transparent)]
    Model(#[from] pg_answer_models::Error),
    /// The files are readable, but this crate cannot run what they describe.
    #[error("model \"{model}\" cannot be run: {reason}")]
    Unsupported {
        /// Name of the model.
        model: String,
        /// What is missing or unknown.
        reason: String,
    },
    /// The caller asked for something that makes no sense (an empty prompt, a negative temperature).
    #[error("{0}")]
    InvalidInput(String),
    /// The prompt does not fit into the model's window.
    #[error("the prompt has {tokens} tokens, but the model reads at most {limit}")]
    TooLong {
        /// Tokens of the prompt and of the answer that was asked for.
        tokens: usize,
        /// The model's window.
        limit: usize,
    },
    /// The prompt and its answer need more memory than they may.
    #[error("{tokens} tokens of prompt and answer need {} MB of memory, but only {} MB are allowed", needed.div_ceil(1 << 20), limit >> 20)]
    Memory {
        /// Tokens of the prompt and of the answer that was asked for.
        tokens: usize,
        /// Bytes that their keys and values take.
        needed: usize,
        /// Bytes that they may take.
        limit: usize,
    },
    /// JSON by this schema cannot be written.
    #[error("the schema cannot be used: {0}")]
    Schema(String),
    /// A [`crate::Check`] asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A library failed where nothing should be able to.
    #[error("internal error: {0}")]
    Internal(String),
}
