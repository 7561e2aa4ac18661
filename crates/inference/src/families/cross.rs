//! Cross-encoders: a sentence encoder that reads two texts at once, and a head that makes one number of the first
//! token's row.

use super::{CrossEncoder, Source, TextEncoder, bert, jina};
use crate::Result;
use crate::network::{Activation, Linear, Run};

struct Scorer {
    network: Box<dyn TextEncoder>,
    dense: Linear,
    activation: Activation,
    score: Linear,
}

/// Loads a BERT with one label.
///
/// # Errors
/// [`crate::Error::Unsupported`], or `Damaged` for what is missing or has another shape.
pub fn load_bert(source: &Source) -> Result<Box<dyn CrossEncoder>> {
    build(source, bert::load(source)?, ("bert.pooler.dense", Activation::Tanh, "classifier"))
}

/// Loads a RoBERTa or XLM-R with one label.
///
/// # Errors
/// As [`load_bert`].
pub fn load_roberta(source: &Source) -> Result<Box<dyn CrossEncoder>> {
    build(source, bert::load_roberta(source)?, ("classifier.dense", Activation::Tanh, "classifier.out_proj"))
}

/// Loads a DistilBERT with one label.
///
/// # Errors
/// As [`load_bert`].
pub fn load_distilbert(source: &Source) -> Result<Box<dyn CrossEncoder>> {
    build(source, bert::load_distilbert(source)?, ("pre_classifier", Activation::Relu, "classifier"))
}

/// Loads a JinaBERT v2 with one label.
///
/// # Errors
/// As [`load_bert`].
pub fn load_jina(source: &Source) -> Result<Box<dyn CrossEncoder>> {
    build(source, jina::load(source)?, ("bert.pooler.dense", Activation::Tanh, "classifier"))
}

fn build(
    source: &Source,
    network: Box<dyn TextEncoder>,
    (dense, activation, score): (&str, Activation, &str),
) -> Result<Box<dyn CrossEncoder>> {
    if let Some(labels) = source.fields.count("id2label").filter(|&labels| labels != 1) {
        return Err(source.unsupported(format!("it sorts into {labels} classes instead of giving one score")));
    }
    let hidden = network.dims();
    Ok(Box::new(Scorer {
        dense: Linear::read(&source.tensors, dense, hidden, hidden)?,
        score: Linear::read(&source.tensors, score, 1, hidden)?,
        activation,
        network,
    }))
}

impl CrossEncoder for Scorer {
    fn positions(&self) -> usize {
        self.network.positions()
    }

    fn vocabulary(&self) -> usize {
        self.network.vocabulary()
    }

    fn score(&self, ids: &[u32], kinds: &[u32], run: &mut Run<'_>) -> Result<f32> {
        let mut first = self.network.forward(ids, kinds, run)?;
        first.data.truncate(first.width);
        let mut pooled = self.dense.apply(&first, run)?;
        self.activation.apply(run.isa, &mut pooled);
        Ok(self.score.apply(&pooled, run)?.data[0])
    }
}
