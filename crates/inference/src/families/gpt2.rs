//! GPT-2 (Radford et al. 2019).

use super::{CausalLm, Source};
use crate::network::{Activation, Attention, KeyValues, Linear, Norm, Rows, Run, Weight, attend};
use crate::{Error, Result};

struct Layer {
    norm: Norm,
    attention: Linear,
    output: Linear,
    wide_norm: Norm,
    up: Linear,
    down: Linear,
}

struct Gpt2 {
    hidden: usize,
    heads: usize,
    activation: Activation,
    words: Weight,
    places: Weight,
    layers: Vec<Layer>,
    norm: Norm,
}

/// Loads a GPT-2, with names that begin with `transformer.` or without.
///
/// # Errors
/// [`Error::Unsupported`], or `Damaged` for what is missing or has another shape.
pub fn load(source: &Source) -> Result<Box<dyn CausalLm>> {
    let (fields, tensors) = (&source.fields, &source.tensors);
    let is_scaled = fields.flag_or("scale_attn_weights", true);
    if fields.flag_or("scale_attn_by_inverse_layer_idx", false) || !is_scaled {
        return Err(source.unsupported("its attention is scaled in another way"));
    }
    let prefix = if tensors.has("transformer.wte.weight") { "transformer." } else { "" };
    let hidden = fields.size("n_embd")?;
    let inner = fields.size_or("n_inner", 4 * hidden)?;
    let epsilon = fields.epsilon("layer_norm_epsilon", 1e-5)?;
    let norm = |name: &str| Norm::layer(tensors, &format!("{prefix}{name}"), hidden, epsilon);
    let layer = |i: usize| -> Result<Layer> {
        let dense = |part: &str, outputs, inputs| {
            Linear::read_transposed(tensors, &format!("{prefix}h.{i}.{part}"), outputs, inputs)
        };
        Ok(Layer {
            norm: norm(&format!("h.{i}.ln_1"))?,
            attention: dense("attn.c_attn", 3 * hidden, hidden)?,
            output: dense("attn.c_proj", hidden, hidden)?,
            wide_norm: norm(&format!("h.{i}.ln_2"))?,
            up: dense("mlp.c_fc", inner, hidden)?,
            down: dense("mlp.c_proj", hidden, inner)?,
        })
    };
    Ok(Box::new(Gpt2 {
        hidden,
        heads: fields.heads("n_head", hidden)?,
        activation: fields.activation_or("activation_function", Activation::GeluTanh)?,
        words: tensors.table(&format!("{prefix}wte.weight"), hidden)?,
        places: tensors.table(&format!("{prefix}wpe.weight"), hidden)?,
        layers: (0..fields.layers("n_layer")?).map(layer).collect::<Result<_>>()?,
        norm: norm("ln_f")?,
    }))
}

impl CausalLm for Gpt2 {
    fn width(&self) -> usize {
        self.hidden
    }

    fn vocabulary(&self) -> usize {
        self.words.rows()
    }

    fn positions(&self) -> usize {
        self.places.rows()
    }

    fn token_bytes(&self) -> usize {
        2 * self.layers.len() * self.hidden * size_of::<f32>()
    }

    fn start(&self) -> KeyValues {
        KeyValues::new(self.layers.len())
    }

    fn read(&self, ids: &[u32], past: &mut KeyValues, run: &mut Run<'_>) -> Result<Rows> {
        let position = past.tokens();
        let places: Vec<u32> = (position as u32..).take(ids.len()).collect();
        if position + ids.len() > self.places.rows() {
            return Err(Error::InvalidInput("the text is too long".to_owned()));
        }
        let mut x = self.words.gather(ids);
        x.add(&self.places.gather(&places));
        let form = Attention {
            heads: self.heads,
            key_heads: self.heads,
            scale: 1.0 / ((self.hidden / self.heads) as f32).sqrt(),
            sees: &|q| 0..position + q + 1,
            bias: None,
        };
        for (i, layer) in self.layers.iter().enumerate() {
            let all = layer.attention.apply(&layer.norm.of(&x), run)?;
            let [queries, keys, values] = [0, 1, 2].map(|i| all.columns(i * self.hidden, self.hidden));
            let (keys, values) = past.extend(i, &keys, &values);
            let seen = attend(&form, &queries, keys, values, run)?;
            x.add(&layer.output.apply(&seen, run)?);
            let mut wide = layer.up.apply(&layer.wide_norm.of(&x), run)?;
            self.activation.apply(run.isa, &mut wide);
            x.add(&layer.down.apply(&wide, run)?);
        }
        past.advance(ids.len());
        self.norm.apply(&mut x);
        Ok(x)
    }

    fn logits(&self, states: &Rows, run: &mut Run<'_>) -> Result<Rows> {
        self.words.product(states, None, run)
    }
}
