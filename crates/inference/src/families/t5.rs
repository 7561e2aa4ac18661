//! T5 (Raffel et al. 2020) with ReLU, and T5 1.1 and Flan-T5 with gated GELU.

use super::distances::Distances;
use super::{EncoderDecoder, Past, Source};
use crate::Result;
use crate::network::{Activation, Attention, KeyValues, Linear, Norm, Rows, Run, Weight, attend};

struct Heads {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    norm: Norm,
}

struct Wide {
    up: Linear,
    /// What the activation is multiplied with, in gated ones.
    gated: Option<Linear>,
    down: Linear,
    norm: Norm,
}

struct Block {
    own: Heads,
    other: Option<Heads>,
    wide: Wide,
}

struct Stack {
    blocks: Vec<Block>,
    distances: Distances,
    norm: Norm,
}

struct T5 {
    heads: usize,
    /// Distances have no end, but what training had.
    positions: usize,
    activation: Activation,
    words: Weight,
    encoder: Stack,
    decoder: Stack,
    head: Weight,
    /// On the decoder's rows before the logits.
    scale: f32,
}

/// Loads a T5.
///
/// # Errors
/// [`crate::Error::Unsupported`], or `Damaged` for what is missing or has another shape.
pub fn load(source: &Source) -> Result<Box<dyn EncoderDecoder>> {
    let (fields, tensors) = (&source.fields, &source.tensors);
    let width = fields.size("d_model")?;
    let (heads, inner) = (fields.size("num_heads")?, fields.size("d_ff")?);
    let all = heads.saturating_mul(fields.size("d_kv")?);
    let epsilon = fields.epsilon("layer_norm_epsilon", 1e-6)?;
    let buckets = fields.size_or("relative_attention_num_buckets", 32)?;
    let longest = fields.size_or("relative_attention_max_distance", 128)?;
    let form = fields.text("feed_forward_proj").unwrap_or("relu");
    let (is_gated, function) = match form.strip_prefix("gated-") {
        Some(function) => (true, function),
        None => (false, form),
    };
    // "gelu" in a gated form has always meant its approximation.
    let function = if is_gated && function == "gelu" { "gelu_new" } else { function };
    let activation =
        Activation::named(function).ok_or_else(|| source.unsupported(format!("feed_forward_proj {form}")))?;

    let norm = |name: &str| Norm::rms(tensors, name, width, epsilon, 0.0);
    let attention = |name: &str, part: &str| -> Result<Heads> {
        let dense = |last: &str, outputs, inputs| {
            Linear::read(tensors, &format!("{name}.{part}.{last}"), outputs, inputs)
        };
        Ok(Heads {
            query: dense("q", all, width)?,
            key: dense("k", all, width)?,
            value: dense("v", all, width)?,
            output: dense("o", width, all)?,
            norm: norm(&format!("{name}.layer_norm"))?,
        })
    };
    let feed = |name: &str| -> Result<Wide> {
        let dense = |last: &str, outputs, inputs| {
            Linear::read(tensors, &format!("{name}.DenseReluDense.{last}"), outputs, inputs)
        };
        Ok(Wide {
            up: dense(if is_gated { "wi_0" } else { "wi" }, inner, width)?,
            gated: if is_gated { Some(dense("wi_1", inner, width)?) } else { None },
            down: dense("wo", width, inner)?,
            norm: norm(&format!("{name}.layer_norm"))?,
        })
    };
    let stack = |name: &str, layers: usize, is_decoder: bool| -> Result<Stack> {
        let block = |i: usize| -> Result<Block> {
            let layer = |j: usize| format!("{name}.block.{i}.layer.{j}");
            let other = if is_decoder { Some(attention(&layer(1), "EncDecAttention")?) } else { None };
            let wide = feed(&layer(if is_decoder { 2 } else { 1 }))?;
            Ok(Block { own: attention(&layer(0), "SelfAttention")?, other, wide })
        };
        let bias = format!("{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
        Ok(Stack {
            blocks: (0..layers).map(block).collect::<Result<_>>()?,
            distances: Distances::read(tensors, &bias, (buckets, longest), heads, !is_decoder)?,
            norm: norm(&format!("{name}.final_layer_norm"))?,
        })
    };
    let layers = fields.layers("num_layers")?;
    let decoder_layers =
        if fields.has("num_decoder_layers") { fields.layers("num_decoder_layers")? } else { layers };
    let words = tensors.table("shared.weight", width)?;
    const OWN: &str = "lm_head.weight";
    let head = if tensors.has(OWN) { tensors.matrix(OWN, words.rows(), width)? } else { words.clone() };
    // transformers 5 names the scale; before it went with tied embeddings.
    let is_scaled = fields.flag_or("scale_decoder_outputs", fields.flag_or("tie_word_embeddings", true));
    Ok(Box::new(T5 {
        heads,
        positions: fields.size_or("n_positions", 512)?,
        activation,
        words,
        encoder: stack("encoder", layers, false)?,
        decoder: stack("decoder", decoder_layers, true)?,
        head,
        scale: if is_scaled { 1.0 / (width as f32).sqrt() } else { 1.0 },
    }))
}

impl T5 {
    /// x ← x + down(activation(up(norm(x)))).
    fn feed(&self, wide: &Wide, x: &mut Rows, run: &mut Run<'_>) -> Result<()> {
        let input = wide.norm.of(x);
        let mut inner = wide.up.apply(&input, run)?;
        self.activation.apply(run.isa, &mut inner);
        if let Some(gated) = &wide.gated {
            inner.multiply(&gated.apply(&input, run)?);
        }
        x.add(&wide.down.apply(&inner, run)?);
        Ok(())
    }
}

impl EncoderDecoder for T5 {
    fn vocabulary(&self) -> usize {
        self.words.rows()
    }

    fn positions(&self) -> usize {
        self.positions
    }

    fn encode(&self, ids: &[u32], run: &mut Run<'_>) -> Result<Rows> {
        let (tokens, stack) = (ids.len(), &self.encoder);
        let form = Attention {
            heads: self.heads,
            key_heads: self.heads,
            scale: 1.0,
            sees: &|_| 0..tokens,
            bias: Some(&|head, query, key| stack.distances.bias(head, query, key)),
        };
        let mut x = self.words.gather(ids);
        for block in &stack.blocks {
            let input = block.own.norm.of(&x);
            let [query, key, value] =
                [&block.own.query, &block.own.key, &block.own.value].map(|part| part.apply(&input, run));
            let seen = attend(&form, &query?, &key?, &value?, run)?;
            x.add(&block.own.output.apply(&seen, run)?);
            self.feed(&block.wide, &mut x, run)?;
        }
        stack.norm.apply(&mut x);
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
        let own = Attention {
            heads: self.heads,
            key_heads: self.heads,
            scale: 1.0,
            sees: &|_| 0..position + 1,
            bias: Some(&|head, _, key| stack.distances.bias(head, position, key)),
        };
        let mut x = self.words.gather(&[id]);
        for (i, block) in stack.blocks.iter().enumerate() {
            let input = block.own.norm.of(&x);
            let [query, key, value] =
                [&block.own.query, &block.own.key, &block.own.value].map(|part| part.apply(&input, run));
            let (keys, values) = past.own.extend(i, &key?, &value?);
            let seen = attend(&own, &query?, keys, values, run)?;
            x.add(&block.own.output.apply(&seen, run)?);
            if let Some((heads, (keys, values))) = block.other.as_ref().zip(past.cross.get(i)) {
                let tokens = keys.count();
                let form = Attention { sees: &|_| 0..tokens, bias: None, ..own };
                let query = heads.query.apply(&heads.norm.of(&x), run)?;
                let seen = attend(&form, &query, keys, values, run)?;
                x.add(&heads.output.apply(&seen, run)?);
            }
            self.feed(&block.wide, &mut x, run)?;
        }
        past.own.advance(1);
        stack.norm.apply(&mut x);
        x.scale(self.scale);
        Ok(self.head.product(&x, None, run)?.data)
    }
}
