//! How much of a text a model knows.

use super::{Encoder, Role};
use crate::{Check, Result};

/// A character that no vocabulary holds: what a tokenizer makes of it, it makes of everything unknown.
pub(super) const UNKNOWN: &str = "\u{12000}";

impl Encoder {
    /// Share of the tokens of `text` that are known to the model, from 0 to 1; of an empty text, 1.
    ///
    /// Unknown are the token that stands for unknown words, and those of a vocabulary of bytes that stand for parts of a
    /// character: an English model of either kind knows next to nothing of a Chinese text.
    ///
    /// # Errors
    /// As [`Encoder::tokenize_checked`].
    pub fn known_share(&self, text: &str, check: Check<'_>) -> Result<f64> {
        let mut own =
            |text: &str| -> Result<Vec<u32>> { Ok(self.tokenize_checked(text, Role::Plain, check)?.ids) };
        let empty = own("")?;
        let unknown: Vec<u32> = own(UNKNOWN)?.into_iter().filter(|id| !empty.contains(id)).collect();
        let ids = own(text)?;
        let tokens = ids.len().saturating_sub(empty.len());
        if tokens == 0 {
            return Ok(1.0);
        }
        let characters = text.chars().filter(|c| !c.is_whitespace()).count();
        let strangers = match unknown[..] {
            // Some tokenizers put a blank before each text.
            [id] | [_, id] => ids.iter().filter(|&&i| i == id).count(),
            _ => 0,
        };
        let pieces = tokens.saturating_sub(characters);
        Ok(1.0 - strangers.max(pieces).min(tokens) as f64 / tokens as f64)
    }
}
