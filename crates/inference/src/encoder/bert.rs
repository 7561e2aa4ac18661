//! BERT (Devlin et al. 2018), the encoder network: token ids in, one row per token out.
//!
//! Texts are not padded: a batch is the concatenation of its texts, one row per token. Dense layers run over
//! all rows at once, attention over each text and head.

use rayon::prelude::*;

use super::config::{Activation, Bert as Config};
use super::dense::Dense;
use super::files::Files;
use super::kernels::{Level, Norm, Scratch, add_norm, attend_head, gelu_bias, gelu_tanh_bias, relu_bias};
use super::weights::Weights;
use crate::{Check, Error, Pool, Result};

/// Work between two calls of the check: about 5 ms on a modern core, 100 ms on one without AVX.
const FLOPS_PER_CHECK: usize = 1 << 29;

/// Weights of the network.
pub struct Bert {
    hidden: usize,
    heads: usize,
    activation: Activation,
    level: Level,
    /// vocabulary × hidden.
    words: Vec<f32>,
    /// positions × hidden.
    positions: Vec<f32>,
    /// The row of token type 0, which all tokens of a single text have.
    token_type: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
}

struct Layer {
    /// Queries, keys and values of all heads.
    qkv: Dense,
    attention: Dense,
    attention_norm: Norm,
    up: Dense,
    down: Dense,
    output_norm: Norm,
}

/// Rows of a running batch and the space its steps need.
struct Batch {
    /// Length of each text.
    lengths: Vec<usize>,
    /// rows × hidden: what the network works on.
    x: Vec<f32>,
    /// rows × hidden: what the next normalisation adds.
    y: Vec<f32>,
    /// rows × 3·hidden or rows × intermediate.
    wide: Vec<f32>,
    /// What heads attend to: for each text, for each head, length × head_dim.
    context: Vec<f32>,
}

impl Bert {
    /// Reads and packs the weights.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`] when a tensor is missing or has not the configuration's shape.
    pub fn read(files: &Files<'_>, config: &Config) -> Result<Self> {
        let weights = Weights::read(files)?;
        let hidden = config.hidden;
        let table = |name: &str| weights.get(&format!("embeddings.{name}.weight"), &[0, hidden]);
        let mut token_type = table("token_type_embeddings")?;
        token_type.truncate(hidden);
        let mut layers = Vec::new();
        for i in 0..config.layers {
            layers.push(Layer::read(&weights, config, &format!("encoder.layer.{i}"))?);
        }
        Ok(Self {
            hidden,
            heads: config.heads,
            activation: config.activation,
            level: Level::best(),
            words: table("word_embeddings")?,
            positions: table("position_embeddings")?,
            token_type,
            norm: read_norm(&weights, config, "embeddings.LayerNorm")?,
            layers,
        })
    }

    /// Elements of a row.
    pub fn hidden(&self) -> usize {
        self.hidden
    }

    /// Most tokens of a text.
    pub fn positions(&self) -> usize {
        self.positions.len() / self.hidden
    }

    /// Number of token ids that are known.
    pub fn vocabulary(&self) -> usize {
        self.words.len() / self.hidden
    }

    /// Bytes of all weights.
    pub fn memory(&self) -> usize {
        let tables = (self.words.len() + self.positions.len()) * size_of::<f32>();
        tables + self.layers.iter().map(Layer::memory).sum::<usize>()
    }

    /// The last hidden state of each token of `texts`, rows × hidden. Each text has at least one and at most
    /// [`Bert::positions`] ids, all below [`Bert::vocabulary`].
    ///
    /// # Errors
    /// What `check` says; [`Error::InvalidInput`] for other texts than these.
    pub fn forward(&self, texts: &[&[u32]], pool: &Pool, check: Check<'_>) -> Result<Vec<f32>> {
        let mut batch = self.embed(texts)?;
        let rows: usize = batch.lengths.iter().sum();
        // Each layer has two halves; as many run in one go as fit between two checks.
        let halves = 2 * self.layers.len();
        let at_once =
            self.layers.first().map_or(1, |l| FLOPS_PER_CHECK / (rows * l.flops() / 2).max(1)).max(1);
        let mut next = 0;
        check()?;
        while next < halves {
            let end = halves.min(next + at_once);
            pool.run(|| -> Result<()> {
                for half in next..end {
                    let layer = &self.layers[half / 2];
                    match half % 2 {
                        0 => self.attend(layer, &mut batch, pool.threads())?,
                        _ => self.feed_forward(layer, &mut batch, pool.threads())?,
                    }
                }
                Ok(())
            })?;
            next = end;
            check()?;
        }
        Ok(batch.x)
    }

    /// How many rows one forward pass should have: enough to fill the matrix kernels, few enough to stay in the
    /// caches and to reach the check in time.
    pub fn rows_at_once(&self) -> usize {
        let flops = self.layers.first().map_or(1, |l| l.flops() / 2).max(1);
        (FLOPS_PER_CHECK / flops).clamp(64, 1024)
    }

    /// Sums of the three embeddings of each token, normalised.
    fn embed(&self, texts: &[&[u32]]) -> Result<Batch> {
        let h = self.hidden;
        let rows: usize = texts.iter().map(|t| t.len()).sum();
        let widest = self.layers.iter().map(|l| l.qkv.outputs().max(l.up.outputs())).max().unwrap_or(0);
        let mut x = Vec::with_capacity(rows * h);
        let mut y = Vec::with_capacity(rows * h);
        for text in texts {
            let positions = self.positions.get(..text.len() * h);
            y.extend_from_slice(positions.ok_or_else(|| Error::InvalidInput("the text is too long".into()))?);
            for &id in *text {
                let row = usize::try_from(id).ok().and_then(|id| self.words.chunks_exact(h).nth(id));
                x.extend_from_slice(
                    row.ok_or_else(|| Error::InvalidInput(format!("token id {id} is unknown")))?,
                );
            }
        }
        add_norm(self.level, &mut x, &y, &self.token_type, &self.norm);
        Ok(Batch {
            lengths: texts.iter().map(|t| t.len()).collect(),
            context: vec![0.0; x.len()],
            wide: vec![0.0; rows * widest],
            x,
            y,
        })
    }

    /// x ← norm(x + dense(attention(x))).
    fn attend(&self, layer: &Layer, batch: &mut Batch, threads: usize) -> Result<()> {
        let h = self.hidden;
        let head_dim = h / self.heads;
        let Batch { lengths, x, y, wide, context } = batch;
        let qkv = &mut wide[..x.len() * 3];
        layer.qkv.apply(x, qkv)?;

        let mut tasks = Vec::with_capacity(lengths.len() * self.heads);
        let (mut rows, mut rest) = (&*qkv, &mut context[..]);
        for &length in lengths.iter() {
            let (text, after) = rows.split_at(length * 3 * h);
            rows = after;
            for head in 0..self.heads {
                let (out, after) = rest.split_at_mut(length * head_dim);
                rest = after;
                tasks.push((text, head, out));
            }
        }
        let run = |scratch: &mut Scratch, (text, head, out): (&[f32], usize, &mut [f32])| {
            attend_head(self.level, text, &layer.qkv.bias, head, head_dim, out, scratch);
        };
        if threads == 1 {
            let mut scratch = Scratch::default();
            tasks.into_iter().for_each(|task| run(&mut scratch, task));
        } else {
            tasks.into_par_iter().for_each_init(Scratch::default, run);
        }

        // From one block per head to one row per token.
        let (mut to, mut from) = (&mut y[..], &context[..]);
        for &length in lengths.iter() {
            let (rows, rest) = to.split_at_mut(length * h);
            let (blocks, after) = from.split_at(length * h);
            (to, from) = (rest, after);
            for (head, block) in blocks.chunks_exact(length * head_dim).enumerate() {
                for (row, part) in rows.chunks_exact_mut(h).zip(block.chunks_exact(head_dim)) {
                    row[head * head_dim..][..head_dim].copy_from_slice(part);
                }
            }
        }
        layer.attention.apply(y, context)?;
        self.add_norm(x, context, &layer.attention.bias, &layer.attention_norm, threads);
        Ok(())
    }

    /// x ← norm(x + down(activation(up(x)))).
    fn feed_forward(&self, layer: &Layer, batch: &mut Batch, threads: usize) -> Result<()> {
        let Batch { x, y, wide, .. } = batch;
        let width = layer.up.outputs();
        let wide = &mut wide[..x.len() / self.hidden * width];
        layer.up.apply(x, wide)?;
        let bias = &layer.up.bias;
        let activate = |rows: &mut [f32]| match self.activation {
            Activation::Gelu => gelu_bias(self.level, rows, bias),
            Activation::GeluTanh => gelu_tanh_bias(self.level, rows, bias),
            Activation::Relu => relu_bias(self.level, rows, bias),
        };
        if threads == 1 {
            activate(wide);
        } else {
            let rows = rows_per_task(wide.len() / width, threads);
            wide.par_chunks_mut(rows * width).for_each(activate);
        }
        layer.down.apply(wide, y)?;
        self.add_norm(x, y, &layer.down.bias, &layer.output_norm, threads);
        Ok(())
    }

    fn add_norm(&self, x: &mut [f32], y: &[f32], bias: &[f32], norm: &Norm, threads: usize) {
        if threads == 1 {
            add_norm(self.level, x, y, bias, norm);
        } else {
            let size = rows_per_task(x.len() / self.hidden, threads) * self.hidden;
            x.par_chunks_mut(size)
                .zip(y.par_chunks(size))
                .for_each(|(x, y)| add_norm(self.level, x, y, bias, norm));
        }
    }
}

/// Enough rows that a task outweighs its hand-over, few enough that all threads have some.
fn rows_per_task(rows: usize, threads: usize) -> usize {
    rows.div_ceil(2 * threads).max(8)
}

impl Layer {
    fn read(weights: &Weights<'_>, config: &Config, name: &str) -> Result<Self> {
        let (h, wide) = (config.hidden, config.intermediate);
        let mut weight = Vec::new();
        let mut bias = Vec::new();
        for part in ["query", "key", "value"] {
            weight.extend(weights.get(&format!("{name}.attention.self.{part}.weight"), &[h, h])?);
            bias.extend(weights.get(&format!("{name}.attention.self.{part}.bias"), &[h])?);
        }
        let dense = |part: &str, outputs: usize, inputs: usize| {
            let weight = weights.get(&format!("{name}.{part}.dense.weight"), &[outputs, inputs])?;
            let bias = weights.get(&format!("{name}.{part}.dense.bias"), &[outputs])?;
            Dense::new(&weight, bias, inputs)
        };
        Ok(Self {
            qkv: Dense::new(&weight, bias, h)?,
            attention: dense("attention.output", h, h)?,
            attention_norm: read_norm(weights, config, &format!("{name}.attention.output.LayerNorm"))?,
            up: dense("intermediate", wide, h)?,
            down: dense("output", h, wide)?,
            output_norm: read_norm(weights, config, &format!("{name}.output.LayerNorm"))?,
        })
    }

    fn memory(&self) -> usize {
        [&self.qkv, &self.attention, &self.up, &self.down].iter().map(|d| d.memory()).sum()
    }

    /// Floating-point operations per row in the dense layers.
    fn flops(&self) -> usize {
        2 * self.memory() / size_of::<f32>()
    }
}

fn read_norm(weights: &Weights<'_>, config: &Config, name: &str) -> Result<Norm> {
    Ok(Norm {
        weight: weights.get(&format!("{name}.weight"), &[config.hidden])?,
        bias: weights.get(&format!("{name}.bias"), &[config.hidden])?,
        epsilon: config.epsilon,
    })
}
