//! Tensors of a BERT as `Vec<f32>`, by the names that sentence-transformers gives them.

use super::files::Files;
use crate::Result;
use crate::families::tensors;
use crate::network::Tensors;

/// The tensors of a model's files.
pub struct Weights {
    tensors: Tensors,
    /// What stands before every name: "" or "bert.", "roberta.", "distilbert.".
    prefix: &'static str,
}

impl Weights {
    /// Opens the files.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`].
    pub fn read(files: &Files<'_>, distilled: bool) -> Result<Self> {
        let mut tensors = tensors(files)?;
        if distilled {
            tensors.set_rename(distilled_name);
        }
        let words = "embeddings.word_embeddings.weight";
        let prefixes = ["bert.", "roberta.", "distilbert."];
        let prefix = prefixes.into_iter().find(|prefix| tensors.has(&format!("{prefix}{words}")));
        Ok(Self { tensors, prefix: prefix.unwrap_or_default() })
    }

    /// Whether there is a tensor `name`.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.has(&format!("{}{name}", self.prefix))
    }

    /// Looks whether the tensor `name` has `shape`, where 0 stands for any number, at least 1.
    ///
    /// # Errors
    /// As [`Weights::get`].
    pub fn expect(&self, name: &str, shape: &[usize]) -> Result<()> {
        let name = format!("{}{name}", self.prefix);
        match *shape {
            [0, width] => self.tensors.table(&name, width).map(drop),
            [rows, width] => self.tensors.matrix(&name, rows, width).map(drop),
            _ => self.tensors.matrix(&name, 1, shape.iter().product()).map(drop),
        }
    }

    /// The tensor `name`, row-major, widened to f32. `shape` is what it must have; 0 stands for any number, at least 1.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`] when it is missing or has another shape; [`crate::Error::Unsupported`] for
    /// another element type.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.expect(name, shape)?;
        let name = format!("{}{name}", self.prefix);
        let (rows, width) = self.tensors.shape(&name).unwrap_or_default();
        self.tensors.vector(&name, rows * width)
    }
}

/// DistilBERT's name of what BERT calls `name`.
fn distilled_name(name: &str) -> Option<String> {
    const PARTS: [(&str, &str); 9] = [
        ("encoder.layer.", "transformer.layer."),
        ("attention.self.query", "attention.q_lin"),
        ("attention.self.key", "attention.k_lin"),
        ("attention.self.value", "attention.v_lin"),
        ("attention.output.dense", "attention.out_lin"),
        ("attention.output.LayerNorm", "sa_layer_norm"),
        ("intermediate.dense", "ffn.lin1"),
        ("output.dense", "ffn.lin2"),
        ("output.LayerNorm", "output_layer_norm"),
    ];
    Some(PARTS.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to)))
}
