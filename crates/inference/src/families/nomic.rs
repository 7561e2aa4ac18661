//! Nomic BERT (Nussbaum et al. 2024): BERT with rotary positions and gated feed-forward parts.

use super::{Source, TextEncoder};
use crate::Result;
use crate::network::{Activation, Attention, Gated, Linear, Norm, Rope, Rows, Run, Weight, attend};

/// Settings of the published code that no published model uses otherwise, and what they are there.
const USUAL: [(&str, bool); 5] = [
    ("prenorm", false),
    ("use_rms_norm", false),
    ("parallel_block", false),
    ("rotary_emb_interleaved", false),
    ("causal", false),
];

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    output_norm: Norm,
    inner: Gated,
    inner_norm: Norm,
}

struct Nomic {
    hidden: usize,
    heads: usize,
    positions: usize,
    activation: Activation,
    rope: Rope,
    words: Weight,
    kinds: Option<Weight>,
    norm: Norm,
    layers: Vec<Layer>,
}

/// Loads a Nomic BERT, configured by GPT-2's keys as published, or by BERT's as transformers writes them.
///
/// # Errors
/// [`crate::Error::Unsupported`], or `Damaged` for what is missing or has another shape.
pub fn load(source: &Source) -> Result<Box<dyn TextEncoder>> {
    let (fields, tensors) = (&source.fields, &source.tensors);
    if let Some((key, _)) = USUAL.iter().find(|(key, usual)| fields.flag_or(key, *usual) != *usual) {
        return Err(source.unsupported(*key));
    }
    if fields.has("num_experts") {
        return Err(source.unsupported("it is a mixture of experts"));
    }
    let key =
        |published: &'static str, key: &'static str| if fields.has(published) { published } else { key };
    let hidden = fields.size(key("n_embd", "hidden_size"))?;
    let inner = fields.size(key("n_inner", "intermediate_size"))?;
    let heads = fields.heads(key("n_head", "num_attention_heads"), hidden)?;
    let epsilon = fields.epsilon(key("layer_norm_epsilon", "layer_norm_eps"), 1e-12)?;
    let activation = match fields.text("activation_function") {
        Some("swiglu") => Activation::Silu,
        Some("geglu") => Activation::Gelu,
        Some(other) => return Err(source.unsupported(format!("activation_function {other}"))),
        None => fields.activation_or("hidden_act", Activation::Silu)?,
    };
    let base = key("rotary_emb_base", "rope_theta");
    if fields.positive_or("rotary_emb_fraction", 1.0)? < 1.0 {
        return Err(source.unsupported("rotary_emb_fraction"));
    }
    let layer = |i: usize| -> Result<Layer> {
        let name = |part: &str| format!("encoder.layers.{i}.{part}");
        let dense = |part: &str, outputs, inputs| Linear::read(tensors, &name(part), outputs, inputs);
        let norm = |part: &str| Norm::layer(tensors, &name(part), hidden, epsilon);
        let [query, key, value] = Linear::read_parts(tensors, &name("attn.Wqkv"), [hidden; 3], hidden)?;
        Ok(Layer {
            query,
            key,
            value,
            output: dense("attn.out_proj", hidden, hidden)?,
            output_norm: norm("norm1")?,
            inner: Gated {
                gate: dense("mlp.fc12", inner, hidden)?,
                up: dense("mlp.fc11", inner, hidden)?,
                down: dense("mlp.fc2", hidden, inner)?,
            },
            inner_norm: norm("norm2")?,
        })
    };
    let kinds = "embeddings.token_type_embeddings.weight";
    let mut positions = fields.size_or(key("n_positions", "max_position_embeddings"), 2048)?;
    // Longer texts than those of the training would change the base of the rotation.
    if fields.has("rotary_scaling_factor") {
        positions = positions.min(fields.size_or("max_trained_positions", 2048)?);
    }
    Ok(Box::new(Nomic {
        hidden,
        heads,
        positions,
        activation,
        rope: fields.rope(hidden / heads, "full_attention", base, 1000.0)?,
        words: tensors.table("embeddings.word_embeddings.weight", hidden)?,
        kinds: if tensors.has(kinds) { Some(tensors.table(kinds, hidden)?) } else { None },
        norm: Norm::layer(tensors, "emb_ln", hidden, epsilon)?,
        layers: (0..fields.layers(key("n_layer", "num_hidden_layers"))?).map(layer).collect::<Result<_>>()?,
    }))
}

impl TextEncoder for Nomic {
    fn dims(&self) -> usize {
        self.hidden
    }

    fn positions(&self) -> usize {
        self.positions
    }

    fn vocabulary(&self) -> usize {
        self.words.rows()
    }

    fn forward(&self, ids: &[u32], kinds: &[u32], run: &mut Run<'_>) -> Result<Rows> {
        let tokens = ids.len();
        let head = self.hidden / self.heads;
        let form = Attention {
            heads: self.heads,
            key_heads: self.heads,
            scale: 1.0 / (head as f32).sqrt(),
            sees: &|_| 0..tokens,
            bias: None,
        };
        let mut x = self.words.gather(ids);
        if let Some(table) = &self.kinds {
            x.add(&table.gather_within(kinds));
        }
        self.norm.apply(&mut x);
        for layer in &self.layers {
            let mut queries = layer.query.apply(&x, run)?;
            let mut keys = layer.key.apply(&x, run)?;
            self.rope.apply(&mut queries, 0, head);
            self.rope.apply(&mut keys, 0, head);
            let seen = attend(&form, &queries, &keys, &layer.value.apply(&x, run)?, run)?;
            x.add(&layer.output.apply(&seen, run)?);
            layer.output_norm.apply(&mut x);
            x.add(&layer.inner.apply(self.activation, &x, run)?);
            layer.inner_norm.apply(&mut x);
        }
        Ok(x)
    }
}
