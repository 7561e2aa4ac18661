//! BART (Lewis et al. 2020), and Marian (Junczys-Dowmunt et al. 2018) with positions by sines and no norm on embeddings.

use super::{EncoderDecoder, Past, Source};
use crate::network::{Activation, Attention, KeyValues, Linear, Norm, Rows, Run, Tensors, Weight, attend};
use crate::{Error, Result};

/// More positions than any of these models has; those by sines are made in memory.
const MAX_POSITIONS: usize = 1 << 16;

struct Heads {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    norm: Norm,
}

struct Block {
    own: Heads,
    other: Option<Heads>,
    up: Linear,
    down: Linear,
    norm: Norm,
}

struct Stack {
    places: Weight,
    norm: Option<Norm>,
    blocks: Vec<Block>,
    heads: usize,
}

struct Bart {
    width: usize,
    activation: Activation,
    words: Weight,
    /// On the embeddings.
    scale: f32,
    /// The row of the first position.
    first: usize,
    encoder: Stack,
    decoder: Stack,
    head: Weight,
    bias: Option<Vec<f32>>,
}

/// Loads a BART.
///
/// # Errors
/// [`Error::Unsupported`], or `Damaged` for what is missing or has another shape.
pub fn load(source: &Source) -> Result<Box<dyn EncoderDecoder>> {
    // Two rows stand before the first position, since fairseq counted them from after its padding.
    Ok(Box::new(Bart::read(source, 2)?))
}

/// Loads a Marian.
///
/// # Errors
/// As [`load`].
pub fn load_marian(source: &Source) -> Result<Box<dyn EncoderDecoder>> {
    Ok(Box::new(Bart::read(source, 0)?))
}

/// Names of the layers of a stack, and their sizes.
struct Part<'a> {
    name: &'a str,
    heads: usize,
    inner: usize,
    layers: usize,
    positions: usize,
    is_decoder: bool,
}

impl Bart {
    fn read(source: &Source, first: usize) -> Result<Self> {
        let (fields, tensors) = (&source.fields, &source.tensors);
        let width = fields.size("d_model")?;
        let prefix = if tensors.has("model.shared.weight") { "model." } else { "" };
        let words = tensors.table(&format!("{prefix}shared.weight"), width)?;
        let part = |name: &'static str, is_decoder| -> Result<Part<'static>> {
            let key = |what: &str| format!("{name}_{what}");
            Ok(Part {
                name,
                heads: fields.heads(&key("attention_heads"), width)?,
                inner: fields.size(&key("ffn_dim"))?,
                layers: fields.layers(&key("layers"))?,
                positions: fields.size("max_position_embeddings")?,
                is_decoder,
            })
        };
        if fields.size("max_position_embeddings")? > MAX_POSITIONS {
            return Err(source.unsupported("it has too many positions"));
        }
        for (key, expected) in [("normalize_before", false), ("add_final_layer_norm", false)] {
            if fields.flag_or(key, expected) != expected {
                return Err(source.unsupported(key));
            }
        }
        let stack = |part: Part<'_>| Stack::read(tensors, prefix, width, first, &part);
        let encoder = stack(part("encoder", false)?)?;
        let decoder = stack(part("decoder", true)?)?;
        const OWN: &str = "lm_head.weight";
        let tied = fields.flag_or("tie_word_embeddings", true) || !tensors.has(OWN);
        Ok(Self {
            width,
            activation: fields.activation_or("activation_function", Activation::Gelu)?,
            scale: if fields.flag_or("scale_embedding", false) { (width as f32).sqrt() } else { 1.0 },
            first,
            encoder,
            decoder,
            head: if tied { words.clone() } else { tensors.matrix(OWN, words.rows(), width)? },
            bias: tensors.optional_vector("final_logits_bias", words.rows())?,
            words,
        })
    }

    /// Embeddings of tokens, the first at `position`.
    fn embed(&self, stack: &Stack, ids: &[u32], position: usize) -> Result<Rows> {
        let start = self.first + position;
        if start + ids.len() > stack.places.rows() {
            return Err(Error::InvalidInput("the text is too long".to_owned()));
        }
        let mut x = self.words.gather(ids);
        x.scale(self.scale);
        let places: Vec<u32> = (start as u32..).take(ids.len()).collect();
        x.add(&stack.places.gather(&places));
        if let Some(norm) = &stack.norm {
            norm.apply(&mut x);
        }
        Ok(x)
    }

    fn feed(&self, block: &Block, x: &mut Rows, run: &mut Run<'_>) -> Result<()> {
        let mut wide = block.up.apply(x, run)?;
        self.activation.apply(run.isa, &mut wide);
        x.add(&block.down.apply(&wide, run)?);
        block.norm.apply(x);
        Ok(())
    }
}

impl Stack {
    fn read(tensors: &Tensors, prefix: &str, width: usize, first: usize, part: &Part<'_>) -> Result<Self> {
        let name = |last: &str| format!("{prefix}{}.{last}", part.name);
        let attention = |i: usize, kind: &str| -> Result<Heads> {
            let dense =
                |last: &str| Linear::read(tensors, &name(&format!("layers.{i}.{kind}.{last}")), width, width);
            Ok(Heads {
                query: dense("q_proj")?,
                key: dense("k_proj")?,
                value: dense("v_proj")?,
                output: dense("out_proj")?,
                norm: Norm::layer(tensors, &name(&format!("layers.{i}.{kind}_layer_norm")), width, 1e-5)?,
            })
        };
        let block = |i: usize| -> Result<Block> {
            let layer = |last: &str| name(&format!("layers.{i}.{last}"));
            Ok(Block {
                own: attention(i, "self_attn")?,
                other: if part.is_decoder { Some(attention(i, "encoder_attn")?) } else { None },
                up: Linear::read(tensors, &layer("fc1"), part.inner, width)?,
                down: Linear::read(tensors, &layer("fc2"), width, part.inner)?,
                norm: Norm::layer(tensors, &layer("final_layer_norm"), width, 1e-5)?,
            })
        };
        let places = name("embed_positions.weight");
        let norm = name("layernorm_embedding");
        Ok(Self {
            places: match tensors.has(&places) || first > 0 {
                true => tensors.matrix(&places, part.positions + first, width)?,
                false => waves(part.positions, width),
            },
            norm: match tensors.has(&format!("{norm}.weight")) {
                true => Some(Norm::layer(tensors, &norm, width, 1e-5)?),
                false => None,
            },
            blocks: (0..part.layers).map(block).collect::<Result<_>>()?,
            heads: part.heads,
        })
    }

    fn form<'a>(
        &self,
        width: usize,
        sees: &'a (dyn Fn(usize) -> std::ops::Range<usize> + Sync),
    ) -> Attention<'a> {
        let scale = 1.0 / ((width / self.heads) as f32).sqrt();
        Attention { heads: self.heads, key_heads: self.heads, scale, sees, bias: None }
    }
}

/// Positions by sines (Vaswani et al. 2017): the sines of all frequencies, then their cosines.
fn waves(positions: usize, width: usize) -> Weight {
    let half = width / 2;
    let value = |position: usize, i: usize| {
        let turn = position as f64 / 10_000_f64.powf(2.0 * (i % half.max(1)) as f64 / width as f64);
        (if i < half { turn.sin() } else { turn.cos() }) as f32
    };
    let rows = (0..positions).flat_map(|position| (0..width).map(move |i| (position, i)));
    Weight::owned(rows.map(|(position, i)| value(position, i)).collect(), width)
}

impl EncoderDecoder for Bart {
    fn vocabulary(&self) -> usize {
        self.words.rows()
    }

    fn positions(&self) -> usize {
        (self.encoder.places.rows() - self.first).min(self.decoder.places.rows() - self.first)
    }

    fn encode(&self, ids: &[u32], run: &mut Run<'_>) -> Result<Rows> {
        let (tokens, stack) = (ids.len(), &self.encoder);
        let sees = |_| 0..tokens;
        let form = stack.form(self.width, &sees);
        let mut x = self.embed(stack, ids, 0)?;
        for block in &stack.blocks {
            let [query, key, value] =
                [&block.own.query, &block.own.key, &block.own.value].map(|part| part.apply(&x, run));
            let seen = attend(&form, &query?, &key?, &value?, run)?;
            x.add(&block.own.output.apply(&seen, run)?);
            block.own.norm.apply(&mut x);
            self.feed(block, &mut x, run)?;
        }
        Ok(x)
    }

    fn start(&self, states: &Rows, run: &mut Run<'_>) -> Result<Past> {
        let mut cross = Vec::new();
        for heads in self.decoder.blocks.iter().filter_map(|block| block.other.as_ref()) {
            cross.push((heads.key.apply(states, run)?, heads.value.apply(states, run)?));
        }
        Ok(Past::new(KeyValues::new(self.decoder.blocks.len()), cross))
    }

    fn step(&self, id: u32, past: &mut Past, run: &mut Run<'_>) -> Result<Vec<f32>> {
        let (position, stack) = (past.own.tokens(), &self.decoder);
        let sees = |_| 0..position + 1;
        let own = stack.form(self.width, &sees);
        let mut x = self.embed(stack, &[id], position)?;
        for (i, block) in stack.blocks.iter().enumerate() {
            let [query, key, value] =
                [&block.own.query, &block.own.key, &block.own.value].map(|part| part.apply(&x, run));
            let (keys, values) = past.own.extend(i, &key?, &value?);
            let seen = attend(&own, &query?, keys, values, run)?;
            x.add(&block.own.output.apply(&seen, run)?);
            block.own.norm.apply(&mut x);
            if let Some((heads, (keys, values))) = block.other.as_ref().zip(past.cross.get(i)) {
                let tokens = keys.count();
                let sees = |_| 0..tokens;
                let query = heads.query.apply(&x, run)?;
                let seen = attend(&stack.form(self.width, &sees), &query, keys, values, run)?;
                x.add(&heads.output.apply(&seen, run)?);
                heads.norm.apply(&mut x);
            }
            self.feed(block, &mut x, run)?;
        }
        past.own.advance(1);
        Ok(self.head.product(&x, self.bias.as_deref(), run)?.data)
    }
}
