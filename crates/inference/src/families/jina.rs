//! JinaBERT v2 (Günther et al. 2023): BERT without positions, whose scores fall with the distance of two tokens (ALiBi),
//! with gated feed-forward parts.

use super::{Source, TextEncoder};
use crate::Result;
use crate::network::{Activation, Attention, Gated, Linear, Norm, Rows, Run, Weight, attend};

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    output_norm: Norm,
    inner: Gated,
    inner_norm: Norm,
}

struct Jina {
    hidden: usize,
    positions: usize,
    activation: Activation,
    /// How fast the scores of each head fall.
    slopes: Vec<f32>,
    words: Weight,
    kinds: Weight,
    norm: Norm,
    layers: Vec<Layer>,
}

/// Loads a JinaBERT v2.
///
/// # Errors
/// [`crate::Error::Unsupported`], or `Damaged` for what is missing or has another shape.
pub fn load(source: &Source) -> Result<Box<dyn TextEncoder>> {
    let (fields, tensors) = (&source.fields, &source.tensors);
    if let Some(other) = fields.text("position_embedding_type").filter(|kind| *kind != "alibi") {
        return Err(source.unsupported(format!("position_embedding_type {other}")));
    }
    let activation = match fields.text("feed_forward_type").unwrap_or("geglu") {
        "geglu" => Activation::Gelu,
        "reglu" => Activation::Relu,
        other => return Err(source.unsupported(format!("feed_forward_type {other}"))),
    };
    if tensors.has("encoder.layer.0.attention.self.layer_norm_q.weight") {
        return Err(source.unsupported("its queries and keys are normalised"));
    }
    let words = "embeddings.word_embeddings.weight";
    let prefix = if tensors.has(words) { "" } else { "bert." };
    let hidden = fields.size("hidden_size")?;
    let inner = fields.size("intermediate_size")?;
    let heads = fields.heads("num_attention_heads", hidden)?;
    let epsilon = fields.epsilon("layer_norm_eps", 1e-12)?;
    let layer = |i: usize| -> Result<Layer> {
        let name = |part: &str| format!("{prefix}encoder.layer.{i}.{part}");
        let dense = |part: &str, outputs, inputs| Linear::read(tensors, &name(part), outputs, inputs);
        let norm = |part: &str| Norm::layer(tensors, &name(part), hidden, epsilon);
        let [gate, up] = match tensors.has(&format!("{}.weight", name("mlp.gated_layers"))) {
            true => Linear::read_parts(tensors, &name("mlp.gated_layers"), [inner; 2], hidden)?,
            // GGUF files hold them apart.
            false => [dense("mlp.gate", inner, hidden)?, dense("mlp.up", inner, hidden)?],
        };
        Ok(Layer {
            query: dense("attention.self.query", hidden, hidden)?,
            key: dense("attention.self.key", hidden, hidden)?,
            value: dense("attention.self.value", hidden, hidden)?,
            output: dense("attention.output.dense", hidden, hidden)?,
            output_norm: norm("attention.output.LayerNorm")?,
            inner: Gated { gate, up, down: dense("mlp.wo", hidden, inner)? },
            inner_norm: norm("mlp.layernorm")?,
        })
    };
    Ok(Box::new(Jina {
        hidden,
        positions: fields.size_or("max_position_embeddings", 8192)?,
        activation,
        slopes: slopes(heads),
        words: tensors.table(&format!("{prefix}{words}"), hidden)?,
        kinds: tensors.table(&format!("{prefix}embeddings.token_type_embeddings.weight"), hidden)?,
        norm: Norm::layer(tensors, &format!("{prefix}embeddings.LayerNorm"), hidden, epsilon)?,
        layers: (0..fields.layers("num_hidden_layers")?).map(layer).collect::<Result<_>>()?,
    }))
}

/// 2^(-8i/n) for heads 1 to n, a power of two; for other numbers those of the power below, then every second of the
/// power above (Press et al. 2022).
fn slopes(heads: usize) -> Vec<f32> {
    let powers = |n: usize| (1..=n).map(move |i| (-8.0 * i as f64 / n as f64).exp2() as f32);
    let below = 1 << heads.ilog2();
    powers(below).chain(powers(2 * below).step_by(2)).take(heads).collect()
}

impl TextEncoder for Jina {
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
        let (tokens, heads) = (ids.len(), self.slopes.len());
        let bias = |head: usize, query: usize, key: usize| -self.slopes[head] * query.abs_diff(key) as f32;
        let form = Attention {
            heads,
            key_heads: heads,
            scale: 1.0 / ((self.hidden / heads) as f32).sqrt(),
            sees: &|_| 0..tokens,
            bias: Some(&bias),
        };
        let mut x = self.words.gather(ids);
        x.add(&self.kinds.gather_within(kinds));
        self.norm.apply(&mut x);
        for layer in &self.layers {
            let [query, key, value] =
                [&layer.query, &layer.key, &layer.value].map(|part| part.apply(&x, run));
            let seen = attend(&form, &query?, &key?, &value?, run)?;
            x.add(&layer.output.apply(&seen, run)?);
            layer.output_norm.apply(&mut x);
            x.add(&layer.inner.apply(self.activation, &x, run)?);
            layer.inner_norm.apply(&mut x);
        }
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_those_of_the_paper() {
        assert_eq!(slopes(4), [0.25, 0.0625, 0.015_625, 0.003_906_25]);
        assert_eq!(slopes(6)[4..], [0.5, 0.125]);
    }
}
