//! BERT (Devlin et al. 2018) and what differs from it by names, positions or a bias on the scores: RoBERTa and XLM-R,
//! DistilBERT, MPNet (Song et al. 2020).

use super::distances::Distances;
use super::{Fields, Source, TextEncoder};
use crate::network::{Activation, Attention, Linear, Norm, Rows, Run, Tensors, Weight, attend};
use crate::{Error, Result};

/// Names of the tensors of a layer.
struct Names {
    layer: &'static str,
    attention: [&'static str; 4],
    output_norm: &'static str,
    up: &'static str,
    down: &'static str,
    down_norm: &'static str,
}

const BERT: Names = Names {
    layer: "encoder.layer.",
    attention: [
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
    ],
    output_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    down_norm: "output.LayerNorm",
};

const DISTILBERT: Names = Names {
    layer: "transformer.layer.",
    attention: ["attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"],
    output_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    down_norm: "output_layer_norm",
};

const MPNET: Names = Names {
    attention: ["attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o"],
    output_norm: "attention.LayerNorm",
    ..BERT
};

/// Sizes of a network.
struct Shape {
    hidden: usize,
    inner: usize,
    heads: usize,
    layers: usize,
    epsilon: f32,
    activation: Activation,
}

/// How tokens get their positions.
#[derive(Debug, Clone, Copy)]
enum Positions {
    /// From 0.
    Plain,
    /// From this id of the padding token plus one; padding inside of a text stays at it.
    After(u32),
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    output_norm: Norm,
    up: Linear,
    down: Linear,
    down_norm: Norm,
}

/// The network.
pub struct Bert {
    shape: Shape,
    words: Weight,
    places: Weight,
    kinds: Option<Weight>,
    positions: Positions,
    norm: Norm,
    layers: Vec<Layer>,
    /// For each head a bias by the distance of two tokens.
    distances: Option<Distances>,
}

/// Loads a BERT.
///
/// # Errors
/// [`Error::Unsupported`], or `Damaged` for what is missing or has another shape.
pub fn load(source: &Source) -> Result<Box<dyn TextEncoder>> {
    Ok(Box::new(Bert::read(source)?))
}

/// Loads a RoBERTa or XLM-R.
///
/// # Errors
/// As [`load`].
pub fn load_roberta(source: &Source) -> Result<Box<dyn TextEncoder>> {
    Ok(Box::new(Bert::read_roberta(source)?))
}

/// Loads a DistilBERT.
///
/// # Errors
/// As [`load`].
pub fn load_distilbert(source: &Source) -> Result<Box<dyn TextEncoder>> {
    Ok(Box::new(Bert::read_distilbert(source)?))
}

/// Loads an MPNet.
///
/// # Errors
/// As [`load`].
pub fn load_mpnet(source: &Source) -> Result<Box<dyn TextEncoder>> {
    let positions = Positions::After(1);
    let mut network = Bert::build(source, shape(&source.fields)?, &MPNET, &["", "mpnet."], positions)?;
    let buckets = source.fields.size_or("relative_attention_num_buckets", 32)?;
    let tensors = &source.tensors;
    let name = network.prefixed("encoder.relative_attention_bias.weight", tensors);
    network.distances = Some(Distances::read(tensors, &name, (buckets, 128), network.shape.heads, true)?);
    Ok(Box::new(network))
}

/// The sizes in a configuration with BERT's keys.
fn shape(fields: &Fields) -> Result<Shape> {
    if let Some(other) = fields.text("position_embedding_type").filter(|kind| *kind != "absolute") {
        return Err(fields.unsupported(format!("position_embedding_type {other}")));
    }
    if fields.flag_or("is_decoder", false) {
        return Err(fields.unsupported("it is a BERT decoder".to_owned()));
    }
    let hidden = fields.size("hidden_size")?;
    Ok(Shape {
        hidden,
        inner: fields.size("intermediate_size")?,
        heads: fields.heads("num_attention_heads", hidden)?,
        layers: fields.layers("num_hidden_layers")?,
        epsilon: fields.epsilon("layer_norm_eps", 1e-12)?,
        activation: fields.activation_or("hidden_act", Activation::Gelu)?,
    })
}

impl Bert {
    /// A BERT.
    ///
    /// # Errors
    /// As [`load`].
    pub fn read(source: &Source) -> Result<Self> {
        Self::build(source, shape(&source.fields)?, &BERT, &["", "bert."], Positions::Plain)
    }

    /// A RoBERTa or XLM-R.
    ///
    /// # Errors
    /// As [`load`].
    pub fn read_roberta(source: &Source) -> Result<Self> {
        let positions = Positions::After(source.fields.id("pad_token_id").unwrap_or(1));
        Self::build(source, shape(&source.fields)?, &BERT, &["", "roberta."], positions)
    }

    /// A DistilBERT.
    ///
    /// # Errors
    /// As [`load`].
    pub fn read_distilbert(source: &Source) -> Result<Self> {
        let fields = &source.fields;
        let hidden = fields.size("dim")?;
        let shape = Shape {
            hidden,
            inner: fields.size("hidden_dim")?,
            heads: fields.heads("n_heads", hidden)?,
            layers: fields.layers("n_layers")?,
            epsilon: 1e-12,
            activation: fields.activation_or("activation", Activation::Gelu)?,
        };
        Self::build(source, shape, &DISTILBERT, &["", "distilbert."], Positions::Plain)
    }

    fn build(
        source: &Source,
        shape: Shape,
        names: &Names,
        prefixes: &[&str],
        positions: Positions,
    ) -> Result<Self> {
        let tensors = &source.tensors;
        let words = "embeddings.word_embeddings.weight";
        let prefix = prefixes.iter().find(|prefix| tensors.has(&format!("{prefix}{words}"))).unwrap_or(&"");
        let Shape { hidden, inner, epsilon, .. } = shape;
        let table = |name: &str| tensors.table(&format!("{prefix}embeddings.{name}.weight"), hidden);
        let layer = |i: usize| -> Result<Layer> {
            let name = |part: &str| format!("{prefix}{}{i}.{part}", names.layer);
            let dense = |part: &str, outputs, inputs| Linear::read(tensors, &name(part), outputs, inputs);
            let [query, key, value, output] = names.attention;
            Ok(Layer {
                query: dense(query, hidden, hidden)?,
                key: dense(key, hidden, hidden)?,
                value: dense(value, hidden, hidden)?,
                output: dense(output, hidden, hidden)?,
                output_norm: Norm::layer(tensors, &name(names.output_norm), hidden, epsilon)?,
                up: dense(names.up, inner, hidden)?,
                down: dense(names.down, hidden, inner)?,
                down_norm: Norm::layer(tensors, &name(names.down_norm), hidden, epsilon)?,
            })
        };
        let kinds = format!("{prefix}embeddings.token_type_embeddings.weight");
        let network = Self {
            words: table("word_embeddings")?,
            places: table("position_embeddings")?,
            kinds: if tensors.has(&kinds) { Some(tensors.table(&kinds, hidden)?) } else { None },
            norm: Norm::layer(tensors, &format!("{prefix}embeddings.LayerNorm"), hidden, epsilon)?,
            layers: (0..shape.layers).map(layer).collect::<Result<_>>()?,
            distances: None,
            positions,
            shape,
        };
        if network.positions() == 0 {
            return Err(tensors.damaged("it has no positions".to_owned()));
        }
        Ok(network)
    }

    /// `name` with the prefix that the file's names have.
    fn prefixed(&self, name: &str, tensors: &Tensors) -> String {
        let with = format!("mpnet.{name}");
        if tensors.has(&with) { with } else { name.to_owned() }
    }

    fn embed(&self, ids: &[u32], kinds: &[u32]) -> Result<Rows> {
        let mut x = self.words.gather(ids);
        let mut next = 0;
        let places: Vec<u32> = match self.positions {
            Positions::Plain => (0..ids.len() as u32).collect(),
            Positions::After(pad) => ids
                .iter()
                .map(|&id| {
                    let is_text = id != pad;
                    next += u32::from(is_text);
                    pad + if is_text { next } else { 0 }
                })
                .collect(),
        };
        if places.iter().any(|&place| place as usize >= self.places.rows()) {
            return Err(Error::InvalidInput("the text is too long".to_owned()));
        }
        x.add(&self.places.gather(&places));
        if let Some(table) = &self.kinds {
            x.add(&table.gather_within(kinds));
        }
        self.norm.apply(&mut x);
        Ok(x)
    }
}

impl TextEncoder for Bert {
    fn dims(&self) -> usize {
        self.shape.hidden
    }

    fn positions(&self) -> usize {
        match self.positions {
            Positions::Plain => self.places.rows(),
            Positions::After(pad) => self.places.rows().saturating_sub(pad as usize + 1),
        }
    }

    fn vocabulary(&self) -> usize {
        self.words.rows()
    }

    fn forward(&self, ids: &[u32], kinds: &[u32], run: &mut Run<'_>) -> Result<Rows> {
        let tokens = ids.len();
        let bias = self.distances.as_ref().map(|d| move |head, query, key| d.bias(head, query, key));
        let form = Attention {
            heads: self.shape.heads,
            key_heads: self.shape.heads,
            scale: 1.0 / ((self.shape.hidden / self.shape.heads) as f32).sqrt(),
            sees: &|_| 0..tokens,
            bias: bias.as_ref().map(|bias| bias as _),
        };
        let mut x = self.embed(ids, kinds)?;
        for layer in &self.layers {
            let [query, key, value] =
                [&layer.query, &layer.key, &layer.value].map(|part| part.apply(&x, run));
            let seen = attend(&form, &query?, &key?, &value?, run)?;
            x.add(&layer.output.apply(&seen, run)?);
            layer.output_norm.apply(&mut x);
            let mut wide = layer.up.apply(&x, run)?;
            self.shape.activation.apply(run.isa, &mut wide);
            x.add(&layer.down.apply(&wide, run)?);
            layer.down_norm.apply(&mut x);
        }
        Ok(x)
    }
}
