//! JSON by a schema: the schema becomes a grammar, the grammar says which tokens may come (llguidance).

use std::cell::OnceCell;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use llguidance::api::TopLevelGrammar;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Map, Value, json};

use super::Constraint;
use crate::encoder::tokenizer::caught;
use crate::threads::with_signals_blocked;
use crate::{Check, Error, Result};

/// How often it is asked whether to go on while the library works, which does not ask by itself.
const PATIENCE: Duration = Duration::from_millis(10);

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
    factory: Arc<ParserFactory>,
}

impl Grammar {
    /// From what each token writes (nothing: it is never chosen), and the tokens that end a text. Takes some 100 ms.
    ///
    /// # Errors
    /// [`Error::Internal`] for words that no vocabulary has, or when no token ends a text; what `check` returns.
    pub fn new(words: Vec<Vec<u8>>, ends: &[u32], check: Check<'_>) -> Result<Self> {
        let ends = ends.to_vec();
        let build = move || {
            let end = *ends.first().ok_or("no token ends a text")?;
            let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, end), &words).with_eos_tokens(&ends);
            let slices = SlicedBiasComputer::json_slices();
            let environment = Arc::new(ApproximateTokEnv::new(trie));
            let mut factory =
                ParserFactory::new(&(environment as _), InferenceCapabilities::default(), &slices)?;
            factory.quiet().limits_mut().verbose_errors = false;
            Ok(factory)
        };
        let factory = aside(|| caught(build), check)?
            .map_err(|reason| Error::Internal(format!("grammar: {reason}")))?;
        Ok(Self { factory: Arc::new(factory) })
    }

    /// A text that is JSON valid against `schema` (JSON Schema, draft 2020-12), without line breaks between its parts.
    /// Properties are written in the order in which `required` names them, then the others in the order of the schema.
    ///
    /// # Errors
    /// [`Error::Schema`] when it is no schema, cannot be met, or has keywords that cannot be held; what `check` returns.
    pub fn json(&self, schema: &Value, check: Check<'_>) -> Result<Json> {
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
        let factory = Arc::clone(&self.factory);
        let parser =
            aside(move || caught(|| Ok(factory.create_parser(grammar)?)), check)?.map_err(Error::Schema)?;
        Ok(Json { matcher: Matcher::new(Ok(parser)) })
    }
}

/// What `work` returns, which a thread of its own does. When `check` fails the thread is left to itself: it ends soon, and
/// what it made is dropped.
fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static, check: Check<'_>) -> Result<T> {
    let (give, take) = mpsc::sync_channel(1);
    let work = move || drop(give.send(work()));
    with_signals_blocked(|| std::thread::Builder::new().name("pg_answer grammar".to_owned()).spawn(work))
        .map_err(|e| Error::Internal(format!("no helper thread: {e}")))?;
    loop {
        check()?;
        match take.recv_timeout(PATIENCE) {
            Ok(made) => return Ok(made),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(Error::Internal("a helper thread panicked".to_owned()));
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A vocabulary of all bytes and an end.
    fn vocabulary() -> (Vec<Vec<u8>>, [u32; 1]) {
        ((0..=255).map(|byte| vec![byte]).chain([Vec::new()]).collect(), [256])
    }

    /// The bytes that `json` lets come.
    fn allowed(json: &mut Json) -> String {
        let mut logits = [0.0; 257];
        json.mask(&mut logits).unwrap();
        (0..=255u8).filter(|&byte| logits[usize::from(byte)] == 0.0).map(char::from).collect()
    }

    #[test]
    fn only_what_is_valid_may_come() {
        let (words, ends) = vocabulary();
        let grammar = Grammar::new(words, &ends, &mut || Ok(())).unwrap();
        let mut json = grammar.json(&json!({ "enum": [true, "a"] }), &mut || Ok(())).unwrap();
        assert_eq!(allowed(&mut json), "\"t");
        json.accept(u32::from(b't')).unwrap();
        assert_eq!((allowed(&mut json).as_str(), json.forced().as_str()), ("r", "rue"));
        for byte in b"rue" {
            assert!(!json.is_whole());
            json.accept(u32::from(*byte)).unwrap();
        }
        assert!(json.is_whole() && json.accept(u32::from(b'!')).is_err());
    }

    #[test]
    fn a_check_stops_it_at_once_and_nothing_is_left() {
        let (words, ends) = vocabulary();
        let mut stop = || Err(Error::Interrupted);
        let lazy = LazyGrammar::default();
        let first = lazy.get_or_make(|| Grammar::new(words.clone(), &ends, &mut stop));
        assert!(matches!(first, Err(Error::Interrupted)));
        let grammar = lazy.get_or_make(|| Grammar::new(words, &ends, &mut || Ok(()))).unwrap();
        assert!(matches!(grammar.json(&json!({}), &mut stop), Err(Error::Interrupted)));
        assert!(grammar.json(&json!({}), &mut || Ok(())).is_ok());
        assert!(matches!(Grammar::new(Vec::new(), &[], &mut || Ok(())), Err(Error::Internal(_))));
    }
}
