//! Gemma 3 (Gemma Team 2025): Llama's build with norms on both sides of each part, and most layers looking only nearby.

use super::llama::{Llama, Style, heads};
use super::{CausalLm, Source};
use crate::Result;
use crate::network::{Activation, Rope};

/// Loads a Gemma 3 for text.
///
/// # Errors
/// [`crate::Error::Unsupported`], or `Damaged` for what is missing or has another shape.
pub fn load(source: &Source) -> Result<Box<dyn CausalLm>> {
    let fields = &source.fields;
    if fields.flag_or("use_bidirectional_attention", false) {
        return Err(source.unsupported("it looks ahead"));
    }
    let (_, head) = heads(source)?;
    let far = fields.rope(head, "full_attention", "rope_theta", 1_000_000.0)?;
    let near = match fields.below("rope_parameters") {
        Some(_) => fields.rope(head, "sliding_attention", "rope_local_base_freq", 10_000.0)?,
        // `rope_scaling` is that of the layers that see all.
        None => Rope::new(head, fields.positive_or("rope_local_base_freq", 10_000.0)?),
    };
    let window = fields.size_or("sliding_window", 4096)?;
    let every = fields.size_or("sliding_window_pattern", 6)?;
    let kinds = fields.texts("layer_types");
    let is_far = |i: usize| match &kinds {
        Some(kinds) => kinds.get(i) == Some(&"full_attention"),
        None => (i + 1).is_multiple_of(every),
    };
    let layer = |i| if is_far(i) { (far.clone(), None) } else { (near.clone(), Some(window)) };
    let style = Style {
        embedding_scale: (fields.size("hidden_size")? as f32).sqrt(),
        // In GGUF files it has been added.
        norm_offset: if fields.flag_or("gguf", false) { 0.0 } else { 1.0 },
        activation: fields.activation_or("hidden_activation", Activation::GeluTanh)?,
        attention_scale: 1.0 / (fields.size_or("query_pre_attn_scalar", head)? as f32).sqrt(),
        norms_after: true,
        layers: (0..fields.layers("num_hidden_layers")?).map(layer).collect(),
    };
    for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
        if fields.has(key) {
            return Err(source.unsupported(key));
        }
    }
    Ok(Box::new(Llama::read(source, style)?))
}
