//! Sizes of a Qwen2 model, and the tensors that follow from them.

use serde::{Deserialize, Serialize};

use super::gguf::Gguf;
use crate::Result;

/// More layers than any model has.
const MAX_LAYERS: usize = 1024;

/// Sizes, from the file's metadata.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
    /// Most positions.
    pub context: usize,
    /// Layers.
    pub layers: usize,
    /// Values of the residual stream.
    pub width: usize,
    /// Values within the feed-forward part.
    pub inner: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub key_heads: usize,
    /// Values of a head.
    pub head: usize,
    /// Of the root mean square.
    pub epsilon: f32,
    /// Base of the rotary frequencies.
    pub rope_base: f32,
}

impl Shape {
    /// The sizes in the metadata of `gguf`.
    ///
    /// # Errors
    /// `Damaged` when one is missing or they do not fit together.
    pub fn read(gguf: &Gguf) -> Result<Self> {
        let integer = |key: &str, default: Option<u64>| {
            let found = gguf.integer(&format!("qwen2.{key}")).or(default);
            found
                .filter(|&n| n > 0 && n <= u64::from(u32::MAX))
                .map(|n| n as usize)
                .ok_or_else(|| gguf.damaged(format!("\"qwen2.{key}\" is missing or makes no sense")))
        };
        let float = |key: &str, default: f64| gguf.float(&format!("qwen2.{key}")).unwrap_or(default) as f32;
        if gguf.text("qwen2.rope.scaling.type").is_some_and(|kind| kind != "none") {
            return Err(gguf.damaged("scaled rotary positions are not supported"));
        }
        let (width, heads) = (integer("embedding_length", None)?, integer("attention.head_count", None)?);
        let shape = Self {
            vocabulary: gguf.tensor("token_embd.weight")?.rows,
            context: integer("context_length", None)?,
            layers: integer("block_count", None)?,
            width,
            inner: integer("feed_forward_length", None)?,
            heads,
            key_heads: integer("attention.head_count_kv", Some(heads as u64))?,
            head: integer("attention.key_length", Some((width / heads) as u64))?,
            epsilon: float("attention.layer_norm_rms_epsilon", 1e-6),
            rope_base: float("rope.freq_base", 10_000.0),
        };
        if shape.is_sensible() { Ok(shape) } else { Err(gguf.damaged("its sizes do not fit together")) }
    }

    /// Whether a model can have these sizes.
    pub fn is_sensible(&self) -> bool {
        let sizes = [self.vocabulary, self.context, self.width, self.inner, self.heads, self.head];
        sizes.iter().all(|&n| (1..=u32::MAX as usize).contains(&n))
            && (1..=MAX_LAYERS).contains(&self.layers)
            && self.key_heads > 0
            && self.heads.is_multiple_of(self.key_heads)
            && self.head.is_multiple_of(2)
            && self.heads.checked_mul(self.head).is_some_and(|n| n <= u32::MAX as usize)
            && [self.epsilon, self.rope_base].iter().all(|x| x.is_finite() && *x > 0.0)
    }

    /// Values of a token's queries.
    pub fn query_width(&self) -> usize {
        self.heads * self.head
    }

    /// Values of a token's keys, and of its values.
    pub fn key_width(&self) -> usize {
        self.key_heads * self.head
    }

    /// Matrices of a layer, by the ends of their names: rows and width.
    pub fn layer_matrices(&self) -> [(&'static str, usize, usize); 7] {
        let Self { width, inner, .. } = *self;
        [
            ("attn_q.weight", self.query_width(), width),
            ("attn_k.weight", self.key_width(), width),
            ("attn_v.weight", self.key_width(), width),
            ("attn_output.weight", width, self.query_width()),
            ("ffn_gate.weight", inner, width),
            ("ffn_up.weight", inner, width),
            ("ffn_down.weight", width, inner),
        ]
    }

    /// Vectors of a layer, by the ends of their names.
    pub fn layer_vectors(&self) -> [(&'static str, usize); 5] {
        [
            ("attn_norm.weight", self.width),
            ("attn_q.bias", self.query_width()),
            ("attn_k.bias", self.key_width()),
            ("attn_v.bias", self.key_width()),
            ("ffn_norm.weight", self.width),
        ]
    }
}

/// The name of a layer's tensor.
pub fn name(layer: usize, part: &str) -> String {
    format!("blk.{layer}.{part}")
}
