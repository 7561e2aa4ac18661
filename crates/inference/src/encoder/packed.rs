//! The prepared image of a BERT: its weights in the layout that the kernels read.
//!
//! Dense layers are bfloat16 in panels of 32 outputs ([`kernels::product`](super::kernels)); every width is padded with
//! zeros to a multiple of 32, and so is every attention head. Biases and normalisations stay f32. Word embeddings are
//! f16: they are normalised right away, so what its three more bits keep is worth more than range. The vocabulary of a
//! WordPiece or Unigram tokenizer lies beside them.

use std::sync::Arc;

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use pg_answer_models::InstalledModel;
use serde::{Deserialize, Serialize};

use super::config::Bert as Config;
use super::files::Files;
use super::kernels::{COLUMNS, Pairs, Wide, narrow};
use super::tokenizer::{Prepared, Tokenizer};
use super::weights::Weights;
use crate::prepared::{Image, Place, Plan, View};
use crate::{Check, Result};

/// Name and version of this layout.
pub const LAYOUT: &str = "bert-2";
/// Smaller heads are padded to many times their size.
const MIN_HEAD: usize = 8;

/// Panels of the widths of a network.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Elements of a row.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Panels of a row.
    pub row: usize,
    /// Panels of one head.
    pub head: usize,
    /// Panels between the two dense layers of the feed-forward part.
    pub wide: usize,
}

/// What the image says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    vocabulary: usize,
    positions: usize,
    /// None when only the tokenizers library can do what the model's does.
    tokenizer: Option<Prepared>,
}

/// A dense layer y = x·Wᵀ + b.
pub struct Dense {
    /// For each panel of outputs, sixteen pairs of rows for each panel of inputs.
    pub weight: View<Pairs>,
    /// b.
    pub bias: View<Wide>,
}

impl Dense {
    /// Weights and biases of panel `i` of the outputs.
    pub fn panel(&self, i: usize) -> (&[Pairs], &Wide) {
        let size = self.weight.len() / self.bias.len();
        (&self.weight[i * size..][..size], &self.bias[i])
    }
}

/// Scale and shift of a normalisation.
pub struct NormWeights {
    /// Scale.
    pub weight: View<Wide>,
    /// Shift.
    pub bias: View<Wide>,
}

/// Weights of a layer.
pub struct Layer {
    /// For each head its queries, keys and values.
    pub attention: Dense,
    /// From the heads to a row.
    pub output: Dense,
    /// After attention.
    pub output_norm: NormWeights,
    /// From a row to a wide one.
    pub up: Dense,
    /// And back.
    pub down: Dense,
    /// After the feed-forward part.
    pub down_norm: NormWeights,
}

/// The sections of an image.
pub struct Packed {
    /// vocabulary × hidden, bits of f16.
    pub words: View<u16>,
    /// positions × hidden: each with the row of token type 0, which all tokens of a single text have. In a RoBERTa the
    /// first is that of padding.
    pub positions: View<f32>,
    /// After the embeddings.
    pub norm: NormWeights,
    /// All layers.
    pub layers: Vec<Layer>,
    /// Where all that lies.
    pub image: Arc<Image>,
}

impl Shape {
    /// The panels of `config`.
    pub fn new(config: &Config) -> Self {
        Self {
            hidden: config.hidden,
            heads: config.heads,
            row: config.hidden.div_ceil(COLUMNS),
            head: (config.hidden / config.heads).div_ceil(COLUMNS),
            wide: config.intermediate.div_ceil(COLUMNS),
        }
    }

    /// The dense layers of layer `i`: section, panels of outputs, panels of inputs.
    fn dense(&self, i: usize) -> [(String, usize, usize); 4] {
        [
            (format!("{i}.attention"), self.heads * 3 * self.head, self.row),
            (format!("{i}.output"), self.row, self.heads * self.head),
            (format!("{i}.up"), self.wide, self.row),
            (format!("{i}.down"), self.row, self.wide),
        ]
    }

    /// The normalisations of a network of `layers` layers.
    fn norms(layers: usize) -> impl Iterator<Item = String> {
        let of_layer = |i| [format!("{i}.output.norm"), format!("{i}.down.norm")];
        std::iter::once("norm".to_owned()).chain((0..layers).flat_map(of_layer))
    }
}

impl Packed {
    /// Maps the prepared file of `model`, or builds the same in memory when there is none. With it comes its
    /// tokenizer.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`], for the prepared file or the model's own.
    pub fn open(model: &InstalledModel, files: &Files<'_>, config: &Config) -> Result<(Self, Tokenizer)> {
        let image = match Image::open(model, LAYOUT)? {
            Some(image) => image,
            None => build(model, files, config, Place::Memory, &mut || Ok(()))?,
        };
        let shape = Shape::new(config);
        let Meta { vocabulary, positions, tokenizer } = image.meta()?;
        if vocabulary == 0 || positions == 0 {
            return Err(image.damaged("it has no embeddings".to_owned()));
        }
        let dense = |(name, outputs, inputs): &(String, usize, usize)| -> Result<Dense> {
            Ok(Dense {
                weight: image.view(name, outputs.saturating_mul(*inputs).saturating_mul(16))?,
                bias: image.view(&format!("{name}.bias"), *outputs)?,
            })
        };
        let norm = |name: &str| -> Result<NormWeights> {
            Ok(NormWeights {
                weight: image.view(&format!("{name}.weight"), shape.row)?,
                bias: image.view(&format!("{name}.bias"), shape.row)?,
            })
        };
        let layer = |i: usize| -> Result<Layer> {
            let [attention, output, up, down] = shape.dense(i);
            Ok(Layer {
                attention: dense(&attention)?,
                output: dense(&output)?,
                output_norm: norm(&format!("{i}.output.norm"))?,
                up: dense(&up)?,
                down: dense(&down)?,
                down_norm: norm(&format!("{i}.down.norm"))?,
            })
        };
        let tokenizer = match tokenizer {
            Some(prepared) => Tokenizer::open(&image, prepared)?,
            None => Tokenizer::read(files)?,
        };
        let packed = Self {
            words: image.view("words", vocabulary.saturating_mul(shape.hidden))?,
            positions: image.view("positions", positions.saturating_mul(shape.hidden))?,
            norm: norm("norm")?,
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
            image,
        };
        Ok((packed, tokenizer))
    }
}

/// Packs the weights of `model`.
///
/// # Errors
/// [`pg_answer_models::Error::Damaged`] when a tensor is missing or has not the configuration's shape;
/// [`crate::Error::Unsupported`] for heads that are too small; what `check` says.
pub fn build(
    model: &InstalledModel,
    files: &Files<'_>,
    config: &Config,
    place: Place,
    check: Check<'_>,
) -> Result<Arc<Image>> {
    let (h, wide) = (config.hidden, config.intermediate);
    let head_dim = h / config.heads;
    if head_dim < MIN_HEAD {
        return Err(files.unsupported(format!("its attention heads have only {head_dim} elements")));
    }
    let weights = Weights::read(files, config.distilled)?;
    let table = |name: &str| weights.get(&format!("embeddings.{name}.weight"), &[0, h]);
    let (words, mut positions) = (table("word_embeddings")?, table("position_embeddings")?);
    let has_kinds = weights.has("embeddings.token_type_embeddings.weight");
    let kind = if has_kinds { table("token_type_embeddings")? } else { Vec::new() };
    let unused = config.padding.map_or(0, |padding| padding as usize).saturating_mul(h);
    positions.drain(..unused.min(positions.len()));
    for row in positions.chunks_exact_mut(h) {
        row.iter_mut().zip(&kind).for_each(|(p, t)| *p += t);
    }
    // Sizes are believed once a tensor has them: the image is made in one piece.
    for i in 0..config.layers {
        let layer = format!("encoder.layer.{i}");
        weights.expect(&format!("{layer}.intermediate.dense.weight"), &[wide, h])?;
        weights.expect(&format!("{layer}.attention.output.dense.weight"), &[h, h])?;
    }

    let shape = Shape::new(config);
    let (tokenizer, table) = Tokenizer::read(files)?.prepare().unzip();
    let meta = Meta { vocabulary: words.len() / h, positions: positions.len() / h, tokenizer };
    let meta = serde_json::to_value(&meta).map_err(|e| crate::Error::Internal(e.to_string()))?;
    let mut plan = Plan::new(model, LAYOUT, meta);
    plan.section::<u16>("words", words.len());
    plan.section::<f32>("positions", positions.len());
    for name in Shape::norms(config.layers) {
        plan.section::<Wide>(format!("{name}.weight"), shape.row);
        plan.section::<Wide>(format!("{name}.bias"), shape.row);
    }
    for (name, outputs, inputs) in (0..config.layers).flat_map(|i| shape.dense(i)) {
        plan.section::<Pairs>(name.as_str(), outputs * inputs * 16);
        plan.section::<Wide>(format!("{name}.bias"), outputs);
    }

    if let Some(table) = &table {
        table.plan(&mut plan);
    }

    let mut draft = plan.start(place)?;
    if let Some(table) = &table {
        table.fill(&mut draft)?;
    }
    let bits: &mut [u16] = draft.fill("words")?;
    bits.reinterpret_cast_mut::<f16>().convert_from_f32_slice(&words);
    draft.fill("positions")?.copy_from_slice(&positions);

    let row = padded(h, shape.row);
    let middle = padded(wide, shape.wide);
    // Each head of an output row, padded by itself.
    let heads: Vec<Option<usize>> = (0..config.heads)
        .flat_map(|head| padded(head_dim, shape.head).into_iter().map(move |i| Some(head * head_dim + i?)))
        .collect();
    let tensors = |i: usize| {
        let layer = format!("encoder.layer.{i}");
        [format!("{layer}.attention.output"), format!("{layer}.intermediate"), format!("{layer}.output")]
    };
    for (name, source) in Shape::norms(config.layers).zip(
        std::iter::once("embeddings".to_owned())
            .chain((0..config.layers).flat_map(|i| [tensors(i)[0].clone(), tensors(i)[2].clone()])),
    ) {
        for part in ["weight", "bias"] {
            let values = weights.get(&format!("{source}.LayerNorm.{part}"), &[h])?;
            fill_wide(draft.fill(&format!("{name}.{part}"))?, &values, &row);
        }
    }
    for i in 0..config.layers {
        check()?;
        let parts = ["query", "key", "value"];
        let part = |part: &str| format!("encoder.layer.{i}.attention.self.{part}");
        let mut matrix = Vec::new();
        let mut bias = Vec::new();
        for name in parts.map(part) {
            matrix.extend(weights.get(&format!("{name}.weight"), &[h, h])?);
            bias.extend(weights.get(&format!("{name}.bias"), &[h])?);
        }
        // Head by head: its queries, keys, values.
        let outputs: Vec<Option<usize>> = heads
            .chunks_exact(shape.head * COLUMNS)
            .flat_map(|head| (0..3).flat_map(move |p| head.iter().map(move |i| Some(p * h + (*i)?))))
            .collect();
        let [attention, output, up, down] = shape.dense(i).map(|(name, ..)| name);
        fill_pairs(draft.fill(&attention)?, &matrix, h, &outputs, &row);
        fill_wide(draft.fill(&format!("{attention}.bias"))?, &bias, &outputs);
        let [output_name, up_name, down_name] = tensors(i);
        for (section, name, outputs, inputs, (rows, columns)) in [
            (output, output_name, &row, &heads, (h, h)),
            (up, up_name, &middle, &row, (wide, h)),
            (down, down_name, &row, &middle, (h, wide)),
        ] {
            check()?;
            let matrix = weights.get(&format!("{name}.dense.weight"), &[rows, columns])?;
            fill_pairs(draft.fill(&section)?, &matrix, columns, outputs, inputs);
            let bias = weights.get(&format!("{name}.dense.bias"), &[rows])?;
            fill_wide(draft.fill(&format!("{section}.bias"))?, &bias, outputs);
        }
    }
    draft.finish()
}

/// Where the elements of `panels` panels come from: the first `width`, then padding.
fn padded(width: usize, panels: usize) -> Vec<Option<usize>> {
    (0..panels * COLUMNS).map(|i| (i < width).then_some(i)).collect()
}

fn fill_wide(out: &mut [Wide], values: &[f32], from: &[Option<usize>]) {
    for (out, from) in out.as_flattened_mut().iter_mut().zip(from) {
        *out = from.map_or(0.0, |i| values[i]);
    }
}

/// Packs `matrix`, rows of `width` elements: its rows become the columns that `outputs` says.
fn fill_pairs(
    out: &mut [Pairs],
    matrix: &[f32],
    width: usize,
    outputs: &[Option<usize>],
    inputs: &[Option<usize>],
) {
    let at = |output: Option<usize>, input: Option<usize>| match (output, input) {
        (Some(o), Some(i)) => matrix[o * width + i],
        _ => 0.0,
    };
    let panels = out.chunks_exact_mut(inputs.len() / 2).zip(outputs.chunks_exact(COLUMNS));
    for (panel, outputs) in panels {
        for (pairs, inputs) in panel.chunks_exact_mut(16).zip(inputs.chunks_exact(COLUMNS)) {
            for (i, pairs) in pairs.iter_mut().enumerate() {
                for (pair, &output) in pairs.iter_mut().zip(outputs) {
                    *pair = narrow(at(output, inputs[i]), at(output, inputs[i + 16]));
                }
            }
        }
    }
}
