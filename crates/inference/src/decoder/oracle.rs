//! The same network by candle, token by token: slower, and what the kernels are held against.

use std::fs::File;
use std::io::BufReader;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_qwen2::ModelWeights;
use pg_answer_models::InstalledModel;

use crate::{Check, Error, Pool, Result};

/// A network of candle's with its keys and values.
pub struct Oracle {
    weights: ModelWeights,
    /// The tokens that the keys and values are of.
    read: Vec<u32>,
}

impl Oracle {
    /// Reads the GGUF file of `model`, which [`Gguf`](super::gguf::Gguf) has found sound.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Io`]; [`Error::Internal`] when candle cannot read it.
    pub fn load(model: &InstalledModel) -> Result<Self> {
        let path = model.weights()?;
        let file = File::open(&path).map_err(|e| pg_answer_models::Error::io(&path, e))?;
        let mut file = BufReader::new(file);
        let content = Content::read(&mut file).map_err(internal)?;
        let weights = ModelWeights::from_gguf(content, &mut file, &Device::Cpu).map_err(internal)?;
        Ok(Self { weights, read: Vec::new() })
    }

    /// Reads `ids` at `position`, before which stands what was read there before; leaves the logits after the last
    /// `outputs` of them in `logits`.
    ///
    /// # Errors
    /// [`Error::Internal`] when candle fails; whatever `check` returns.
    pub fn forward(
        &mut self,
        ids: &[u32],
        position: usize,
        outputs: usize,
        logits: &mut Vec<f32>,
        pool: &Pool,
        check: Check<'_>,
    ) -> Result<()> {
        let kept =
            self.read.get(..position).ok_or_else(|| Error::Internal("tokens were left out".to_owned()))?;
        let text = [kept, ids].concat();
        // Candle's keys and values cannot be cut: what is read elsewhere is read from the start.
        let known = if position == self.read.len() { position } else { 0 };
        self.read.truncate(known);
        logits.clear();
        for (i, &id) in text.iter().enumerate().skip(known) {
            check()?;
            let next = pool.run(|| self.step(id, i)).map_err(internal)?;
            self.read.push(id);
            if i + outputs >= text.len() {
                logits.extend(next);
            }
        }
        Ok(())
    }

    fn step(&mut self, id: u32, position: usize) -> candle_core::Result<Vec<f32>> {
        let id = Tensor::new(&[id], &Device::Cpu)?.unsqueeze(0)?;
        self.weights.forward(&id, position)?.flatten_all()?.to_vec1()
    }
}

fn internal(e: candle_core::Error) -> Error {
    Error::Internal(format!("candle: {e}"))
}
