//! Decoders of any family: text in, more text out.

use pg_answer_models::{InstalledModel, Kind};

use super::tokens::Tokens;
use crate::constraint::{Constraint, Grammar, Json, LazyGrammar};
use crate::decoder::chat::Template;
use crate::decoder::sample::{Sampler, logprob};
use crate::decoder::stream::Stream;
use crate::decoder::{GenerateOptions, Generation, Message, Prompt, StopReason};
use crate::encoder::files::Files;
use crate::families::{CausalLm, Loader, Source};
use crate::network::{KeyValues, Run};
use crate::{Check, Error, Pool, Result};

/// Tokens of a prompt that are read at once: their rows take memory in every layer.
const CHUNK: usize = 256;

/// A decoder of any family, and what it has read.
pub struct Writer {
    model: String,
    network: Box<dyn CausalLm>,
    tokens: Tokens,
    template: Template,
    past: KeyValues,
    /// The tokens that `past` is of.
    read: Vec<u32>,
    /// Made when JSON is first asked for.
    grammar: LazyGrammar,
    memory: usize,
}

impl Writer {
    /// Opens `model`.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`] when a file is missing or broken, [`Error::Unsupported`] when it is another
    /// kind of model.
    pub fn load(model: &InstalledModel) -> Result<Self> {
        let files = Files::new(model);
        if model.card.kind != Kind::Decoder {
            return Err(files.unsupported("it is not a decoder".to_owned()));
        }
        let (source, family) = Source::open(model, &files)?;
        let Loader::CausalLm(load) = family.loader else {
            let kind = family.kind().as_str();
            return Err(files.unsupported(format!("its architecture is that of a model of kind {kind}")));
        };
        let network = load(&source)?;
        let (tokens, template) = Tokens::read(&files, &source.fields)?;
        let (past, memory) = (network.start(), source.tensors.memory());
        let (model, grammar) = (model.card.name.clone(), LazyGrammar::default());
        Ok(Self { model, network, tokens, template, past, read: Vec::new(), grammar, memory })
    }

    /// As [`LanguageModel::context_length`](super::LanguageModel::context_length).
    pub fn context_length(&self) -> usize {
        self.network.positions()
    }

    /// As [`LanguageModel::memory`](super::LanguageModel::memory).
    pub fn memory(&self) -> usize {
        self.memory + self.past.memory()
    }

    /// As [`LanguageModel::count_tokens`](super::LanguageModel::count_tokens).
    ///
    /// # Errors
    /// There, too.
    pub fn count_tokens(&self, text: &str) -> Result<usize> {
        Ok(self.tokens.encode(text)?.len())
    }

    /// As [`LanguageModel::text`](super::LanguageModel::text).
    ///
    /// # Errors
    /// There, too.
    pub fn text(&self, ids: &[u32]) -> Result<String> {
        let (mut text, mut piece) = (String::new(), String::new());
        for end in 1..=ids.len() {
            self.tokens.write(&ids[..end], &mut piece, false)?;
            text.push_str(&piece);
        }
        Ok(text)
    }

    /// Whether the model has a chat template.
    pub fn can_chat(&self) -> bool {
        self.template.is_there()
    }

    /// As [`LanguageModel::render_chat`](super::LanguageModel::render_chat).
    ///
    /// # Errors
    /// There, too.
    pub fn render_chat(&self, messages: &[Message]) -> Result<Prompt> {
        self.template.render(messages, &self.tokens)
    }

    /// As [`LanguageModel::plain_prompt`](super::LanguageModel::plain_prompt).
    ///
    /// # Errors
    /// There, too.
    pub fn plain_prompt(&self, text: &str) -> Result<Prompt> {
        Ok(Prompt { text: text.to_owned(), ids: self.tokens.frame(self.tokens.encode(text)?), fixed: 0 })
    }

    /// The logits of all tokens after the last of `ids`, which become all that has been read.
    ///
    /// # Errors
    /// As [`Writer::generate`].
    pub fn prefill(&mut self, ids: &[u32], pool: &Pool, check: Check<'_>) -> Result<Vec<f32>> {
        self.check_prompt(ids)?;
        Ok(self.read(ids, &mut Run::new(pool, check))?.0)
    }

    /// As [`LanguageModel::json`](super::LanguageModel::json).
    ///
    /// # Errors
    /// There, too.
    pub fn json(&self, schema: &serde_json::Value, check: Check<'_>) -> Result<Json> {
        let make = || Grammar::new(self.tokens.words(self.network.vocabulary())?, self.tokens.ends(), check);
        self.grammar.get_or_make(make)?.json(schema, check)
    }

    /// As [`LanguageModel::generate`](super::LanguageModel::generate).
    ///
    /// # Errors
    /// There, too.
    pub fn generate(
        &mut self,
        prompt: &Prompt,
        options: &GenerateOptions,
        pool: &Pool,
        check: Check<'_>,
        on_piece: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<Generation> {
        self.generate_within(prompt, options, None, pool, check, on_piece)
    }

    /// As [`LanguageModel::generate_within`](super::LanguageModel::generate_within).
    ///
    /// # Errors
    /// There, too.
    pub fn generate_within(
        &mut self,
        prompt: &Prompt,
        options: &GenerateOptions,
        mut constraint: Option<&mut dyn Constraint>,
        pool: &Pool,
        check: Check<'_>,
        on_piece: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<Generation> {
        if options.max_tokens == 0 {
            return Err(Error::InvalidInput("max_tokens must be at least 1".to_owned()));
        }
        let mut sampler = Sampler::new(options.sampling.clone())?;
        self.check_prompt(&prompt.ids)?;
        let room = options.max_tokens.min(self.context_length() - prompt.ids.len());
        let (tokens, limit) = (prompt.ids.len() + room, options.max_memory);
        let needed = self.network.token_bytes().saturating_mul(tokens);
        if needed > limit {
            return Err(Error::Memory { tokens, needed, limit });
        }
        let mut run = Run::new(pool, check);
        let (mut logits, reused_tokens) = self.read(&prompt.ids, &mut run)?;
        let (mut text, mut logprobs) = (prompt.ids.clone(), Vec::new());
        let mut stream = Stream::new(&options.stop);
        let mut written = String::new();
        let stop = loop {
            let (id, logprob) = sampler.choose_within(&logits, &text, constraint.as_deref_mut())?;
            text.push(id);
            logprobs.push(logprob);
            if self.tokens.is_end(id) {
                break StopReason::EndOfText;
            }
            self.tokens.write(&text[prompt.ids.len()..], &mut written, false)?;
            give(stream.push(written.as_bytes()), on_piece)?;
            if stream.stopped() {
                break StopReason::StopString;
            }
            if constraint.as_ref().is_some_and(|c| c.is_whole()) {
                break StopReason::EndOfText;
            }
            if logprobs.len() >= room {
                break StopReason::Length;
            }
            logits = self.extend(&[id], &mut run)?;
        };
        let ids = text.split_off(prompt.ids.len());
        if stop != StopReason::StopString {
            self.tokens.write(&ids, &mut written, true)?;
            give(stream.push(written.as_bytes()), on_piece)?;
        }
        give(stream.finish(), on_piece)?;
        let stop = if stream.stopped() { StopReason::StopString } else { stop };
        let (text, prompt_tokens, passes) = (stream.into_text(), prompt.ids.len(), ids.len() - 1);
        Ok(Generation { text, prompt_tokens, reused_tokens, passes, ids, logprobs, stop })
    }

    /// As [`LanguageModel::weigh`](super::LanguageModel::weigh).
    ///
    /// # Errors
    /// There, too.
    pub fn weigh(
        &mut self,
        prompt: &Prompt,
        answers: &[&str],
        pool: &Pool,
        check: Check<'_>,
    ) -> Result<Vec<f64>> {
        self.check_prompt(&prompt.ids)?;
        let mut run = Run::new(pool, check);
        let first = self.read(&prompt.ids, &mut run)?.0;
        let mut weights = Vec::new();
        for answer in answers {
            let ids = self.tokens.encode(answer)?;
            if ids.is_empty() {
                return Err(Error::InvalidInput("an answer to be weighed must have a token".to_owned()));
            }
            self.check_prompt(&[&prompt.ids[..], &ids].concat())?;
            self.past.truncate(prompt.ids.len());
            self.read.truncate(prompt.ids.len());
            let mut weight = logprob(&first, &ids[..1])?;
            for (i, id) in ids.iter().enumerate() {
                let logits = self.extend(&[*id], &mut run)?;
                weight += logprob(&logits, ids.get(i + 1..=i + 1).unwrap_or(self.tokens.ends()))?;
            }
            weights.push(weight);
        }
        Ok(weights)
    }

    fn check_prompt(&self, ids: &[u32]) -> Result<()> {
        let limit = self.context_length();
        if ids.is_empty() {
            return Err(Error::InvalidInput("the prompt is empty".to_owned()));
        }
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.network.vocabulary()) {
            let reason = format!("token id {id} has no embedding");
            return Err(Error::Unsupported { model: self.model.clone(), reason });
        }
        if ids.len() < limit { Ok(()) } else { Err(Error::TooLong { tokens: ids.len(), limit }) }
    }

    /// Makes `ids` all that has been read; the logits after them, and how many need not be read again.
    fn read(&mut self, ids: &[u32], run: &mut Run<'_>) -> Result<(Vec<f32>, usize)> {
        let known = self.read.iter().zip(&ids[..ids.len() - 1]).take_while(|(a, b)| a == b).count();
        let same = known.min(self.past.tokens());
        self.past.truncate(same);
        self.read.truncate(same);
        Ok((self.extend(&ids[same..], run)?, same))
    }

    /// Reads `ids` after what was read; the logits after the last.
    fn extend(&mut self, ids: &[u32], run: &mut Run<'_>) -> Result<Vec<f32>> {
        let mut logits = Vec::new();
        for (i, chunk) in ids.chunks(CHUNK).enumerate() {
            // A pass that was stopped may have left rows of some layers.
            self.past.truncate(self.read.len());
            let states = self.network.read(chunk, &mut self.past, run)?;
            self.read.extend_from_slice(chunk);
            if (i + 1) * CHUNK >= ids.len() {
                logits = self.network.logits(&states.last(), run)?.data;
            }
        }
        Ok(logits)
    }
}

fn give(piece: &str, on_piece: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    if piece.is_empty() { Ok(()) } else { on_piece(piece) }
}
