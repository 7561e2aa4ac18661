//! Decoders: text in, more text out. GGUF files of the Qwen2 family, computed with 8-bit integers.
//!
//! `file (gguf) → weights (matrix, quantized) → layers (qwen2, attention, cache) → choice (sample) → text (stream)`

mod activations;
mod attention;
mod cache;
mod chat;
pub mod gguf;
mod isa;
mod lanes;
mod matrix;
mod parallel;
mod quantized;
mod qwen2;
mod sample;
mod stream;
mod tokenizer;

pub use chat::{Message, Prompt};

use crate::{Check, Error, Pool, Result};
use cache::Cache;
use chat::Template;
use gguf::Gguf;
use lanes::sum_exp;
use pg_answer_models::InstalledModel;
use qwen2::{CHUNK, Qwen2, Scratch};
use sample::Sampler;
use stream::Stream;
use tokenizer::Tokenizer;

/// A decoder, ready to answer. One caller uses it at a time.
pub struct Decoder {
    model: Qwen2,
    tokenizer: Tokenizer,
    template: Template,
    cache: Cache,
    scratch: Scratch,
}

/// How to write.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// Most tokens of the answer; the model's window can end it earlier.
    pub max_tokens: usize,
    /// 0 takes the best token every time; 1 draws by the model's own probabilities.
    pub temperature: f64,
    /// Draw from the smallest set of tokens that holds this share of the probability; in (0, 1].
    pub top_p: f64,
    /// The same seed gives the same answer.
    pub seed: u64,
    /// The answer ends before any of these texts.
    pub stop: Vec<String>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The model ended it.
    EndOfText,
    /// `max_tokens` or the model's window.
    Length,
    /// A text of `stop`.
    StopString,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// The text, without the end token or stop string.
    pub text: String,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the answer, the end token included.
    pub ids: Vec<u32>,
    /// For each of them the natural logarithm of its probability at temperature 1.
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub stop: StopReason,
}

/// A step of [`Decoder::score`].
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Logarithm of the forced token's probability.
    pub logprob: f32,
    /// The most probable tokens with their logarithms, the best first.
    pub top: Vec<(u32, f32)>,
}

impl Decoder {
    /// Reads the weights, tokenizer and chat template of `model`.
    ///
    /// # Errors
    /// [`Error::Model`] when a file is missing or makes no sense, [`Error::Unsupported`] for another architecture;
    /// whatever `check` returns.
    pub fn load(model: &InstalledModel, pool: &Pool, check: Check<'_>) -> Result<Self> {
        let gguf = Gguf::open(&model.weights()?)?;
        Self::from_gguf(&gguf, &model.card.name, pool, check)
    }

    /// As [`Decoder::load`], from an open file; `name` is the model's name in errors.
    ///
    /// # Errors
    /// As [`Decoder::load`].
    pub fn from_gguf(gguf: &Gguf, name: &str, pool: &Pool, check: Check<'_>) -> Result<Self> {
        let architecture = gguf.text("general.architecture").unwrap_or("unknown");
        if architecture != "qwen2" {
            let reason = format!("the architecture \"{architecture}\" is not supported");
            return Err(Error::Unsupported { model: name.to_owned(), reason });
        }
        let model = Qwen2::load(gguf, pool, check)?;
        check()?;
        let tokenizer = Tokenizer::load(gguf, model.shape.vocabulary)?;
        check()?;
        let template = Template::load(gguf, &tokenizer)?;
        let cache = model.cache();
        Ok(Self { model, tokenizer, template, cache, scratch: Scratch::default() })
    }

    /// Most tokens of prompt and answer together.
    pub fn context_length(&self) -> usize {
        self.model.shape.context
    }

    /// Bytes of the weights and of the cache of keys and values as it is now.
    pub fn memory(&self) -> usize {
        self.model.memory() + self.cache.memory()
    }

    /// The prompt for an answer to `messages`, made by the model's chat template. Texts of control tokens in a
    /// message stay text.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] without messages, for a role that is no word, or when the model has no template.
    pub fn render_chat(&self, messages: &[Message]) -> Result<Prompt> {
        self.template.render(messages, &self.tokenizer)
    }

    /// `text` as it is; texts of control tokens stay text.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the text cannot be split into words.
    pub fn plain_prompt(&self, text: &str) -> Result<Prompt> {
        let mut ids = self.tokenizer.encode(text, false)?;
        if let Some(begin) = self.tokenizer.begin() {
            ids.insert(0, begin);
        }
        Ok(Prompt { text: text.to_owned(), ids })
    }

    /// Tokens of `text`; texts of control tokens count as text.
    ///
    /// # Errors
    /// As [`Decoder::plain_prompt`].
    pub fn count_tokens(&self, text: &str) -> Result<usize> {
        Ok(self.tokenizer.encode(text, false)?.len())
    }

    /// Ids of `text`; `special` turns texts of control tokens into these tokens. Not for text of users.
    ///
    /// # Errors
    /// As [`Decoder::plain_prompt`].
    pub fn tokenize(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        self.tokenizer.encode(text, special)
    }

    /// Writes on from `prompt`. `on_piece` gets the text in whole characters as soon as it is certain; the pieces
    /// together are [`Generation::text`]. Results do not depend on the number of threads.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for options or a prompt that make no sense, [`Error::TooLong`] when the prompt leaves
    /// no room for an answer; whatever `check` and `on_piece` return. The decoder can be used again after any of
    /// them.
    pub fn generate(
        &mut self,
        prompt: &Prompt,
        options: &GenerateOptions,
        pool: &Pool,
        check: Check<'_>,
        on_piece: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<Generation> {
        if options.max_tokens == 0 {
            return Err(Error::InvalidInput("max_tokens must be at least 1".to_owned()));
        }
        let mut sampler = Sampler::new(options.temperature, options.top_p, options.seed)?;
        let mut logits = self.prefill(&prompt.ids, pool, check)?;
        let room = self.context_length() - prompt.ids.len();
        let mut stream = Stream::new(&options.stop);
        let mut bytes = Vec::new();
        let (mut ids, mut logprobs) = (Vec::new(), Vec::new());
        let stop = loop {
            let (id, logprob) = sampler.choose(&logits)?;
            ids.push(id);
            logprobs.push(logprob);
            if self.tokenizer.is_end(id) {
                break StopReason::EndOfText;
            }
            bytes.clear();
            self.tokenizer.decode(id, &mut bytes);
            give(stream.push(&bytes), on_piece)?;
            if stream.stopped() {
                break StopReason::StopString;
            }
            if ids.len() >= options.max_tokens.min(room) {
                break StopReason::Length;
            }
            logits = self.step(id, prompt.ids.len() + ids.len() - 1, pool, check)?;
        };
        give(stream.finish(), on_piece)?;
        let stop = if stream.stopped() { StopReason::StopString } else { stop };
        Ok(Generation { text: stream.into_text(), prompt_tokens: prompt.ids.len(), ids, logprobs, stop })
    }

    /// What the model thinks of `forced` after `prompt`: for each token of it its logarithmic probability and the
    /// `top` best choices, given the prompt and the forced tokens before it.
    ///
    /// # Errors
    /// As [`Decoder::generate`].
    pub fn score(
        &mut self,
        prompt: &[u32],
        forced: &[u32],
        top: usize,
        pool: &Pool,
        check: Check<'_>,
    ) -> Result<Vec<Scored>> {
        let mut logits = self.prefill(prompt, pool, check)?;
        if prompt.len() + forced.len() > self.context_length() {
            let tokens = prompt.len() + forced.len();
            return Err(Error::TooLong { tokens, limit: self.context_length() });
        }
        let mut out = Vec::new();
        for (i, &id) in forced.iter().enumerate() {
            if i > 0 {
                logits = self.step(forced[i - 1], prompt.len() + i - 1, pool, check)?;
            }
            let (_, max) = sample::best(&logits)?;
            let total = max + sum_exp(isa::Isa::best(), &logits, max, 1.0).ln();
            let own = logits
                .get(id as usize)
                .ok_or_else(|| Error::InvalidInput(format!("token {id} is not in the vocabulary")))?;
            let mut order: Vec<u32> = (0..logits.len() as u32).collect();
            order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
            let top = order.iter().take(top).map(|&i| (i, logits[i as usize] - total)).collect();
            out.push(Scored { logprob: own - total, top });
        }
        Ok(out)
    }

    /// Logits after the last token of `ids`, which become the only content of the cache.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] without tokens, [`Error::TooLong`] when no room is left for an answer; whatever
    /// `check` returns.
    pub fn prefill(&mut self, ids: &[u32], pool: &Pool, check: Check<'_>) -> Result<Vec<f32>> {
        if ids.is_empty() {
            return Err(Error::InvalidInput("the prompt is empty".to_owned()));
        }
        if ids.len() >= self.context_length() {
            return Err(Error::TooLong { tokens: ids.len(), limit: self.context_length() });
        }
        let mut logits = None;
        for (i, chunk) in ids.chunks(CHUNK).enumerate() {
            let (first, last) = (i * CHUNK, i * CHUNK + chunk.len() == ids.len());
            let (cache, scratch) = (&mut self.cache, &mut self.scratch);
            logits = self.model.forward((cache, scratch), chunk, first, last, pool, check)?;
        }
        logits.ok_or_else(|| Error::Internal("no logits".to_owned()))
    }

    /// Logits after one more token at `position`.
    fn step(&mut self, id: u32, position: usize, pool: &Pool, check: Check<'_>) -> Result<Vec<f32>> {
        let (cache, scratch) = (&mut self.cache, &mut self.scratch);
        let logits = self.model.forward((cache, scratch), &[id], position, true, pool, check)?;
        logits.ok_or_else(|| Error::Internal("no logits".to_owned()))
    }
}

fn give(piece: &str, on_piece: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    if piece.is_empty() { Ok(()) } else { on_piece(piece) }
}
