//! Tensors of a safetensors file as `Vec<f32>`.

use candle_core::DType;
use candle_core::safetensors::BufferedSafetensors;
use half::{bf16, f16};
use safetensors::tensor::TensorView;

use super::files::Files;
use crate::Result;

/// Larger files are not encoders that fit into a server process.
const MAX_BYTES: u64 = 16 << 30;

/// A safetensors file in memory, its header checked.
pub struct Weights<'a> {
    files: &'a Files<'a>,
    tensors: BufferedSafetensors,
    /// What stands before every name: "" or "bert.".
    prefix: &'static str,
}

impl<'a> Weights<'a> {
    /// Reads the file. Each byte of it belongs to one tensor, else it is damaged.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`].
    pub fn read(files: &'a Files<'a>) -> Result<Self> {
        let content = files.read_weights(MAX_BYTES)?;
        let tensors = BufferedSafetensors::new(content).map_err(|e| files.damaged_weights(e.to_string()))?;
        let prefix = if tensors.get("bert.embeddings.word_embeddings.weight").is_ok() { "bert." } else { "" };
        Ok(Self { files, tensors, prefix })
    }

    /// Looks whether the tensor `name` has `shape`, where 0 stands for any number, at least 1.
    ///
    /// # Errors
    /// As [`Weights::get`].
    pub fn expect(&self, name: &str, shape: &[usize]) -> Result<()> {
        self.find(name, shape).map(drop)
    }

    /// The tensor `name`, row-major. `shape` is what it must have; 0 stands for any number, at least 1.
    /// F16 and BF16 are widened.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`] when it is missing or has another shape;
    /// [`crate::Error::Unsupported`] for another element type.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let view = self.find(name, shape)?;
        let data = view.data();
        match DType::try_from(view.dtype()) {
            Ok(DType::F32) => Ok(data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            Ok(DType::F16) => {
                Ok(data.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect())
            }
            Ok(DType::BF16) => {
                Ok(data.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect())
            }
            _ => Err(self.files.unsupported(format!("tensor \"{name}\" is of type {:?}", view.dtype()))),
        }
    }

    fn find(&self, name: &str, shape: &[usize]) -> Result<TensorView<'_>> {
        let full = format!("{}{name}", self.prefix);
        let found = self.tensors.get(&full).or_else(|e| match old_name(&full) {
            Some(old) => self.tensors.get(&old).map_err(|_| e),
            None => Err(e),
        });
        let view = found.map_err(|_| self.files.damaged_weights(format!("tensor \"{full}\" is missing")))?;
        let fits = view.shape().len() == shape.len()
            && view.shape().iter().zip(shape).all(|(&is, &want)| is == want || (want == 0 && is > 0));
        if !fits {
            let reason = format!("tensor \"{full}\" has shape {:?}, not {shape:?}", view.shape());
            return Err(self.files.damaged_weights(reason));
        }
        Ok(view)
    }
}

/// The name that files converted from TensorFlow use.
fn old_name(name: &str) -> Option<String> {
    let (layer, last) = name.rsplit_once("LayerNorm.")?;
    Some(format!("{layer}LayerNorm.{}", if last == "weight" { "gamma" } else { "beta" }))
}
