//! Phi-1.5 and Phi-2 (Gunasekar et al. 2023): attention and the feed-forward part read the same normalised rows, and
//! rotary positions turn only a part of each head. Phi-3 and later are built like [`llama`](super::llama).

use super::{CausalLm, Source};
use crate::Result;
use crate::network::{Activation, Attention, KeyValues, Linear, Norm, Rope, Rows, Run, Weight, attend};

struct Layer {
    norm: Norm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    up: Linear,
    down: Linear,
}

struct Phi {
    heads: usize,
    key_heads: usize,
    head: usize,
    positions: usize,
    activation: Activation,
    rope: Rope,
    words: Weight,
    layers: Vec<Layer>,
    norm: Norm,
    output: Linear,
}

/// Loads a Phi-1.5 or Phi-2.
///
/// # Errors
/// [`crate::Error::Unsupported`], or `Damaged` for what is missing or has another shape.
pub fn load(source: &Source) -> Result<Box<dyn CausalLm>> {
    let (fields, tensors) = (&source.fields, &source.tensors);
    if fields.flag_or("qk_layernorm", false) {
        return Err(source.unsupported("its queries and keys are normalised"));
    }
    let hidden = fields.size("hidden_size")?;
    let inner = fields.size("intermediate_size")?;
    let heads = fields.heads("num_attention_heads", hidden)?;
    let key_heads = fields.size_or("num_key_value_heads", heads)?;
    if !heads.is_multiple_of(key_heads) {
        return Err(fields.damaged(format!("{heads} heads on {key_heads}")));
    }
    let head = hidden / heads;
    let epsilon = fields.epsilon("layer_norm_eps", 1e-5)?;
    let layer = |i: usize| -> Result<Layer> {
        let name = |part: &str| format!("model.layers.{i}.{part}");
        let dense = |part: &str, outputs, inputs| Linear::read(tensors, &name(part), outputs, inputs);
        Ok(Layer {
            norm: Norm::layer(tensors, &name("input_layernorm"), hidden, epsilon)?,
            query: dense("self_attn.q_proj", hidden, hidden)?,
            key: dense("self_attn.k_proj", key_heads * head, hidden)?,
            value: dense("self_attn.v_proj", key_heads * head, hidden)?,
            output: dense("self_attn.dense", hidden, hidden)?,
            up: dense("mlp.fc1", inner, hidden)?,
            down: dense("mlp.fc2", hidden, inner)?,
        })
    };
    let words = tensors.table("model.embed_tokens.weight", hidden)?;
    Ok(Box::new(Phi {
        heads,
        key_heads,
        head,
        positions: fields.size_or("max_position_embeddings", 2048)?,
        activation: fields.activation_or("hidden_act", Activation::GeluTanh)?,
        rope: fields.rope(head, "full_attention", "rope_theta", 10_000.0)?,
        layers: (0..fields.layers("num_hidden_layers")?).map(layer).collect::<Result<_>>()?,
        norm: Norm::layer(tensors, "model.final_layernorm", hidden, epsilon)?,
        output: Linear::read(tensors, "lm_head", words.rows(), hidden)?,
        words,
    }))
}

impl CausalLm for Phi {
    fn width(&self) -> usize {
        self.words.width()
    }

    fn vocabulary(&self) -> usize {
        self.words.rows()
    }

    fn positions(&self) -> usize {
        self.positions
    }

    fn token_bytes(&self) -> usize {
        2 * self.layers.len() * self.key_heads * self.head * size_of::<f32>()
    }

    fn start(&self) -> KeyValues {
        KeyValues::new(self.layers.len())
    }

    fn read(&self, ids: &[u32], past: &mut KeyValues, run: &mut Run<'_>) -> Result<Rows> {
        let position = past.tokens();
        let form = Attention {
            heads: self.heads,
            key_heads: self.key_heads,
            scale: 1.0 / (self.head as f32).sqrt(),
            sees: &|q| 0..position + q + 1,
            bias: None,
        };
        let mut x = self.words.gather(ids);
        for (i, layer) in self.layers.iter().enumerate() {
            let input = layer.norm.of(&x);
            let mut queries = layer.query.apply(&input, run)?;
            let mut keys = layer.key.apply(&input, run)?;
            let values = layer.value.apply(&input, run)?;
            self.rope.apply(&mut queries, position, self.head);
            self.rope.apply(&mut keys, position, self.head);
            let (keys, values) = past.extend(i, &keys, &values);
            let seen = attend(&form, &queries, keys, values, run)?;
            let mut wide = layer.up.apply(&input, run)?;
            self.activation.apply(run.isa, &mut wide);
            x.add(&layer.output.apply(&seen, run)?);
            x.add(&layer.down.apply(&wide, run)?);
        }
        past.advance(ids.len());
        self.norm.apply(&mut x);
        Ok(x)
    }

    fn logits(&self, states: &Rows, run: &mut Run<'_>) -> Result<Rows> {
        self.output.apply(states, run)
    }
}
