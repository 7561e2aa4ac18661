//! Models that write: decoders with kernels of their own ([`Decoder`]), and those of all other families ([`Writer`]).

mod beam;
mod continuation;
mod pieces;
mod rewriter;
mod tokens;
pub(crate) mod vocabulary;
mod writer;

pub use continuation::Continuation;
pub use rewriter::{RewriteOptions, Rewriter, Rewritten};
pub use tokens::Tokens;
pub use writer::Writer;

use std::path::Path;

use pg_answer_models::InstalledModel;

use crate::constraint::{Constraint, Json};
use crate::decoder::{Decoder, GenerateOptions, Generation, Message, Prompt};
use crate::{Check, Kernels, Pool, Result};

/// A model that writes. One caller uses it at a time.
pub enum LanguageModel {
    /// Runs on a prepared image.
    Decoder(Box<Decoder>),
    /// Runs in f32 on its files as they are.
    Writer(Box<Writer>),
}

/// Whether `model` is one that [`Decoder`] runs.
pub fn has_kernels(model: &InstalledModel) -> bool {
    let is_gguf = model.card.files.first().is_some_and(|file| file.path.ends_with(".gguf"));
    is_gguf && model.card.architecture == "qwen2"
}

impl LanguageModel {
    /// Opens `model`.
    ///
    /// # Errors
    /// [`crate::Error::Model`] when a file is missing or makes no sense, [`crate::Error::Unsupported`] for another kind
    /// of model; whatever `check` returns.
    pub fn load(model: &InstalledModel, kernels: Kernels, pool: &Pool, check: Check<'_>) -> Result<Self> {
        Ok(match has_kernels(model) {
            true => Self::Decoder(Box::new(Decoder::load_for(model, kernels, pool, check)?)),
            false => Self::Writer(Box::new(Writer::load(model)?)),
        })
    }

    /// As [`Decoder::share_beginnings`]; models without kernels of their own keep nothing.
    pub fn share_beginnings(&mut self, folder: &Path, model: &InstalledModel) {
        if let Self::Decoder(decoder) = self {
            decoder.share_beginnings(folder, model);
        }
    }

    /// Most tokens of prompt and answer together.
    pub fn context_length(&self) -> usize {
        match self {
            Self::Decoder(decoder) => decoder.context_length(),
            Self::Writer(writer) => writer.context_length(),
        }
    }

    /// Bytes of keys and values, and of weights that are in this process's own memory or mapped from the model's files.
    pub fn memory(&self) -> usize {
        match self {
            Self::Decoder(decoder) => decoder.memory(),
            Self::Writer(writer) => writer.memory(),
        }
    }

    /// Tokens of `text`; texts of control tokens count as text.
    ///
    /// # Errors
    /// [`crate::Error::InvalidInput`] when the text cannot be split into words.
    pub fn count_tokens(&self, text: &str) -> Result<usize> {
        match self {
            Self::Decoder(decoder) => decoder.count_tokens(text),
            Self::Writer(writer) => writer.count_tokens(text),
        }
    }

    /// The text of tokens that the model wrote, in whole characters: one that is not finished is left out.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the tokenizer's library fails.
    pub fn text(&self, ids: &[u32]) -> Result<String> {
        match self {
            Self::Decoder(decoder) => Ok(decoder.text(ids)),
            Self::Writer(writer) => writer.text(ids),
        }
    }

    /// Whether the model has a template for conversations.
    pub fn can_chat(&self) -> bool {
        match self {
            Self::Decoder(decoder) => decoder.can_chat(),
            Self::Writer(writer) => writer.can_chat(),
        }
    }

    /// The prompt for an answer to `messages`, made by the model's chat template. Texts of control tokens in a message
    /// stay text.
    ///
    /// # Errors
    /// [`crate::Error::InvalidInput`] without messages, for a role that is no word, or when the model has no template.
    pub fn render_chat(&self, messages: &[Message]) -> Result<Prompt> {
        match self {
            Self::Decoder(decoder) => decoder.render_chat(messages),
            Self::Writer(writer) => writer.render_chat(messages),
        }
    }

    /// `text` as it is, to be continued; texts of control tokens stay text.
    ///
    /// # Errors
    /// [`crate::Error::InvalidInput`] when the text cannot be split into words.
    pub fn plain_prompt(&self, text: &str) -> Result<Prompt> {
        match self {
            Self::Decoder(decoder) => decoder.plain_prompt(text),
            Self::Writer(writer) => writer.plain_prompt(text),
        }
    }

    /// The prompt for an answer to `messages`: by the chat template, or of a model without one all that is said.
    ///
    /// # Errors
    /// As [`LanguageModel::render_chat`].
    pub fn ask(&self, messages: &[Message]) -> Result<Prompt> {
        if self.can_chat() {
            return self.render_chat(messages);
        }
        let said: Vec<&str> = messages.iter().map(|m| m.content.as_str()).collect();
        self.plain_prompt(&(said.join("\n\n") + "\n"))
    }

    /// For each of `answers` the natural logarithm of the probability that the model replies just so to `prompt`.
    ///
    /// # Errors
    /// [`crate::Error::InvalidInput`] for an answer without tokens, [`crate::Error::TooLong`] when prompt and answer
    /// exceed the window; whatever `check` returns.
    pub fn weigh(
        &mut self,
        prompt: &Prompt,
        answers: &[&str],
        pool: &Pool,
        check: Check<'_>,
    ) -> Result<Vec<f64>> {
        match self {
            Self::Decoder(decoder) => decoder.weigh(prompt, answers, pool, check),
            Self::Writer(writer) => writer.weigh(prompt, answers, pool, check),
        }
    }

    /// Writes on from `prompt`. `on_piece` gets the text in whole characters as soon as it is certain.
    ///
    /// # Errors
    /// As [`Decoder::generate`].
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

    /// A constraint to JSON that is valid against `schema`.
    ///
    /// # Errors
    /// [`crate::Error::Schema`] when it cannot be used; what `check` returns.
    pub fn json(&self, schema: &serde_json::Value, check: Check<'_>) -> Result<Json> {
        match self {
            Self::Decoder(decoder) => decoder.json(schema, check),
            Self::Writer(writer) => writer.json(schema, check),
        }
    }

    /// As [`LanguageModel::generate`], within `constraint`.
    ///
    /// # Errors
    /// As [`Decoder::generate_within`].
    pub fn generate_within(
        &mut self,
        prompt: &Prompt,
        options: &GenerateOptions,
        constraint: Option<&mut dyn Constraint>,
        pool: &Pool,
        check: Check<'_>,
        on_piece: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<Generation> {
        match self {
            Self::Decoder(decoder) => {
                decoder.generate_within(prompt, options, constraint, pool, check, on_piece)
            }
            Self::Writer(writer) => {
                writer.generate_within(prompt, options, constraint, pool, check, on_piece)
            }
        }
    }
}
