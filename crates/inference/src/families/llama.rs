//! Llama (Touvron et al. 2023) and decoders built alike: Mistral, SmolLM, Qwen2, Qwen3 and Phi-3; [`gemma`](super::gemma)
//! adds its own style.

use super::gguf::SHORT_FACTORS;
use super::{CausalLm, Source};
use crate::Result;
use crate::network::{
    Activation, Attention, Gated, KeyValues, Linear, Norm, Rope, Rows, Run, Weight, attend,
};

/// What differs between decoders of this build.
pub(super) struct Style {
    /// On the embeddings.
    pub embedding_scale: f32,
    /// Added to the weights of normalisations.
    pub norm_offset: f32,
    /// Of the gate.
    pub activation: Activation,
    /// On the products of queries and keys.
    pub attention_scale: f32,
    /// Whether each part is normalised after it, too.
    pub norms_after: bool,
    /// Rotary positions of each layer, and how many tokens it looks back where that is not all of them.
    pub layers: Vec<(Rope, Option<usize>)>,
}

struct Layer {
    norm: Norm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    query_norm: Option<Norm>,
    key_norm: Option<Norm>,
    norm_after: Option<Norm>,
    wide_norm: Norm,
    wide: Gated,
    wide_norm_after: Option<Norm>,
    rope: Rope,
    window: Option<usize>,
}

/// The network.
pub(super) struct Llama {
    heads: usize,
    key_heads: usize,
    head: usize,
    positions: usize,
    embedding_scale: f32,
    activation: Activation,
    attention_scale: f32,
    words: Weight,
    layers: Vec<Layer>,
    norm: Norm,
    output: Weight,
}

/// Loads a Llama or one built alike.
///
/// # Errors
/// [`crate::Error::Unsupported`], or `Damaged` for what is missing or has another shape.
pub fn load(source: &Source) -> Result<Box<dyn CausalLm>> {
    let (fields, tensors) = (&source.fields, &source.tensors);
    let (_, head) = heads(source)?;
    let kind = fields.text("model_type").unwrap_or("llama");
    let layers = fields.layers("num_hidden_layers")?;
    let mut rope = fields.rope(head, "full_attention", "rope_theta", 10_000.0)?;
    if fields.flag_or("gguf", false) {
        if kind == "llama" {
            rope = rope.neighbours();
        }
        if let Some(factors) = tensors.optional_vector("rope_freqs.weight", head / 2)? {
            rope = rope.divided(&factors);
        }
        if tensors.has(SHORT_FACTORS) {
            let factors = tensors.vector(SHORT_FACTORS, rope.pairs())?;
            rope = rope.divided(&factors).longer(fields.positive_or("attention_factor", 1.0)?);
        }
    }
    let window = match kind {
        "mistral" | "phi3" => fields.optional_size("sliding_window")?,
        _ if fields.flag_or("use_sliding_window", false) => fields.optional_size("sliding_window")?,
        _ => None,
    };
    let first = if matches!(kind, "mistral" | "phi3") {
        0
    } else {
        fields.optional_size("max_window_layers")?.unwrap_or(0)
    };
    let kinds = fields.texts("layer_types");
    let looks_near = |i: usize| match &kinds {
        Some(kinds) => kinds.get(i) == Some(&"sliding_attention"),
        None => i >= first,
    };
    // SmolLM3: layers with a 0 know no positions.
    let turns = fields.ids("no_rope_layers");
    let rope_of = |i: usize| if turns.get(i) == Some(&0) { Rope::new(0, 1.0) } else { rope.clone() };
    let style = Style {
        embedding_scale: 1.0,
        norm_offset: 0.0,
        activation: fields.activation_or("hidden_act", Activation::Silu)?,
        attention_scale: 1.0 / (head as f32).sqrt(),
        norms_after: false,
        layers: (0..layers).map(|i| (rope_of(i), window.filter(|_| looks_near(i)))).collect(),
    };
    Ok(Box::new(Llama::read(source, style)?))
}

/// Number of heads, and values of each.
///
/// # Errors
/// `Damaged` when they make no sense.
pub(super) fn heads(source: &Source) -> Result<(usize, usize)> {
    let fields = &source.fields;
    let (hidden, heads) = (fields.size("hidden_size")?, fields.size("num_attention_heads")?);
    let head = fields.size_or("head_dim", (hidden / heads).max(1))?;
    Ok((heads, head))
}

impl Llama {
    /// Reads the tensors.
    ///
    /// # Errors
    /// As [`load`].
    pub(super) fn read(source: &Source, style: Style) -> Result<Self> {
        let (fields, tensors) = (&source.fields, &source.tensors);
        let hidden = fields.size("hidden_size")?;
        let inner = fields.size("intermediate_size")?;
        let (heads, head) = heads(source)?;
        let key_heads = fields.size_or("num_key_value_heads", heads)?;
        if !heads.is_multiple_of(key_heads) {
            return Err(fields.damaged(format!("{heads} heads on {key_heads}")));
        }
        let epsilon = fields.epsilon("rms_norm_eps", 1e-6)?;
        let norm = |name: &str, width| Norm::rms(tensors, name, width, epsilon, style.norm_offset);
        let optional = |name: String| match tensors.has(&format!("{name}.weight")) {
            true => norm(&name, head).map(Some),
            false => Ok(None),
        };
        let after = |name: String| if style.norms_after { norm(&name, hidden).map(Some) } else { Ok(None) };
        // Files of embedders begin their names one level below.
        let prefix = if tensors.has("embed_tokens.weight") { "" } else { "model." };
        let layer = |(i, (rope, window)): (usize, (Rope, Option<usize>))| -> Result<Layer> {
            let name = |part: &str| format!("{prefix}layers.{i}.{part}");
            let has = |part: &str| tensors.has(&format!("{}.weight", name(part)));
            let parts = [heads * head, key_heads * head, key_heads * head];
            let [query, key, value] = if has("self_attn.qkv_proj") {
                Linear::read_parts(tensors, &name("self_attn.qkv_proj"), parts, hidden)?
            } else {
                let part = |i: usize, part: &str| Linear::read(tensors, &name(part), parts[i], hidden);
                [part(0, "self_attn.q_proj")?, part(1, "self_attn.k_proj")?, part(2, "self_attn.v_proj")?]
            };
            let [gate, up] = if has("mlp.gate_up_proj") {
                Linear::read_parts(tensors, &name("mlp.gate_up_proj"), [inner; 2], hidden)?
            } else {
                let part = |part: &str| Linear::read(tensors, &name(part), inner, hidden);
                [part("mlp.gate_proj")?, part("mlp.up_proj")?]
            };
            let dense = |part: &str, outputs, inputs| Linear::read(tensors, &name(part), outputs, inputs);
            // With norms on both sides the second of four names is that of the norm after attention.
            let wide_norm =
                if style.norms_after { "pre_feedforward_layernorm" } else { "post_attention_layernorm" };
            Ok(Layer {
                norm: norm(&name("input_layernorm"), hidden)?,
                query,
                key,
                value,
                output: dense("self_attn.o_proj", hidden, heads * head)?,
                query_norm: optional(name("self_attn.q_norm"))?,
                key_norm: optional(name("self_attn.k_norm"))?,
                norm_after: after(name("post_attention_layernorm"))?,
                wide_norm: norm(&name(wide_norm), hidden)?,
                wide: Gated { gate, up, down: dense("mlp.down_proj", hidden, inner)? },
                wide_norm_after: after(name("post_feedforward_layernorm"))?,
                rope,
                window,
            })
        };
        let words = tensors.table(&format!("{prefix}embed_tokens.weight"), hidden)?;
        let mut positions = fields.context(2048)?;
        if tensors.has(SHORT_FACTORS) {
            positions = positions.min(fields.size_or("original_max_position_embeddings", positions)?);
        }
        Ok(Self {
            heads,
            key_heads,
            head,
            positions,
            embedding_scale: style.embedding_scale,
            activation: style.activation,
            attention_scale: style.attention_scale,
            output: head_of(source, &words)?,
            words,
            layers: style.layers.into_iter().enumerate().map(layer).collect::<Result<_>>()?,
            norm: norm(&format!("{prefix}norm"), hidden)?,
        })
    }
}

/// The matrix that gives the logits: the embeddings where they are tied, or the file has none of its own.
fn head_of(source: &Source, words: &Weight) -> Result<Weight> {
    const OWN: &str = "lm_head.weight";
    let tied = source.fields.flag_or("tie_word_embeddings", !source.tensors.has(OWN));
    if tied { Ok(words.clone()) } else { source.tensors.matrix(OWN, words.rows(), words.width()) }
}

impl CausalLm for Llama {
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
        let mut x = self.words.gather(ids);
        x.scale(self.embedding_scale);
        for (i, layer) in self.layers.iter().enumerate() {
            let input = layer.norm.of(&x);
            let mut queries = layer.query.apply(&input, run)?;
            let mut keys = layer.key.apply(&input, run)?;
            let values = layer.value.apply(&input, run)?;
            for (rows, norm) in [(&mut queries, &layer.query_norm), (&mut keys, &layer.key_norm)] {
                if let Some(norm) = norm {
                    norm.apply(rows);
                }
                layer.rope.apply(rows, position, self.head);
            }
            let (keys, values) = past.extend(i, &keys, &values);
            let form = Attention {
                heads: self.heads,
                key_heads: self.key_heads,
                scale: self.attention_scale,
                sees: &|q| {
                    let end = position + q + 1;
                    layer.window.map_or(0, |window| end.saturating_sub(window))..end
                },
                bias: None,
            };
            let seen = attend(&form, &queries, keys, values, run)?;
            let mut part = layer.output.apply(&seen, run)?;
            if let Some(norm) = &layer.norm_after {
                norm.apply(&mut part);
            }
            x.add(&part);
            let input = layer.wide_norm.of(&x);
            let mut part = layer.wide.apply(self.activation, &input, run)?;
            if let Some(norm) = &layer.wide_norm_after {
                norm.apply(&mut part);
            }
            x.add(&part);
        }
        past.advance(ids.len());
        self.norm.apply(&mut x);
        Ok(x)
    }

    fn logits(&self, states: &Rows, run: &mut Run<'_>) -> Result<Rows> {
        self.output.product(states, None, run)
    }
}
