//! The forward pass of Qwen2 (Yang et al. 2024): RMS norm, rotary positions, grouped queries with biases, SwiGLU.

use std::sync::Arc;

use super::activations::Activations;
use super::cache::Cache;
use super::gguf::TensorType;
use super::head::{Head, Near, OUTPUT, Wanted};
use super::isa::Isa;
use super::lanes::rms_norm;
use super::layer::{Buffers, Layer, Step};
use super::matrix::{Matrix, floats};
use super::prepare::{EMBEDDING, Meta, OUTPUT_NORM};
use super::quantized::kernel::rounds;
use super::quantized::unpack::{Format, Row};
use super::shape::{Shape, name};
use crate::prepared::{Image, View};
use crate::{Check, Error, Pool, Result};

/// Tokens that go through the layers together.
pub const CHUNK: usize = 256;

/// What tokens go through the layers for. It decides on the kernels, so that a token's results depend on it alone and
/// not on how many go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Many tokens of a prompt are to be read fast.
    Read,
    /// A token or a draft of a few to be written, at the speed of memory.
    Write,
}

enum Embedding {
    /// Rows as they stand in the file.
    Rows { kind: TensorType, bytes: View<u8> },
    /// The output matrix is the embedding too.
    Tied,
}

/// Weights of a model.
pub struct Qwen2 {
    /// Its sizes.
    pub shape: Shape,
    isa: Isa,
    embedding: Embedding,
    layers: Vec<Layer>,
    output_norm: View<f32>,
    head: Head,
}

/// Buffers of the forward pass.
#[derive(Default)]
pub struct Scratch {
    x: Vec<f32>,
    activations: Activations,
    buffers: Buffers,
    /// Cosine and sine of each token and pair of elements.
    rotation: Vec<(f32, f32)>,
    /// `[token][entry of the vocabulary]` of the tokens whose logits were asked for.
    pub logits: Vec<f32>,
    /// Which of them are to be [settled](Qwen2::settle).
    unsettled: Option<Near>,
}

impl Qwen2 {
    /// The model in `image`.
    ///
    /// # Errors
    /// `Damaged` when a section is missing or has another size than `meta` says.
    pub fn open(image: &Arc<Image>, meta: &Meta) -> Result<Self> {
        let shape = meta.shape.clone();
        if !shape.is_sensible() {
            return Err(image.damaged("its sizes do not fit together".to_owned()));
        }
        let kind = |section: &str| {
            let kind = meta.types.get(section).copied();
            kind.ok_or_else(|| image.damaged(format!("it does not tell the type of \"{section}\"")))
        };
        let matrix = |section: &str, size| Matrix::open(image, section, kind(section)?, size);
        let mut layers = Vec::new();
        for i in 0..shape.layers {
            let part = |(part, rows, width): (&str, usize, usize)| matrix(&name(i, part), (rows, width));
            let [q, k, v, attention_out, gate, up, down] = shape.layer_matrices().map(part);
            let vector = |(part, length): (&str, usize)| image.view::<f32>(&name(i, part), length);
            let [attention_norm, q_bias, k_bias, v_bias, inner_norm] = shape.layer_vectors().map(vector);
            layers.push(Layer {
                attention_norm: attention_norm?,
                inputs: [q?, k?, v?],
                biases: [q_bias?, k_bias?, v_bias?],
                attention_out: attention_out?,
                inner_norm: inner_norm?,
                gate: gate?,
                up: up?,
                down: down?,
            });
        }
        let embedding = if image.has(EMBEDDING) {
            let (values, bytes) = kind(EMBEDDING)?.block();
            let length = (shape.width / values * bytes).saturating_mul(shape.vocabulary);
            Embedding::Rows { kind: kind(EMBEDDING)?, bytes: image.view(EMBEDDING, length)? }
        } else {
            Embedding::Tied
        };
        let output_norm = image.view(OUTPUT_NORM, shape.width)?;
        let head = Head::open(image, kind(OUTPUT)?, (shape.vocabulary, shape.width))?;
        Ok(Self { shape, isa: Isa::best(), embedding, layers, output_norm, head })
    }

    /// An empty cache for this model.
    pub fn cache(&self) -> Cache {
        let full = self.layers.iter().all(|layer| layer.inputs[1].is_dense());
        Cache::new(self.shape.layers, self.shape.key_heads, self.shape.head, full)
    }

    /// Reads at most [`CHUNK`] tokens at `position`; leaves the `wanted` logits in `scratch`.
    ///
    /// # Errors
    /// `Internal` when memory is short; whatever `check` returns.
    pub fn forward(
        &self,
        (cache, scratch): (&mut Cache, &mut Scratch),
        (ids, purpose): (&[u32], Purpose),
        position: usize,
        wanted: Wanted,
        pool: &Pool,
        check: Check<'_>,
    ) -> Result<()> {
        cache.reserve(position + ids.len())?;
        self.embed(ids, &mut scratch.x)?;
        self.rotate(position, ids.len(), &mut scratch.rotation);
        let Scratch { x, activations, buffers, rotation, .. } = scratch;
        activations.of_prompt = purpose == Purpose::Read && rounds(self.isa);
        buffers.inner.of_prompt = activations.of_prompt;
        let step = Step { shape: &self.shape, isa: self.isa, pool, position, rotation };
        for (i, (layer, heads)) in self.layers.iter().zip(cache.layers()).enumerate() {
            check()?;
            // Of the last layer only the tokens with logits need more than keys and values.
            let tokens = if i + 1 < self.layers.len() { ids.len() } else { wanted.tokens };
            layer.run(&step, heads, x, tokens, activations, buffers)?;
        }
        check()?;
        if wanted.tokens > 0 {
            self.outputs(wanted, scratch, pool)?;
            check()?;
        }
        Ok(())
    }

    /// The `wanted` logits.
    fn outputs(&self, wanted: Wanted, scratch: &mut Scratch, pool: &Pool) -> Result<()> {
        let Scratch { x, activations, logits, .. } = scratch;
        let (isa, width, count) = (self.isa, self.shape.width, wanted.tokens);
        let x = &x[x.len() - count * width..];
        activations.of_prompt = false;
        activations.fill(isa, pool, (count, width), self.head.form(), &mut [], |token, _, row| {
            rms_norm(isa, &x[token * width..][..width], &self.output_norm, self.shape.epsilon, row);
        })?;
        logits.resize(count * self.shape.vocabulary, 0.0);
        let is_rough = self.head.run(isa, pool, activations, wanted.near.is_some(), logits)?;
        scratch.unsettled = wanted.near.filter(|_| is_rough);
        Ok(())
    }

    /// The logits in `scratch` of the token `i` of those with logits, after `mask` has taken out what may not come; those
    /// that were wanted are exact.
    ///
    /// # Errors
    /// Those of `mask`; as [`Qwen2::forward`].
    pub fn settle<'a>(
        &self,
        scratch: &'a mut Scratch,
        i: usize,
        pool: &Pool,
        mask: impl FnOnce(&mut [f32]) -> Result<()>,
    ) -> Result<&'a [f32]> {
        let Scratch { activations, logits, unsettled, .. } = scratch;
        let logits = &mut logits[i * self.shape.vocabulary..][..self.shape.vocabulary];
        mask(logits)?;
        if let Some(near) = *unsettled {
            self.head.settle(self.isa, pool, activations, i, near, logits)?;
        }
        Ok(logits)
    }

    fn embed(&self, ids: &[u32], x: &mut Vec<f32>) -> Result<()> {
        let width = self.shape.width;
        x.resize(ids.len() * width, 0.0);
        for (&id, x) in ids.iter().zip(x.chunks_exact_mut(width)) {
            let id = id as usize;
            if id >= self.shape.vocabulary {
                return Err(Error::InvalidInput(format!("token {id} is not in the vocabulary")));
            }
            match &self.embedding {
                Embedding::Tied => self.head.matrix().row(self.isa, id, x),
                Embedding::Rows { kind, bytes } => {
                    let row = bytes.len() / self.shape.vocabulary;
                    unpack_row(*kind, &bytes[id * row..][..row], x);
                }
            }
        }
        Ok(())
    }

    /// Rotary positions (Su et al. 2021): element i turns with element i + head / 2.
    fn rotate(&self, position: usize, tokens: usize, rotation: &mut Vec<(f32, f32)>) {
        let half = self.shape.head / 2;
        rotation.clear();
        for token in 0..tokens {
            for i in 0..half {
                let exponent = -((2 * i) as f32) / self.shape.head as f32;
                let angle = (position + token) as f32 * self.shape.rope_base.powf(exponent);
                rotation.push((angle.cos(), angle.sin()));
            }
        }
    }
}

fn unpack_row(kind: TensorType, bytes: &[u8], out: &mut [f32]) {
    match Format::of(kind) {
        None => floats(kind, bytes, out),
        Some(format) => {
            let mut row = Row::new(out.len(), format);
            row.unpack(kind, bytes);
            row.weights(out);
        }
    }
}
