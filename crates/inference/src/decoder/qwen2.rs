//! The forward pass of Qwen2 (Yang et al. 2024): RMS norm, rotary positions, grouped queries with biases, SwiGLU.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::activations::Activations;
use super::attention::{Task, attend};
use super::cache::Cache;
use super::gguf::TensorType;
use super::isa::Isa;
use super::lanes::{rms_norm, swiglu};
use super::matrix::{Matrix, Product, floats, multiply};
use super::parallel;
use super::prepare::{EMBEDDING, Meta, OUTPUT, OUTPUT_NORM};
use super::quantized::unpack::{Format, Row};
use super::shape::{Shape, name};
use crate::prepared::{Image, View};
use crate::{Check, Error, Pool, Result};

/// Tokens that go through the layers together.
pub const CHUNK: usize = 256;
/// Tokens of one attention job; fixed, so that results do not depend on the number of threads.
const QUERY_TOKENS: usize = 8;
/// The caller is asked whether to go on at least this often, up to the time of one layer.
const SLICE: Duration = Duration::from_millis(15);
struct Layer {
    attention_norm: View<f32>,
    /// Queries, keys and values.
    inputs: [Matrix; 3],
    biases: [View<f32>; 3],
    attention_out: Matrix,
    inner_norm: View<f32>,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
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
    output: Matrix,
}

/// Buffers of the forward pass.
#[derive(Default)]
pub struct Scratch {
    x: Vec<f32>,
    activations: Activations,
    products: [Product; 3],
    queries: Vec<f32>,
    attention: Vec<f32>,
    /// Cosine and sine of each token and pair of elements.
    rotation: Vec<(f32, f32)>,
    /// `[token][entry of the vocabulary]` of the tokens whose logits were asked for.
    pub logits: Vec<f32>,
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
        let output = matrix(OUTPUT, (shape.vocabulary, shape.width))?;
        Ok(Self { shape, isa: Isa::best(), embedding, layers, output_norm, output })
    }

    /// An empty cache for this model.
    pub fn cache(&self) -> Cache {
        let full = self.layers.iter().all(|layer| layer.inputs[1].is_dense());
        Cache::new(self.shape.layers, self.shape.key_heads, self.shape.head, full)
    }

    /// Reads at most [`CHUNK`] tokens at `position`; leaves the logits after the last `outputs` of them in `scratch`.
    ///
    /// # Errors
    /// `Internal` when memory is short; whatever `check` returns.
    pub fn forward(
        &self,
        (cache, scratch): (&mut Cache, &mut Scratch),
        ids: &[u32],
        position: usize,
        outputs: usize,
        pool: &Pool,
        check: Check<'_>,
    ) -> Result<()> {
        cache.reserve(position + ids.len())?;
        self.embed(ids, &mut scratch.x)?;
        self.rotate(position, ids.len(), &mut scratch.rotation);
        let threads = pool.threads();
        let mut next = 0;
        while next < self.layers.len() {
            check()?;
            next = pool.run(|| {
                let start = Instant::now();
                let mut next = next;
                while next < self.layers.len() && (start.elapsed() < SLICE) {
                    self.layer(next, cache, scratch, position, threads);
                    next += 1;
                }
                next
            });
        }
        check()?;
        if outputs > 0 {
            pool.run(|| self.outputs(outputs, scratch, threads));
            check()?;
        }
        Ok(())
    }

    /// Logits after the last `count` tokens.
    fn outputs(&self, count: usize, scratch: &mut Scratch, threads: usize) {
        let Scratch { x, activations, products: [product, ..], logits, .. } = scratch;
        let width = self.shape.width;
        let x = &x[x.len() - count * width..];
        activations.fill(self.isa, 1, (count, width), &mut [], |token, _, row| {
            rms_norm(self.isa, &x[token * width..][..width], &self.output_norm, self.shape.epsilon, row);
        });
        multiply(self.isa, threads, [&self.output], activations, [product]);
        logits.resize(count * self.shape.vocabulary, 0.0);
        for (token, logits) in logits.chunks_exact_mut(self.shape.vocabulary).enumerate() {
            product.token(token, logits);
        }
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
                Embedding::Tied => self.output.row(self.isa, id, x),
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

    fn layer(&self, index: usize, cache: &mut Cache, scratch: &mut Scratch, position: usize, threads: usize) {
        let Shape { width, inner, heads, key_heads, head, epsilon, .. } = self.shape;
        let (layer, isa) = (&self.layers[index], self.isa);
        let Scratch { x, activations, products: [a, b, c], queries, attention, rotation, .. } = scratch;
        let tokens = x.len() / width;
        let (query_width, key_width) = (heads * head, key_heads * head);
        activations.fill(isa, threads, (tokens, width), x, |_, x, row| {
            rms_norm(isa, x, &layer.attention_norm, epsilon, row);
        });
        multiply(isa, threads, layer.inputs.each_ref(), activations, [a, b, c]);

        // Queries, keys and values of a token side by side.
        let stride = query_width + 2 * key_width;
        queries.resize(tokens * stride, 0.0);
        let each = parallel::share(tokens, threads, 1);
        let jobs = queries.chunks_mut(each * stride).enumerate().collect();
        parallel::for_each(threads, jobs, |(i, rows): (usize, &mut [f32])| {
            for (j, row) in rows.chunks_exact_mut(stride).enumerate() {
                let token = i * each + j;
                let (q, kv) = row.split_at_mut(query_width);
                let (k, v) = kv.split_at_mut(key_width);
                a.token(token, q);
                b.token(token, k);
                c.token(token, v);
                for (row, bias) in [&mut *q, k, v].into_iter().zip(&layer.biases) {
                    row.iter_mut().zip(&**bias).for_each(|(x, b)| *x += b);
                }
                let turns = &rotation[token * head / 2..][..head / 2];
                let scale = 1.0 / (head as f32).sqrt();
                row[..query_width].chunks_exact_mut(head).for_each(|x| turn(x, turns, scale));
                row[query_width..query_width + key_width]
                    .chunks_exact_mut(head)
                    .for_each(|x| turn(x, turns, 1.0));
            }
        });

        let cached = cache.layer(index);
        let jobs = cached.iter_mut().enumerate().collect();
        let write = |(h, cell): (usize, &mut super::cache::Head)| {
            for (token, row) in queries.chunks_exact(stride).enumerate() {
                let key = &row[query_width + h * head..][..head];
                let value = &row[query_width + key_width + h * head..][..head];
                cell.write(position + token, key, value);
            }
        };
        parallel::for_each(if tokens < QUERY_TOKENS { 1 } else { threads }, jobs, write);

        // Attention results: [key head][token][query head of the group][element].
        let group = heads / key_heads;
        attention.resize(tokens * query_width, 0.0);
        let mut jobs = Vec::new();
        for (h, out) in attention.chunks_exact_mut(tokens * group * head).enumerate() {
            for (i, out) in out.chunks_mut(QUERY_TOKENS * group * head).enumerate() {
                let first = i * QUERY_TOKENS;
                jobs.push(Task {
                    queries: &queries[first * stride + h * group * head..],
                    stride,
                    group,
                    size: head,
                    position: position + first,
                    head: &cached[h],
                    out,
                });
            }
        }
        // The last tokens have the longest rows of scores: start with them.
        jobs.reverse();
        parallel::for_each(threads, jobs, |task| attend(isa, task));

        activations.fill(isa, threads, (tokens, query_width), &mut [], |token, _, row| {
            for (h, row) in row.chunks_exact_mut(group * head).enumerate() {
                let from = (h * tokens + token) * group * head;
                row.copy_from_slice(&attention[from..][..group * head]);
            }
        });
        multiply(isa, threads, [&layer.attention_out], activations, [a]);
        activations.fill(isa, threads, (tokens, width), x, |token, x, row| {
            a.token(token, row);
            x.iter_mut().zip(&*row).for_each(|(x, y)| *x += y);
            rms_norm(isa, x, &layer.inner_norm, epsilon, row);
        });
        multiply(isa, threads, [&layer.gate, &layer.up], activations, [a, b]);
        activations.fill(isa, threads, (tokens, inner), &mut [], |token, _, row| {
            let mut both = vec![0.0; 2 * inner];
            let (gate, up) = both.split_at_mut(inner);
            a.token(token, gate);
            b.token(token, up);
            swiglu(isa, gate, up, row);
        });
        multiply(isa, threads, [&layer.down], activations, [a]);
        let each = parallel::share(tokens, threads, 1);
        let jobs = x.chunks_mut(each * width).enumerate().collect();
        parallel::for_each(threads, jobs, |(i, rows): (usize, &mut [f32])| {
            let mut y = vec![0.0; width];
            for (j, x) in rows.chunks_exact_mut(width).enumerate() {
                a.token(i * each + j, &mut y);
                x.iter_mut().zip(&y).for_each(|(x, y)| *x += y);
            }
        });
    }
}

fn turn(x: &mut [f32], turns: &[(f32, f32)], scale: f32) {
    let (low, high) = x.split_at_mut(turns.len());
    for ((low, high), (cos, sin)) in low.iter_mut().zip(high).zip(turns) {
        (*low, *high) = ((*low * cos - *high * sin) * scale, (*high * cos + *low * sin) * scale);
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
