//! The same network by candle, in f32 on the calling thread: slower, and what the kernels are held against.

use std::collections::HashMap;

use candle_core::{DType, Device, IndexOp, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config as Named, HiddenAct};

use super::config::{Activation, Bert as Config};
use super::files::Files;
use super::weights::Weights;
use crate::{Error, Result};

/// A network of candle's.
pub struct Generic {
    model: BertModel,
    hidden: usize,
    vocabulary: usize,
    positions: usize,
    memory: usize,
}

impl Generic {
    /// Reads the weights.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`] when a tensor is missing or has not the configuration's shape.
    pub fn read(files: &Files<'_>, config: &Config) -> Result<Self> {
        let weights = Weights::read(files, false)?;
        let (h, wide) = (config.hidden, config.intermediate);
        let mut tensors = HashMap::new();
        let mut memory = 0;
        let mut add = |name: String, shape: &[usize]| -> Result<usize> {
            let values = weights.get(&name, shape)?;
            memory += values.len() * size_of::<f32>();
            let first = values.len() / shape.iter().skip(1).product::<usize>().max(1);
            let full: Vec<usize> = std::iter::once(first).chain(shape.iter().skip(1).copied()).collect();
            tensors.insert(name, Tensor::from_vec(values, full, &Device::Cpu).map_err(internal)?);
            Ok(first)
        };
        let mut table = |name: &str| add(format!("embeddings.{name}.weight"), &[0, h]);
        let vocabulary = table("word_embeddings")?;
        let positions = table("position_embeddings")?;
        let kinds = table("token_type_embeddings")?;
        let mut pair = |name: String, shape: &[usize]| -> Result<()> {
            add(format!("{name}.bias"), &shape[..1])?;
            add(format!("{name}.weight"), shape).map(drop)
        };
        pair("embeddings.LayerNorm".to_owned(), &[h])?;
        for layer in (0..config.layers).map(|i| format!("encoder.layer.{i}")) {
            for part in ["query", "key", "value"] {
                pair(format!("{layer}.attention.self.{part}"), &[h, h])?;
            }
            pair(format!("{layer}.attention.output.dense"), &[h, h])?;
            pair(format!("{layer}.attention.output.LayerNorm"), &[h])?;
            pair(format!("{layer}.intermediate.dense"), &[wide, h])?;
            pair(format!("{layer}.output.dense"), &[h, wide])?;
            pair(format!("{layer}.output.LayerNorm"), &[h])?;
        }
        let named = Named {
            vocab_size: vocabulary,
            hidden_size: h,
            num_hidden_layers: config.layers,
            num_attention_heads: config.heads,
            intermediate_size: wide,
            hidden_act: match config.activation {
                Activation::Gelu => HiddenAct::Gelu,
                Activation::GeluTanh => HiddenAct::GeluApproximate,
                Activation::Relu => HiddenAct::Relu,
            },
            max_position_embeddings: positions,
            type_vocab_size: kinds,
            layer_norm_eps: f64::from(config.epsilon),
            ..Named::default()
        };
        let tensors = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        let model = BertModel::load(tensors, &named).map_err(internal)?;
        Ok(Self { model, hidden: h, vocabulary, positions, memory })
    }

    /// Elements of a row.
    pub fn hidden(&self) -> usize {
        self.hidden
    }

    /// Most tokens of a text.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Number of token ids that are known.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Bytes of all weights.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// The last hidden state of each token of one text, row after row.
    ///
    /// # Errors
    /// [`Error::Internal`] when candle fails.
    pub fn forward(&self, ids: &[u32]) -> Result<Vec<f32>> {
        let run = || {
            let ids = Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?;
            let rows = self.model.forward(&ids, &ids.zeros_like()?, None)?;
            rows.i(0)?.flatten_all()?.to_vec1()
        };
        run().map_err(internal)
    }
}

fn internal(e: candle_core::Error) -> Error {
    Error::Internal(format!("candle: {e}"))
}
