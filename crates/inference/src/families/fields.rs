//! The entries of a model's `config.json`, which is untrusted: numbers are held against limits here and against the
//! tensors' shapes later.

use std::path::PathBuf;

use pg_answer_models::Error as ModelError;
use serde_json::{Map, Value};

use crate::network::rope::Llama3;
use crate::network::{Activation, Rope};
use crate::{Error, Result};

/// Most that a number of rows, tokens or values is believed to be.
const MAX_SIZE: usize = 1 << 24;
/// The share of a head's values that rotary positions turn.
const SHARE: &str = "partial_rotary_factor";
/// Tokens of the first training, where the context was made longer later.
const FIRST_CONTEXT: &str = "original_max_position_embeddings";
/// Most layers that are believed.
const MAX_LAYERS: usize = 1024;

/// Entries of a configuration.
#[derive(Debug, Clone)]
pub struct Fields {
    path: PathBuf,
    model: String,
    entries: Map<String, Value>,
}

impl Fields {
    /// The entries of the file `path` of `model`.
    pub fn new(path: PathBuf, model: &str, entries: Map<String, Value>) -> Self {
        Self { path, model: model.to_owned(), entries }
    }

    /// The first of `architectures`, and `model_type`.
    pub fn names(&self) -> (Option<&str>, Option<&str>) {
        let first = self.entries.get("architectures").and_then(|list| list.get(0)?.as_str());
        (first, self.text("model_type"))
    }

    /// An error about the file.
    pub fn damaged(&self, reason: String) -> Error {
        ModelError::Damaged { path: self.path.clone(), reason }.into()
    }

    /// An error about the model as a whole.
    pub fn unsupported(&self, reason: String) -> Error {
        Error::Unsupported { model: self.model.clone(), reason }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key).filter(|value| !value.is_null())
    }

    /// A positive whole number.
    ///
    /// # Errors
    /// `Damaged` when it is missing, or more than any model has.
    pub fn size(&self, key: &str) -> Result<usize> {
        match self.get(key) {
            Some(_) => self.size_or(key, 0),
            None => Err(self.damaged(format!("{key} is missing"))),
        }
    }

    /// A positive whole number, or `default` where there is none.
    ///
    /// # Errors
    /// `Damaged` when it is more than any model has.
    pub fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let number = value.as_u64().and_then(|n| usize::try_from(n).ok());
        number.filter(|n| (1..=MAX_SIZE).contains(n)).ok_or_else(|| self.damaged(format!("{key} {value}")))
    }

    /// A positive whole number, if there is one.
    ///
    /// # Errors
    /// As [`Fields::size_or`].
    pub fn optional_size(&self, key: &str) -> Result<Option<usize>> {
        if self.has(key) { self.size(key).map(Some) } else { Ok(None) }
    }

    /// Whether there is an entry other than null.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// A number of layers.
    ///
    /// # Errors
    /// As [`Fields::size`].
    pub fn layers(&self, key: &str) -> Result<usize> {
        let layers = self.size(key)?;
        if layers > MAX_LAYERS { Err(self.damaged(format!("{key} {layers}"))) } else { Ok(layers) }
    }

    /// A number of heads that divides `width`.
    ///
    /// # Errors
    /// As [`Fields::size`].
    pub fn heads(&self, key: &str, width: usize) -> Result<usize> {
        let heads = self.size(key)?;
        match width.is_multiple_of(heads) {
            true => Ok(heads),
            false => Err(self.damaged(format!("{key} {heads} of {width} values"))),
        }
    }

    /// A finite number above 0, or `default` where there is none.
    ///
    /// # Errors
    /// `Damaged` when it is another.
    pub fn positive_or(&self, key: &str, default: f64) -> Result<f64> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let number = value.as_f64().filter(|x| x.is_finite() && *x > 0.0);
        number.ok_or_else(|| self.damaged(format!("{key} {value}")))
    }

    /// What is added to a variance: below 1.
    ///
    /// # Errors
    /// `Damaged` when it is another number.
    pub fn epsilon(&self, key: &str, default: f64) -> Result<f32> {
        let epsilon = self.positive_or(key, default)?;
        if epsilon < 1.0 { Ok(epsilon as f32) } else { Err(self.damaged(format!("{key} {epsilon}"))) }
    }

    /// A text, if there is one.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// A flag, or `default` where there is none.
    pub fn flag_or(&self, key: &str, default: bool) -> bool {
        self.get(key).and_then(Value::as_bool).unwrap_or(default)
    }

    /// A token id, if there is one.
    pub fn id(&self, key: &str) -> Option<u32> {
        self.get(key)?.as_u64().and_then(|id| u32::try_from(id).ok())
    }

    /// The token ids of an entry that is one or a list of them.
    pub fn ids(&self, key: &str) -> Vec<u32> {
        self.get(key).map_or_else(Vec::new, Self::ids_of)
    }

    /// The token ids of `value`, one or a list of them.
    pub fn ids_of(value: &Value) -> Vec<u32> {
        let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        list.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect()
    }

    /// The texts of a list, if there is one.
    pub fn texts(&self, key: &str) -> Option<Vec<&str>> {
        self.get(key)?.as_array().map(|list| list.iter().filter_map(Value::as_str).collect())
    }

    /// Number of entries of a list or an object.
    pub fn count(&self, key: &str) -> Option<usize> {
        match self.get(key)? {
            Value::Array(list) => Some(list.len()),
            Value::Object(entries) => Some(entries.len()),
            _ => None,
        }
    }

    /// The entries below `key`, if there are any.
    pub fn below(&self, key: &str) -> Option<Self> {
        let entries = self.get(key)?.as_object()?.clone();
        Some(Self { path: self.path.clone(), model: self.model.clone(), entries })
    }

    /// The activation that `key` names, or `default` where there is none.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for one that is not known.
    pub fn activation_or(&self, key: &str, default: Activation) -> Result<Activation> {
        match self.text(key) {
            None => Ok(default),
            Some(name) => Activation::named(name).ok_or_else(|| self.unsupported(format!("{key} {name}"))),
        }
    }

    /// Rotary positions for heads of `head` values: of layers of type `layers` in `rope_parameters` (transformers 5),
    /// otherwise of `base_key` and `rope_scaling`.
    ///
    /// # Errors
    /// `Damaged` for numbers that make no sense, [`Error::Unsupported`] for a kind of scaling that is not known.
    pub fn rope(&self, head: usize, layers: &str, base_key: &str, default: f64) -> Result<Rope> {
        let parameters = self.below("rope_parameters");
        let (base, share, scaling) = match parameters {
            Some(all) => {
                let own = all.below(layers).unwrap_or(all);
                let base = own.positive_or("rope_theta", default)?;
                (base, own.positive_or(SHARE, self.positive_or(SHARE, 1.0)?)?, Some(own))
            }
            None => {
                let base = self.positive_or(base_key, default)?;
                (base, self.positive_or(SHARE, 1.0)?, self.below("rope_scaling"))
            }
        };
        let turned = (head as f64 * share.min(1.0)) as usize;
        if turned == 0 || !turned.is_multiple_of(2) {
            return Err(self.damaged(format!("{turned} turned values in heads of {head}")));
        }
        let rope = Rope::new(turned, base);
        let Some(scaling) = scaling else { return Ok(rope) };
        match scaling.text("rope_type").or(scaling.text("type")) {
            None | Some("default") => Ok(rope),
            Some("linear") => Ok(rope.slower(scaling.positive_or("factor", 1.0)?)),
            Some("llama3") => Ok(rope.llama3(Llama3 {
                factor: scaling.positive_or("factor", 8.0)?,
                low: scaling.positive_or("low_freq_factor", 1.0)?,
                high: scaling.positive_or("high_freq_factor", 4.0)?,
                context: scaling.size(FIRST_CONTEXT)? as f64,
            })),
            Some("longrope" | "su") => self.long_rope(rope, &scaling, turned / 2),
            Some(other) => Err(self.unsupported(format!("rope scaling \"{other}\""))),
        }
    }

    /// LongRoPE (Ding et al. 2024) for texts up to the length of the first training.
    fn long_rope(&self, rope: Rope, scaling: &Self, pairs: usize) -> Result<Rope> {
        let factors = scaling.floats("short_factor");
        if factors.len() != pairs || factors.iter().any(|f| !f.is_finite() || *f <= 0.0) {
            return Err(self.damaged(format!("{} factors for {pairs} pairs of values", factors.len())));
        }
        let context = if self.has(FIRST_CONTEXT) { self } else { scaling }.size(FIRST_CONTEXT)? as f64;
        let times = self.size("max_position_embeddings")? as f64 / context;
        let temperature = if times > 1.0 { (1.0 + times.ln() / context.ln()).sqrt() } else { 1.0 };
        Ok(rope.divided(&factors).longer(scaling.positive_or("attention_factor", temperature)?))
    }

    /// Most tokens that a network with rotary positions reads: with LongRoPE those of the first training, as longer texts
    /// need other frequencies from their first token on.
    ///
    /// # Errors
    /// As [`Fields::size_or`].
    pub fn context(&self, default: usize) -> Result<usize> {
        let all = self.size_or("max_position_embeddings", default)?;
        let scaling = self.below("rope_parameters").or(self.below("rope_scaling"));
        match scaling.filter(|scaling| scaling.has("short_factor")) {
            None => Ok(all),
            Some(scaling) => Ok(all.min(self.size_or(FIRST_CONTEXT, scaling.size_or(FIRST_CONTEXT, all)?)?)),
        }
    }

    /// The numbers of a list; none where there is no such list.
    fn floats(&self, key: &str) -> Vec<f32> {
        let list = self.get(key).and_then(Value::as_array);
        list.map_or_else(Vec::new, |list| list.iter().filter_map(|x| Some(x.as_f64()? as f32)).collect())
    }
}
