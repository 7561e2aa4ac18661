//! What a model may write: before each choice a constraint takes out the tokens that may not come next.

mod json;

pub use json::{Grammar, Json, LazyGrammar};

use crate::Result;

/// What may be written.
pub trait Constraint {
    /// Sets the logits of tokens that may not come next to -∞; `logits` has one for each token of the model.
    ///
    /// # Errors
    /// When what may come next cannot be found out.
    fn mask(&mut self, logits: &mut [f32]) -> Result<()>;

    /// Takes note that token `id` was chosen.
    ///
    /// # Errors
    /// When it was not one of those that may come.
    fn accept(&mut self, id: u32) -> Result<()>;

    /// Whether the text is whole and nothing can follow.
    fn is_whole(&self) -> bool;

    /// What must come next, as far as it is certain; decoders read it ahead.
    fn forced(&mut self) -> String;
}
