//! BERT (Devlin et al. 2018), the encoder network: token ids in, one row per token out.
//!
//! Texts are not padded: a batch is the concatenation of its texts, one row per token. Rows are stored in panels of 32
//! columns, so that each panel of a step's result is one piece of memory that one thread writes.

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

use super::config::{Activation, Bert as Config};
use super::kernels::{
    COLUMNS, Head, Level, Line, Norm, ROWS, Scratch, Wide, attend, for_blocks, gelu_lines, gelu_tanh_lines,
    lines as lines_of, multiply, multiply_add, normalize, relu_lines,
};
use super::packed::{Dense, Layer, NormWeights, Packed, Shape};
use crate::{Check, Error, Pool, Result};

/// Panels of the wide rows that are computed in one go.
const WIDE_PANELS: usize = 4;
/// Most rows whose wide rows are computed before any is used: they stay in a core's cache.
const WIDE_ROWS: usize = 108;

/// A network ready to run.
pub struct Bert {
    shape: Shape,
    activation: Activation,
    epsilon: f32,
    /// In a RoBERTa.
    padding: Option<u32>,
    level: Level,
    packed: Packed,
}

/// Rows of a running batch and the space that its steps need, kept from batch to batch.
#[derive(Default)]
pub struct Batch {
    /// Length of each text.
    lengths: Vec<usize>,
    /// Rows of all texts, and perhaps one more: see [`odd`].
    rows: usize,
    /// What the network works on.
    x: Vec<Wide>,
    /// The same, rounded.
    lines: Vec<Line>,
    /// What heads attend to.
    context: Vec<Line>,
    /// Between the two dense layers of the feed-forward part.
    wide: Vec<Line>,
}

/// Rows `first..first + count` of panels of lines that have `stride` rows.
#[derive(Clone, Copy)]
struct Part<'a> {
    lines: &'a [Line],
    stride: usize,
    first: usize,
    count: usize,
}

/// Space for one head.
#[derive(Default)]
struct HeadSpace {
    /// Queries, keys and values.
    parts: [Vec<Line>; 3],
    attention: Scratch,
}

impl Batch {
    /// Row `r`, `width` elements.
    pub fn row(&self, r: usize, width: usize) -> impl Iterator<Item = f32> {
        self.x.iter().skip(r).step_by(self.rows).flatten().copied().take(width)
    }
}

impl Bert {
    /// The network of `config` with the weights in `packed`.
    pub fn new(config: &Config, packed: Packed) -> Self {
        Self {
            shape: Shape::new(config),
            activation: config.activation,
            epsilon: config.epsilon,
            padding: config.padding,
            level: Level::best(),
            packed,
        }
    }

    /// Elements of a row.
    pub fn hidden(&self) -> usize {
        self.shape.hidden
    }

    /// Most tokens of a text.
    pub fn positions(&self) -> usize {
        (self.packed.positions.len() / self.shape.hidden).saturating_sub(usize::from(self.padding.is_some()))
    }

    /// Number of token ids that are known.
    pub fn vocabulary(&self) -> usize {
        self.packed.words.len() / self.shape.hidden
    }

    /// Bytes of all weights, shared with other processes or not.
    pub fn memory(&self) -> usize {
        self.packed.image.memory()
    }

    /// Computes the last hidden state of each token of `texts` into the rows of `batch`. Each text has at least one and
    /// at most [`Bert::positions`] ids, all below [`Bert::vocabulary`].
    ///
    /// # Errors
    /// What `check` says; [`Error::InvalidInput`] for other texts than these.
    pub fn forward(&self, texts: &[&[u32]], batch: &mut Batch, pool: &Pool, check: Check<'_>) -> Result<()> {
        self.embed(texts, batch)?;
        for layer in &self.packed.layers {
            self.attend(layer, batch, pool, check)?;
            self.feed_forward(layer, batch, pool, check)?;
        }
        Ok(())
    }

    /// Sums of the embeddings of each token, normalised.
    fn embed(&self, texts: &[&[u32]], batch: &mut Batch) -> Result<()> {
        let Shape { hidden: h, heads, row, head, .. } = self.shape;
        let tokens: usize = texts.iter().map(|t| t.len()).sum();
        let rows = odd(tokens);
        batch.rows = rows;
        batch.lengths.clear();
        batch.lengths.extend(texts.iter().map(|t| t.len()));
        batch.x.clear();
        batch.x.resize(row * rows, [0.0; COLUMNS]);
        batch.lines.resize(row * rows, Line::default());
        batch.context.clear();
        batch.context.resize(heads * head * rows, Line::default());
        let words: &[f16] = self.packed.words.reinterpret_cast();
        let mut sum = vec![0.0; h];
        let mut r = 0;
        for text in texts {
            let mut next = 0;
            for &id in *text {
                // A RoBERTa counts from 1, and leaves padding at 0 wherever it stands.
                let position = match self.padding {
                    Some(padding) if padding == id => 0,
                    Some(_) => next + 1,
                    None => next,
                };
                next += usize::from(self.padding != Some(id));
                let word = usize::try_from(id).ok().and_then(|id| words.chunks_exact(h).nth(id));
                let word = word.ok_or_else(|| Error::InvalidInput(format!("token id {id} is unknown")))?;
                let place = self.packed.positions.chunks_exact(h).nth(position);
                let place = place.ok_or_else(|| Error::InvalidInput("the text is too long".into()))?;
                word.convert_to_f32_slice(&mut sum);
                sum.iter_mut().zip(place).for_each(|(s, p)| *s += p);
                for (out, part) in batch.x.iter_mut().skip(r).step_by(rows).zip(sum.chunks(COLUMNS)) {
                    out[..part.len()].copy_from_slice(part);
                }
                r += 1;
            }
        }
        self.normalize(batch, &self.packed.norm);
        Ok(())
    }

    fn normalize(&self, batch: &mut Batch, norm: &NormWeights) {
        let norm =
            Norm { weight: &norm.weight, bias: &norm.bias, width: self.shape.hidden, epsilon: self.epsilon };
        normalize(self.level, &mut batch.x, &mut batch.lines, batch.rows, &norm);
    }

    /// x ← norm(x + output(attention(x))).
    fn attend(&self, layer: &Layer, batch: &mut Batch, pool: &Pool, check: Check<'_>) -> Result<()> {
        let (rows, panels) = (batch.rows, self.shape.head);
        let scale = 1.0 / ((self.shape.hidden / self.shape.heads) as f32).sqrt();
        let (x, lengths) = (Part::all(&batch.lines, rows), &batch.lengths);
        let head = |space: &mut HeadSpace, head: usize, out: &mut [Line], check: Check<'_>| {
            check()?;
            for (part, lines) in space.parts.iter_mut().enumerate() {
                lines.resize(panels * rows, Line::default());
                for (panel, lines) in lines.chunks_exact_mut(rows).enumerate() {
                    let panel = (head * 3 + part) * panels + panel;
                    self.product(&layer.attention, panel, x, lines, lines_of);
                }
            }
            let [queries, keys, values] = &space.parts;
            let head = Head { queries, keys, values, rows, scale };
            let mut first = 0;
            for &length in lengths {
                attend(self.level, &head, first, length, out, &mut space.attention);
                first += length;
            }
            Ok(())
        };
        pool.for_each(&mut batch.context, panels * rows, check, HeadSpace::default, head)?;
        let context = Part::all(&batch.context, rows);
        self.add_product(&layer.output, context, &mut batch.x, rows, 0, pool, check)?;
        self.normalize(batch, &layer.output_norm);
        Ok(())
    }

    /// x ← norm(x + down(activation(up(x)))), some rows at a time.
    fn feed_forward(&self, layer: &Layer, batch: &mut Batch, pool: &Pool, check: Check<'_>) -> Result<()> {
        let rows = batch.rows;
        let activate = match self.activation {
            Activation::Gelu => gelu_lines,
            Activation::GeluTanh => gelu_tanh_lines,
            Activation::Relu => relu_lines,
        };
        let blocks = rows.div_ceil(WIDE_ROWS);
        for block in 0..blocks {
            let first = rows * block / blocks;
            let count = rows * (block + 1) / blocks - first;
            let x = Part { lines: &batch.lines, stride: rows, first, count };
            let stride = odd(count);
            batch.wide.resize(self.shape.wide * stride, Line::default());
            let up = |(): &mut (), chunk: usize, out: &mut [Line], check: Check<'_>| {
                check()?;
                for (panel, lines) in out.chunks_exact_mut(stride).enumerate() {
                    self.product(&layer.up, chunk * WIDE_PANELS + panel, x, lines, activate);
                }
                Ok(())
            };
            pool.for_each(&mut batch.wide, WIDE_PANELS * stride, check, || (), up)?;
            let wide = Part { lines: &batch.wide, stride, first: 0, count };
            self.add_product(&layer.down, wide, &mut batch.x, rows, first, pool, check)?;
        }
        self.normalize(batch, &layer.down_norm);
        Ok(())
    }

    /// x ← x + dense(part), from row `first` of x on, which has panels of `rows` rows.
    #[allow(clippy::too_many_arguments)]
    fn add_product(
        &self,
        dense: &Dense,
        part: Part<'_>,
        x: &mut [Wide],
        rows: usize,
        first: usize,
        pool: &Pool,
        check: Check<'_>,
    ) -> Result<()> {
        let add = |(): &mut (), panel: usize, x: &mut [Wide], check: Check<'_>| {
            check()?;
            let (weight, bias) = dense.panel(panel);
            for_blocks(part.count, |start, count| {
                let out = &mut x[first + start..][..count];
                multiply_add(self.level, part.from(start), part.stride, weight, bias, out);
            });
            Ok(())
        };
        pool.for_each(x, rows, check, || (), add)
    }

    /// Multiplies `part` with a panel of `dense`; `store` makes lines of the product.
    fn product(
        &self,
        dense: &Dense,
        panel: usize,
        part: Part<'_>,
        out: &mut [Line],
        store: impl Fn(Level, &[Wide], &mut [Line]),
    ) {
        let (weight, bias) = dense.panel(panel);
        let mut product = [[0.0; COLUMNS]; ROWS];
        for_blocks(part.count, |start, count| {
            let product = &mut product[..count];
            multiply(self.level, part.from(start), part.stride, weight, bias, product);
            store(self.level, product, &mut out[start..]);
        });
    }
}

impl<'a> Part<'a> {
    fn all(lines: &'a [Line], rows: usize) -> Self {
        Self { lines, stride: rows, first: 0, count: rows }
    }

    /// The lines from row `start` of the part on.
    fn from(&self, start: usize) -> &'a [Line] {
        &self.lines[self.first + start..]
    }
}

/// Rows of a panel: with an even number of many rows the panels would share a few sets of the caches.
fn odd(rows: usize) -> usize {
    if rows > 64 { rows | 1 } else { rows }
}
