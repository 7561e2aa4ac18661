//! JSON by a schema: the schema becomes a grammar, the grammar says which tokens may come (llguidance).

use std::cell::OnceCell;
use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Map, Value, json};

use super::Constraint;
use crate::encoder::tokenizer::caught;
use crate::{Error, Result};

/// Where the library finds options in a schema.
const OPTIONS: &str = "x-guidance";

/// A [`Grammar`] that is made when it is first needed.
#[derive(Default)]
pub struct LazyGrammar(OnceCell<Grammar>);

impl LazyGrammar {
    /// The grammar, which `make` makes unless it was made before.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn get_or_make(&self, make: impl FnOnce() -> Result<Grammar>) -> Result<&Grammar> {
        match self.0.get() {
            Some(grammar) => Ok(grammar),
            None => make().map(|made| self.0.get_or_init(|| made)),
        }
    }
}

/// The vocabulary of a model, in the form that grammars need.
pub struct Grammar {
    factory: ParserFactory,
}

impl Grammar {
    /// From what each token writes (nothing: it is never chosen), and the tokens that end a text. Takes some 100 ms.
    ///
    /// # Errors
    /// [`Error::Internal`] for words that no vocabulary has, or when no token ends a text.
    pub fn new(words: &[Vec<u8>], ends: &[u32]) -> Result<Self> {
        let build = || {
            let end = *ends.first().ok_or("no token ends a text")?;
            let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, end), words).with_eos_tokens(ends);
            let slices = SlicedBiasComputer::json_slices();
            let environment = Arc::new(ApproximateTokEnv::new(trie));
            let mut factory =
                ParserFactory::new(&(environment as _), InferenceCapabilities::default(), &slices)?;
            factory.quiet().limits_mut().verbose_errors = false;
            Ok(factory)
        };
        let factory = caught(build).map_err(|reason| Error::Internal(format!("grammar: {reason}")))?;
        Ok(Self { factory })
    }

    /// A text that is JSON valid against `schema` (JSON Schema, draft 2020-12), without line breaks between its parts.
    /// Properties are written in the order in which `required` names them, then the others in the order of the schema.
    ///
    /// # Errors
    /// [`Error::Schema`] when it is no schema, cannot be met, or has keywords that cannot be held.
    pub fn json(&self, schema: &Value) -> Result<Json> {
        let mut schema = match schema {
            Value::Bool(true) => json!({}),
            other => other.clone(),
        };
        put_required_first(&mut schema);
        if let Value::Object(map) = &mut schema {
            // PostgreSQL's jsonb cannot hold U+0000 and halves of surrogate pairs, so characters are written as they are.
            let options = json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": ",
                                  "json_allowed_escapes": "nrbtf\\\"" });
            map.insert(OPTIONS.to_owned(), options);
        }
        let grammar = TopLevelGrammar::from_json_schema(schema);
        let parser = caught(|| Ok(self.factory.create_parser(grammar)?)).map_err(Error::Schema)?;
        Ok(Json { matcher: Matcher::new(Ok(parser)) })
    }
}

/// Sorts the properties of every object in `schema` as `required` has them; jsonb has lost their own order.
fn put_required_first(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(put_required_first),
        Value::Object(map) => {
            let required: Vec<String> = match map.get("required") {
                Some(Value::Array(names)) => {
                    names.iter().filter_map(|n| n.as_str().map(str::to_owned)).collect()
                }
                _ => Vec::new(),
            };
            if let Some(Value::Object(properties)) = map.get_mut("properties") {
                let mut rest = std::mem::take(properties);
                let first = required.into_iter().filter_map(|name| rest.shift_remove_entry(&name));
                let mut sorted: Map<String, Value> = first.collect();
                sorted.extend(rest);
                *properties = sorted;
            }
            map.values_mut().for_each(put_required_first);
        }
        _ => {}
    }
}

/// A JSON text on its way.
pub struct Json {
    matcher: Matcher,
}

/// What the library says while a text is written: its limits were reached.
fn too_complex(error: impl std::fmt::Display) -> Error {
    Error::Schema(format!("it is too complex to be held while writing ({error})"))
}

impl Constraint for Json {
    fn mask(&mut self, logits: &mut [f32]) -> Result<()> {
        let allowed = self.matcher.compute_mask_or_eos().map_err(too_complex)?;
        for (id, logit) in logits.iter_mut().enumerate() {
            if id >= allowed.len() || !allowed.get(id) {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    fn accept(&mut self, id: u32) -> Result<()> {
        self.matcher.consume_token(id).map_err(too_complex)
    }

    fn is_whole(&self) -> bool {
        self.matcher.is_stopped()
    }

    fn forced(&mut self) -> String {
        let bytes = self.matcher.compute_ff_bytes();
        bytes.utf8_chunks().next().map_or_else(String::new, |chunk| chunk.valid().to_owned())
    }
}
