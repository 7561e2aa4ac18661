//! Encoder-decoders of any family: a text in, another about it out, by the family's own convention.

use std::collections::HashMap;

use pg_answer_models::{InstalledModel, Kind};
use serde::Deserialize;
use serde_json::Value;

use super::beam::{Beams, Rules, search};
use super::tokens::Tokens;
use crate::decoder::sample::{Sampler, Sampling};
use crate::decoder::stream::Stream;
use crate::encoder::files::Files;
use crate::families::{EncoderDecoder, Fields, Loader, Source};
use crate::network::Run;
use crate::{Check, Error, Pool, Result};

/// Most beams: each has keys and values of its own.
const MAX_BEAMS: usize = 32;

/// An encoder-decoder in memory. It does not change, and threads may share it.
pub struct Rewriter {
    model: String,
    network: Box<dyn EncoderDecoder>,
    tokens: Tokens,
    /// The token that every text begins with, which is not part of it.
    start: u32,
    rules: Rules,
    beams: Beams,
    prefixes: HashMap<String, String>,
    memory: usize,
}

/// How to write.
#[derive(Debug, Clone, PartialEq)]
pub struct RewriteOptions {
    /// Most tokens of the text.
    pub max_tokens: usize,
    /// Texts that are followed at the same time; the model's own number where it is none. Drawing has no beams.
    pub beams: Option<usize>,
    /// How tokens are drawn; at temperature 0 the best text is searched for.
    pub sampling: Sampling,
    /// The text ends before any of these.
    pub stop: Vec<String>,
    /// Whether the first and the last token are those that the model's configuration forces.
    pub forced: bool,
}

impl Default for RewriteOptions {
    fn default() -> Self {
        Self { max_tokens: 256, beams: None, sampling: Sampling::default(), stop: Vec::new(), forced: true }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewritten {
    /// The text.
    pub text: String,
    /// Its tokens, the end token included.
    pub ids: Vec<u32>,
    /// Tokens that were read.
    pub prompt_tokens: usize,
}

/// The entries of `generation_config.json`, or of `config.json` where there is none.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Convention {
    decoder_start_token_id: Option<u32>,
    forced_bos_token_id: Option<u32>,
    forced_eos_token_id: Option<Value>,
    bad_words_ids: Option<Vec<Vec<u32>>>,
    num_beams: Option<usize>,
    length_penalty: Option<f64>,
    early_stopping: Option<Value>,
    no_repeat_ngram_size: Option<usize>,
    min_length: Option<usize>,
    task_specific_params: Option<HashMap<String, Task>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Task {
    prefix: Option<String>,
}

impl Rewriter {
    /// Opens `model`.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`] when a file is missing or broken, [`Error::Unsupported`] when it is another
    /// kind of model.
    pub fn load(model: &InstalledModel) -> Result<Self> {
        let files = Files::new(model);
        if model.card.kind != Kind::EncoderDecoder {
            return Err(files.unsupported("it is not an encoder-decoder".to_owned()));
        }
        let (source, family) = Source::open(model, &files)?;
        let Loader::EncoderDecoder(load) = family.loader else {
            let kind = family.kind().as_str();
            return Err(files.unsupported(format!("its architecture is that of a model of kind {kind}")));
        };
        let network = load(&source)?;
        let (tokens, _) = Tokens::read(&files, &source.fields)?;
        let own: Convention = files.required("config.json")?;
        let other: Convention = files.json("generation_config.json")?.unwrap_or_default();
        let start = other.decoder_start_token_id.or(own.decoder_start_token_id);
        let start = start.ok_or_else(|| files.unsupported("it does not say how a text begins".to_owned()))?;
        let ends = tokens.ends().to_vec();
        let first = other.forced_bos_token_id.or(own.forced_bos_token_id);
        let last = other.forced_eos_token_id.or(own.forced_eos_token_id);
        let last = last.and_then(|last| Fields::ids_of(&last).first().copied());
        let ids = ends.iter().chain([&start]).chain(&first).chain(&last);
        if let Some(id) = ids.into_iter().find(|&&id| id as usize >= network.vocabulary()) {
            return Err(files.unsupported(format!("token id {id} has no embedding")));
        }
        let never = other.bad_words_ids.or(own.bad_words_ids).unwrap_or_default();
        let rules = Rules {
            ends,
            first,
            last,
            never: never
                .into_iter()
                .filter_map(|word| <[u32; 1]>::try_from(word).ok())
                .map(|[id]| id)
                .collect(),
            no_repeat: other.no_repeat_ngram_size.or(own.no_repeat_ngram_size).unwrap_or(0),
            min_tokens: other.min_length.or(own.min_length).unwrap_or(0),
        };
        let stop_early = other.early_stopping.or(own.early_stopping);
        let beams = Beams {
            count: other.num_beams.or(own.num_beams).unwrap_or(1).clamp(1, MAX_BEAMS),
            length_penalty: other.length_penalty.or(own.length_penalty).unwrap_or(1.0),
            stop_early: stop_early == Some(Value::Bool(true)),
        };
        let tasks = own.task_specific_params.unwrap_or_default().into_iter();
        let prefixes = tasks.filter_map(|(name, task)| Some((name, task.prefix?))).collect();
        let memory = source.tensors.memory();
        Ok(Self { model: model.card.name.clone(), network, tokens, start, rules, beams, prefixes, memory })
    }

    /// Most tokens of a text that is read.
    pub fn context_length(&self) -> usize {
        self.network.positions()
    }

    /// Bytes of the weights, which all processes share.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Tokens of `text`, with those around every text.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the text cannot be split into words.
    pub fn count_tokens(&self, text: &str) -> Result<usize> {
        Ok(self.tokenize(text)?.len())
    }

    /// What the model's configuration puts before texts for `task`: `summarization`, `translation_en_to_de`, ...
    pub fn prefix(&self, task: &str) -> Option<&str> {
        self.prefixes.get(task).map(String::as_str)
    }

    /// All tasks that the configuration has a prefix for.
    pub fn tasks(&self) -> impl Iterator<Item = &str> {
        self.prefixes.keys().map(String::as_str)
    }

    /// The ids of `text` as the encoder reads them.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the text cannot be split into words.
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.tokens.frame(self.tokens.encode(text)?))
    }

    /// The encoder's rows for `ids`, row after row, and the logits of the first token.
    ///
    /// # Errors
    /// As [`Rewriter::rewrite`].
    pub fn begin(&self, ids: &[u32], pool: &Pool, check: Check<'_>) -> Result<(Vec<f32>, Vec<f32>)> {
        self.check_ids(ids)?;
        let mut run = Run::new(pool, check);
        let states = self.network.encode(ids, &mut run)?;
        let mut past = self.network.start(&states, &mut run)?;
        let logits = self.network.step(self.start, &mut past, &mut run)?;
        Ok((states.data, logits))
    }

    /// What the model writes about `text`, which has its task's prefix already.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for options that make no sense, [`Error::TooLong`] when the text has more tokens than the
    /// model reads; what `check` says.
    pub fn rewrite(
        &self,
        text: &str,
        options: &RewriteOptions,
        pool: &Pool,
        check: Check<'_>,
    ) -> Result<Rewritten> {
        let beams = options.beams.unwrap_or(self.beams.count);
        if options.max_tokens == 0 || !(1..=MAX_BEAMS).contains(&beams) {
            let reason = format!("max_tokens must be at least 1, beams 1 to {MAX_BEAMS}");
            return Err(Error::InvalidInput(reason));
        }
        let mut sampler = Sampler::new(options.sampling.clone())?;
        let read = self.tokenize(text)?;
        self.check_ids(&read)?;
        let mut run = Run::new(pool, check);
        let states = self.network.encode(&read, &mut run)?;
        let mut past = self.network.start(&states, &mut run)?;
        let logits = self.network.step(self.start, &mut past, &mut run)?;
        let room = options.max_tokens.min(self.context_length().saturating_sub(1)).max(1);
        let mut rules = self.rules.clone();
        if !options.forced {
            (rules.first, rules.last) = (None, None);
        }
        let ids = if options.sampling.temperature > 0.0 {
            let mut ids = Vec::new();
            let mut logits = logits;
            loop {
                let drawn = sampler.choose(&logits, &ids)?.0;
                let id = rules.forced(&ids, room).unwrap_or(drawn);
                ids.push(id);
                if self.rules.ends.contains(&id) || ids.len() >= room {
                    break ids;
                }
                logits = self.network.step(id, &mut past, &mut run)?;
            }
        } else {
            let beams = Beams { count: beams, ..self.beams };
            search(past, logits, room, beams, &rules, |id, past| self.network.step(id, past, &mut run))?
        };
        let mut stream = Stream::new(&options.stop);
        stream.push(self.tokens.decode(&ids)?.as_bytes());
        stream.finish();
        Ok(Rewritten { text: stream.into_text(), ids, prompt_tokens: read.len() })
    }

    fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let limit = self.context_length();
        if ids.is_empty() || ids.len() > limit {
            return Err(Error::TooLong { tokens: ids.len(), limit });
        }
        match ids.iter().find(|&&id| id as usize >= self.network.vocabulary()) {
            Some(id) => {
                let reason = format!("token id {id} has no embedding");
                Err(Error::Unsupported { model: self.model.clone(), reason })
            }
            None => Ok(()),
        }
    }
}
