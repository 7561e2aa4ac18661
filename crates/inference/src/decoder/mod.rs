//! Decoders: text in, more text out. GGUF files of the Qwen2 family, computed with 8-bit integers.
//!
//! `file (gguf) → weights (matrix, quantized) → layers (qwen2, layer, attention, cache) → choice (sample) → text (stream)`

mod activations;
mod attention;
mod cache;
pub(crate) mod chat;
mod context;
mod draft;
pub mod gguf;
mod head;
pub(crate) mod isa;
pub(crate) mod lanes;
mod layer;
pub(crate) mod matrix;
mod oracle;
mod parallel;
mod prepare;
mod quantize;
pub(crate) mod quantized;
mod qwen2;
pub(crate) mod sample;
mod shape;
mod shelf;
pub(crate) mod stream;
mod tokenizer;
pub(crate) mod vocabulary;

pub use chat::{Message, Prompt};
pub use prepare::{LAYOUT, prepare};

use crate::constraint::{Constraint, Grammar, Json, LazyGrammar};
use crate::prepared::{Image, Place};
use crate::{Check, Error, Kernels, Pool, Result};
use chat::Template;
use context::Context;
use draft::Drafter;
use gguf::Gguf;
use head::Wanted;
use lanes::sum_exp;
use oracle::Oracle;
use pg_answer_models::InstalledModel;
use prepare::Meta;
use qwen2::Qwen2;
use sample::Sampler;
pub use sample::Sampling;
use shelf::Shelf;
use std::path::Path;
use std::sync::Arc;
use stream::Stream;
use tokenizer::Tokenizer;
use vocabulary::Tables;

/// A decoder, ready to answer. One caller uses it at a time.
pub struct Decoder {
    model: Qwen2,
    tokenizer: Tokenizer,
    template: Template,
    context: Context,
    /// Made when JSON is first asked for.
    grammar: LazyGrammar,
    image: Arc<Image>,
}

/// Most tokens of a constraint's forced text that are read ahead at once.
const MOST_FORCED: usize = 16;

/// Most tokens of an answer that is weighed: each has logits of its own.
const MOST_WEIGHED: usize = 64;

/// How to write.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// Most tokens of the answer; the model's window can end it earlier.
    pub max_tokens: usize,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// The answer ends before any of these texts.
    pub stop: Vec<String>,
    /// Guess what is quoted from the prompt and read several guesses in one pass. The answer is the same.
    pub draft: bool,
    /// Most bytes for the keys and values of the prompt and the answer together.
    pub max_memory: usize,
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
    /// How many of them, from the first on, had been read for the call before, or in another session.
    pub reused_tokens: usize,
    /// Passes through the weights after the prompt; fewer than tokens where drafts came true.
    pub passes: usize,
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
    /// Opens `model`: its prepared file where there is one, otherwise an image of its GGUF file in memory.
    ///
    /// # Errors
    /// [`Error::Model`] when a file is missing or makes no sense, [`Error::Unsupported`] for another architecture;
    /// whatever `check` returns.
    pub fn load(model: &InstalledModel, pool: &Pool, check: Check<'_>) -> Result<Self> {
        match Image::open(model, LAYOUT)? {
            Some(image) => Self::open(image),
            None => Self::from_gguf(&Gguf::open(&model.weights()?)?, model, pool, check),
        }
    }

    /// As [`Decoder::load`], to be run by `kernels`.
    ///
    /// # Errors
    /// As [`Decoder::load`]; [`Error::Internal`] when candle cannot read the file.
    pub fn load_for(model: &InstalledModel, kernels: Kernels, pool: &Pool, check: Check<'_>) -> Result<Self> {
        let mut decoder = Self::load(model, pool, check)?;
        if kernels == Kernels::Candle {
            // The image may be all that was read, and candle believes what a file says of its lengths.
            Gguf::open(&model.weights()?)?;
            decoder.context = Context::new(&decoder.model, Some(Oracle::load(model)?));
        }
        Ok(decoder)
    }

    /// As [`Decoder::load`], from the open GGUF file of `model`.
    ///
    /// # Errors
    /// As [`Decoder::load`].
    pub fn from_gguf(gguf: &Gguf, model: &InstalledModel, pool: &Pool, check: Check<'_>) -> Result<Self> {
        Self::open(prepare::build(gguf, model, Place::Memory, pool, check)?)
    }

    fn open(image: Arc<Image>) -> Result<Self> {
        let meta: Meta = image.meta()?;
        let model = Qwen2::open(&image, &meta)?;
        let [begin, end] = &meta.vocabulary.names;
        let template = Template::new(meta.template.as_deref(), begin, end);
        let template = template.map_err(|reason| image.damaged(reason))?;
        let tables = Tables::open(&image, model.shape.vocabulary)?;
        let tokenizer = Tokenizer::new(tables, meta.vocabulary)?;
        let context = Context::new(&model, None);
        Ok(Self { model, tokenizer, template, context, grammar: LazyGrammar::default(), image })
    }

    /// Keeps keys and values of what is [`fixed`](Prompt::fixed) in prompts for `model`, which this is, as files in
    /// `folder`, and takes them from there. No answer changes.
    pub fn share_beginnings(&mut self, folder: &Path, model: &InstalledModel) {
        let identity = format!("{LAYOUT} {}", crate::prepared::identity(model));
        self.context.share_beginnings(Shelf::new(folder, &identity));
    }

    /// Most tokens of prompt and answer together.
    pub fn context_length(&self) -> usize {
        self.model.shape.context
    }

    /// Bytes in this process's own memory: keys and values, and the weights where they are not a prepared file's.
    pub fn memory(&self) -> usize {
        self.image.private_memory() + self.context.memory()
    }

    /// Whether the model has a chat template.
    pub fn can_chat(&self) -> bool {
        self.template.is_there()
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
        Ok(Prompt { text: text.to_owned(), ids, fixed: 0 })
    }

    /// Tokens of `text`; texts of control tokens count as text.
    ///
    /// # Errors
    /// As [`Decoder::plain_prompt`].
    pub fn count_tokens(&self, text: &str) -> Result<usize> {
        Ok(self.tokenizer.encode(text, false)?.len())
    }

    /// The text of `ids` in whole characters: one that is not finished is left out.
    pub fn text(&self, ids: &[u32]) -> String {
        let (mut stream, mut bytes) = (Stream::new(&[]), Vec::new());
        for &id in ids {
            self.tokenizer.decode(id, &mut bytes);
        }
        stream.push(&bytes);
        stream.into_text()
    }

    /// Ids of `text`; `special` turns texts of control tokens into these tokens. Not for text of users.
    ///
    /// # Errors
    /// As [`Decoder::plain_prompt`].
    pub fn tokenize(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        self.tokenizer.encode(text, special)
    }

    /// A constraint to JSON that is valid against `schema`.
    ///
    /// # Errors
    /// [`Error::Schema`] when it cannot be used; what `check` returns.
    pub fn json(&self, schema: &serde_json::Value, check: Check<'_>) -> Result<Json> {
        let make = || Grammar::new(self.tokenizer.words(), self.tokenizer.ends(), check);
        self.grammar.get_or_make(make)?.json(schema, check)
    }

    /// Writes on from `prompt`. `on_piece` gets the text in whole characters as soon as it is certain; the pieces
    /// together are [`Generation::text`]. Results do not depend on the number of threads.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for options or a prompt that make no sense, [`Error::TooLong`] when the prompt leaves
    /// no room for an answer, [`Error::Memory`] when both together need too much; whatever `check` and `on_piece` return. The decoder can be used again after any of
    /// them.
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

    /// As [`Decoder::generate`], within `constraint`. Logarithms are those of the probability among the tokens that may
    /// come.
    ///
    /// # Errors
    /// As [`Decoder::generate`]; those of the constraint.
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
        self.check_length(&prompt.ids)?;
        let room = options.max_tokens.min(self.context_length() - prompt.ids.len());
        self.context.reserve(prompt.ids.len() + room, options.max_memory)?;
        let Self { model, tokenizer, context, .. } = self;
        let mut text = prompt.ids.clone();
        let mut stream = Stream::new(&options.stop);
        let (mut bytes, mut logprobs) = (Vec::new(), Vec::new());
        let near = sampler.near();
        let wanted = |tokens| Wanted { tokens, near };
        let (mut drafter, mut draft, mut passes) = (Drafter::new(), Vec::new(), 0);
        let reused_tokens = context.read(model, &prompt.ids, prompt.fixed, wanted(1), pool, check)?.1;
        let stop = 'answer: loop {
            let mut accepted = 0;
            for i in 0..=draft.len() {
                let allow = |logits: &mut [f32]| sample::mask(logits, constraint.as_deref_mut());
                let logits = context.settle(model, i, pool, allow)?;
                let (id, logprob) = sampler.choose(logits, &text)?;
                if let Some(constraint) = constraint.as_deref_mut() {
                    constraint.accept(id)?;
                }
                text.push(id);
                logprobs.push(logprob);
                if tokenizer.is_end(id) {
                    break 'answer StopReason::EndOfText;
                }
                bytes.clear();
                tokenizer.decode(id, &mut bytes);
                give(stream.push(&bytes), on_piece)?;
                if constraint.as_ref().is_some_and(|c| c.is_whole()) {
                    break 'answer StopReason::EndOfText;
                }
                if stream.stopped() {
                    break 'answer StopReason::StopString;
                }
                if logprobs.len() >= room {
                    break 'answer StopReason::Length;
                }
                if draft.get(accepted) != Some(&id) {
                    break;
                }
                accepted += 1;
            }
            drafter.learn(draft.len(), accepted);
            // Everything but the token just chosen has been read, and perhaps a wrong draft.
            let (read, next) = text.split_at(text.len() - 1);
            context.truncate(read.len());
            draft.clear();
            let left = room - logprobs.len() - 1;
            if options.draft {
                if let Some(constraint) = constraint.as_deref_mut() {
                    draft = tokenizer.encode(&constraint.forced(), false)?;
                    draft.truncate(MOST_FORCED.min(left));
                }
                if draft.is_empty() {
                    draft.extend_from_slice(drafter.propose(&text, left));
                }
            }
            let next = [next, &draft].concat();
            context.extend(model, &next, wanted(next.len()), pool, check)?;
            passes += 1;
        };
        let ids = text.split_off(prompt.ids.len());
        give(stream.finish(), on_piece)?;
        let stop = if stream.stopped() { StopReason::StopString } else { stop };
        let (text, prompt_tokens) = (stream.into_text(), prompt.ids.len());
        Ok(Generation { text, prompt_tokens, reused_tokens, passes, ids, logprobs, stop })
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
        self.check_length(prompt)?;
        if prompt.len() + forced.len() > self.context_length() {
            let tokens = prompt.len() + forced.len();
            return Err(Error::TooLong { tokens, limit: self.context_length() });
        }
        let (mut logits, _) = self.context.read(&self.model, prompt, 0, Wanted::all(1), pool, check)?;
        let mut out = Vec::new();
        for (i, &id) in forced.iter().enumerate() {
            if i > 0 {
                logits = self.context.extend(&self.model, &forced[i - 1..i], Wanted::all(1), pool, check)?;
            }
            let (_, max) = sample::best(logits)?;
            let total = max + sum_exp(isa::Isa::best(), logits, max, 1.0).ln();
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

    /// As [`LanguageModel::weigh`](crate::LanguageModel::weigh). The prompt is read once, a single answer together with it, of
    /// which the first 64 tokens count.
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
        let Self { model, tokenizer, context, .. } = self;
        let mut answers: Vec<Vec<u32>> =
            answers.iter().map(|text| tokenizer.encode(text, false)).collect::<Result<_>>()?;
        // One by itself is compared with itself after other prompts: its beginning tells enough.
        let cut = matches!(&answers[..], [ids] if ids.len() > MOST_WEIGHED);
        if cut {
            answers[0].truncate(MOST_WEIGHED);
        }
        let longest = answers.iter().map(Vec::len).max().unwrap_or(0);
        let (tokens, limit) = (prompt.ids.len() + longest, model.shape.context);
        if tokens > limit {
            return Err(Error::TooLong { tokens, limit });
        }
        if longest > MOST_WEIGHED || answers.iter().any(Vec::is_empty) {
            let reason = format!("an answer to be weighed must have 1 to {MOST_WEIGHED} tokens");
            return Err(Error::InvalidInput(reason));
        }
        // Logits after the prompt and after each token of an answer.
        let weight = |ids: &[u32], logits: &mut dyn Iterator<Item = &[f32]>| -> Result<f64> {
            logits.zip(0..).map(|(l, i)| sample::logprob(l, ids.get(i..=i).unwrap_or(tokenizer.ends()))).sum()
        };
        if let [ids] = &answers[..] {
            let text = [&prompt.ids[..], ids].concat();
            let (logits, _) = context.read(
                model,
                &text,
                prompt.fixed,
                Wanted::all(ids.len() + usize::from(!cut)),
                pool,
                check,
            )?;
            return Ok(vec![weight(ids, &mut logits.chunks_exact(model.shape.vocabulary))?]);
        }
        let first = context.read(model, &prompt.ids, prompt.fixed, Wanted::all(1), pool, check)?.0.to_vec();
        let mut weights = Vec::new();
        for ids in &answers {
            context.truncate(prompt.ids.len());
            let logits = context.extend(model, ids, Wanted::all(ids.len()), pool, check)?;
            let after = logits.chunks_exact(model.shape.vocabulary);
            weights.push(weight(ids, &mut std::iter::once(&first[..]).chain(after))?);
        }
        Ok(weights)
    }

    /// Logits after the last token of `ids`, which become all that the decoder has read. A beginning that it read for
    /// the call before is not read again.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] without tokens, [`Error::TooLong`] when no room is left for an answer; whatever
    /// `check` returns.
    pub fn prefill(&mut self, ids: &[u32], pool: &Pool, check: Check<'_>) -> Result<Vec<f32>> {
        self.check_length(ids)?;
        Ok(self.context.read(&self.model, ids, 0, Wanted::all(1), pool, check)?.0.to_vec())
    }

    /// Forgets what was read, so that the next call reads all of its prompt.
    pub fn forget(&mut self) {
        self.context.truncate(0);
    }

    fn check_length(&self, prompt: &[u32]) -> Result<()> {
        if prompt.len() < self.context_length() {
            Ok(())
        } else {
            Err(Error::TooLong { tokens: prompt.len(), limit: self.context_length() })
        }
    }
}

fn give(piece: &str, on_piece: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    if piece.is_empty() { Ok(()) } else { on_piece(piece) }
}
