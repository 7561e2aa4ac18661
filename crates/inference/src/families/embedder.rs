//! Sentence encoders of every kind, also decoders that were trained to be ones (Qwen3-Embedding): the last hidden
//! states are the rows, whatever a token's own future.

use super::{CausalLm, Family, Loader, Source, TextEncoder};
use crate::Result;
use crate::network::{Rows, Run};

struct Embedder(Box<dyn CausalLm>);

/// Loads the network of a sentence encoder of `family`.
///
/// # Errors
/// What the family says; [`crate::Error::Unsupported`] for one whose models give no rows.
pub fn load_encoder(source: &Source, family: &Family) -> Result<Box<dyn TextEncoder>> {
    match family.loader {
        Loader::Encoder(load) => load(source),
        Loader::CausalLm(_) if !source.fields.flag_or("is_causal", true) => {
            Err(source.unsupported("it is a decoder that looks ahead"))
        }
        Loader::CausalLm(load) => Ok(Box::new(Embedder(load(source)?))),
        Loader::CrossEncoder(_) | Loader::EncoderDecoder(_) => {
            let kind = family.kind().as_str();
            Err(source.unsupported(format!("its architecture is that of a model of kind {kind}")))
        }
    }
}

impl TextEncoder for Embedder {
    fn dims(&self) -> usize {
        self.0.width()
    }

    fn positions(&self) -> usize {
        self.0.positions()
    }

    fn vocabulary(&self) -> usize {
        self.0.vocabulary()
    }

    fn forward(&self, ids: &[u32], _: &[u32], run: &mut Run<'_>) -> Result<Rows> {
        self.0.read(ids, &mut self.0.start(), run)
    }
}
