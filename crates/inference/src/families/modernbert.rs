//! ModernBERT (Warner et al. 2024): rotary positions, gated feed-forward parts, and attention that looks only nearby in
//! two of three layers.

use super::{Source, TextEncoder};
use crate::Result;
use crate::network::{Activation, Attention, Linear, Norm, Rope, Rows, Run, Weight, attend};

struct Layer {
    /// The first layer has none: the embeddings are normalised already.
    attention_norm: Option<Norm>,
    attention: Linear,
    output: Linear,
    norm: Norm,
    up: Linear,
    down: Linear,
    rope: Rope,
    /// How far a token sees to each side; all of the text where it is none.
    reach: Option<usize>,
}

struct ModernBert {
    hidden: usize,
    inner: usize,
    heads: usize,
    positions: usize,
    activation: Activation,
    words: Weight,
    norm: Norm,
    layers: Vec<Layer>,
    last_norm: Norm,
}

/// Loads a ModernBERT.
///
/// # Errors
/// [`crate::Error::Unsupported`], or `Damaged` for what is missing or has another shape.
pub fn load(source: &Source) -> Result<Box<dyn TextEncoder>> {
    let (fields, tensors) = (&source.fields, &source.tensors);
    let words = "embeddings.tok_embeddings.weight";
    let prefix = if tensors.has(words) { "" } else { "model." };
    let hidden = fields.size("hidden_size")?;
    let inner = fields.size("intermediate_size")?;
    let heads = fields.heads("num_attention_heads", hidden)?;
    let epsilon = fields.epsilon("norm_eps", 1e-5)?;
    let reach = fields.size_or("local_attention", 128)? / 2;
    let every = fields.size_or("global_attn_every_n_layers", 3)?;
    let kinds = fields.texts("layer_types");
    let norm = |name: &str| Norm::layer(tensors, &format!("{prefix}{name}"), hidden, epsilon);
    let rope_of = |kind: &str, key: &str, base: f64| fields.rope(hidden / heads, kind, key, base);
    let far = rope_of("full_attention", "global_rope_theta", 160_000.0)?;
    let near = rope_of("sliding_attention", "local_rope_theta", 10_000.0)?;
    let layer = |i: usize| -> Result<Layer> {
        let name = |part: &str| format!("layers.{i}.{part}");
        let dense = |part: &str, outputs, inputs| {
            Linear::read(tensors, &format!("{prefix}{}", name(part)), outputs, inputs)
        };
        let is_far = match &kinds {
            Some(kinds) => kinds.get(i) == Some(&"full_attention"),
            None => i.is_multiple_of(every),
        };
        Ok(Layer {
            attention_norm: if i == 0 { None } else { Some(norm(&name("attn_norm"))?) },
            attention: dense("attn.Wqkv", 3 * hidden, hidden)?,
            output: dense("attn.Wo", hidden, hidden)?,
            norm: norm(&name("mlp_norm"))?,
            up: dense("mlp.Wi", 2 * inner, hidden)?,
            down: dense("mlp.Wo", hidden, inner)?,
            rope: if is_far { far.clone() } else { near.clone() },
            reach: if is_far { None } else { Some(reach) },
        })
    };
    Ok(Box::new(ModernBert {
        hidden,
        inner,
        heads,
        positions: fields.size_or("max_position_embeddings", 8192)?,
        activation: fields.activation_or("hidden_activation", Activation::Gelu)?,
        words: tensors.table(&format!("{prefix}{words}"), hidden)?,
        norm: norm("embeddings.norm")?,
        layers: (0..fields.layers("num_hidden_layers")?).map(layer).collect::<Result<_>>()?,
        last_norm: norm("final_norm")?,
    }))
}

impl TextEncoder for ModernBert {
    fn dims(&self) -> usize {
        self.hidden
    }

    fn positions(&self) -> usize {
        self.positions
    }

    fn vocabulary(&self) -> usize {
        self.words.rows()
    }

    fn forward(&self, ids: &[u32], _: &[u32], run: &mut Run<'_>) -> Result<Rows> {
        let tokens = ids.len();
        let mut x = self.words.gather(ids);
        self.norm.apply(&mut x);
        for layer in &self.layers {
            let input = layer.attention_norm.as_ref().map_or_else(|| x.clone(), |norm| norm.of(&x));
            let all = layer.attention.apply(&input, run)?;
            let [mut queries, mut keys, values] =
                [0, 1, 2].map(|i| all.columns(i * self.hidden, self.hidden));
            let head = self.hidden / self.heads;
            layer.rope.apply(&mut queries, 0, head);
            layer.rope.apply(&mut keys, 0, head);
            let form = Attention {
                heads: self.heads,
                key_heads: self.heads,
                scale: 1.0 / (head as f32).sqrt(),
                sees: &|q| match layer.reach {
                    Some(reach) => q.saturating_sub(reach)..(q + reach + 1).min(tokens),
                    None => 0..tokens,
                },
                bias: None,
            };
            let seen = attend(&form, &queries, &keys, &values, run)?;
            x.add(&layer.output.apply(&seen, run)?);
            let both = layer.up.apply(&layer.norm.of(&x), run)?;
            let (mut wide, gate) = (both.columns(0, self.inner), both.columns(self.inner, self.inner));
            self.activation.apply(run.isa, &mut wide);
            wide.multiply(&gate);
            x.add(&layer.down.apply(&wide, run)?);
        }
        self.last_norm.apply(&mut x);
        Ok(x)
    }
}
