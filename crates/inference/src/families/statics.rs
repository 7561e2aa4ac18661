//! Static embeddings (Model2Vec, Tulkens and van Dongen 2024): each token has one row, whatever stands around it.

use super::{Source, TextEncoder};
use crate::Result;
use crate::network::{Rows, Run, Weight};

/// Tokens that a text is cut to where the configuration says nothing.
const WINDOW: usize = 512;

struct Static {
    words: Weight,
    /// On each row.
    weights: Option<Vec<f32>>,
    window: usize,
}

/// Loads the table of Model2Vec, or that of a `StaticEmbedding` of sentence-transformers.
///
/// # Errors
/// [`crate::Error::Unsupported`], or `Damaged` for what is missing or has another shape.
pub fn load(source: &Source) -> Result<Box<dyn TextEncoder>> {
    let tensors = &source.tensors;
    if tensors.has_other("mapping") {
        return Err(source.unsupported("several of its tokens share a row"));
    }
    let name = if tensors.has("embedding.weight") { "embedding.weight" } else { "embeddings" };
    let width = tensors.shape(name).map_or(0, |(_, width)| width);
    let words = tensors.table(name, width)?;
    let weights = tensors.optional_vector("weights", words.rows())?;
    Ok(Box::new(Static { weights, window: source.fields.size_or("max_length", WINDOW)?, words }))
}

impl TextEncoder for Static {
    fn dims(&self) -> usize {
        self.words.width()
    }

    fn positions(&self) -> usize {
        self.window
    }

    fn vocabulary(&self) -> usize {
        self.words.rows()
    }

    fn frames_text(&self) -> bool {
        false
    }

    fn forward(&self, ids: &[u32], _: &[u32], run: &mut Run<'_>) -> Result<Rows> {
        run.check()?;
        let mut rows = self.words.gather(ids);
        if let Some(weights) = &self.weights {
            for (row, &id) in rows.rows_mut().zip(ids) {
                row.iter_mut().for_each(|x| *x *= weights[id as usize]);
            }
        }
        Ok(rows)
    }
}
