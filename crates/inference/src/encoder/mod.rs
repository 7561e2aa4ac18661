//! Encoders: text into vectors.
//!
//! text → [`tokenizer`] → ids → [`bert`] → one row per token → [`pooling`] → vector. [`config`], [`files`] and
//! [`weights`] read the model's files.

mod bert;
mod config;
mod dense;
mod files;
mod kernels;
mod pooling;
mod tokenizer;
mod weights;

use pg_answer_models::{InstalledModel, Kind};

use self::bert::Bert;
use self::config::Config;
use self::files::Files;
use self::tokenizer::Tokenizer;
pub use self::tokenizer::Tokens;
use crate::{Check, Error, Pool, Result};

/// What a text is to a search. Some models want to be told, by a prompt before the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Unknown.
    Plain,
    /// What is searched for.
    Query,
    /// What is found.
    Document,
}

/// An encoder in memory. It does not change, and threads may share it.
pub struct Encoder {
    model: String,
    config: Config,
    tokenizer: Tokenizer,
    bert: Bert,
    max_tokens: usize,
}

impl Encoder {
    /// Reads the files of `model`, a BERT in the layout of sentence-transformers.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`] when a file is missing or broken, [`Error::Unsupported`] when it is
    /// another kind of model.
    pub fn load(model: &InstalledModel) -> Result<Self> {
        let mut files = Files::new(model);
        if model.card.kind != Kind::Encoder {
            return Err(files.unsupported("it is not an encoder".to_owned()));
        }
        let config = Config::read(&mut files)?;
        let tokenizer = Tokenizer::read(&files)?;
        let bert = Bert::read(&files, &config.bert)?;
        if model.card.dims.is_some_and(|dims| dims != bert.hidden()) {
            let reason = format!("its vectors have {} dimensions, its card says otherwise", bert.hidden());
            return Err(files.unsupported(reason));
        }
        let max_tokens = config.max_tokens.min(bert.positions());
        if max_tokens <= tokenizer.specials() {
            return Err(files.unsupported(format!("it reads at most {max_tokens} tokens")));
        }
        Ok(Self { model: model.card.name.clone(), config, tokenizer, bert, max_tokens })
    }

    /// Elements of a vector.
    pub fn dims(&self) -> usize {
        self.bert.hidden()
    }

    /// Most tokens of a text, special tokens included; longer texts are cut.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Bytes of the weights in memory.
    pub fn memory(&self) -> usize {
        self.bert.memory()
    }

    /// The token ids of `text`, with the model's prompt for `role` before it.
    ///
    /// # Errors
    /// [`Error::Internal`] when the tokenizer fails.
    pub fn tokenize(&self, text: &str, role: Role) -> Result<Tokens> {
        self.tokenize_checked(text, role, &mut || Ok(()))
    }

    /// As [`Encoder::tokenize`], asking `check` now and then: texts may be as long as a database value.
    ///
    /// # Errors
    /// As [`Encoder::tokenize`], and what `check` says.
    pub fn tokenize_checked(&self, text: &str, role: Role, check: Check<'_>) -> Result<Tokens> {
        let prompt = match role {
            Role::Plain => &self.config.prompts.plain,
            Role::Query => &self.config.prompts.query,
            Role::Document => &self.config.prompts.document,
        };
        if prompt.is_empty() && !self.config.lower_case {
            return self.tokenizer.encode(text, self.max_tokens, check);
        }
        let mut whole = format!("{prompt}{text}");
        if self.config.lower_case {
            whole = whole.to_lowercase();
        }
        self.tokenizer.encode(&whole, self.max_tokens, check)
    }

    /// How many tokens `text` has, special tokens included, however long it is.
    ///
    /// # Errors
    /// As [`Encoder::tokenize`].
    pub fn count_tokens(&self, text: &str) -> Result<usize> {
        Ok(self.tokenize(text, Role::Plain)?.untruncated)
    }

    /// The vectors of `batch`, in its order. A text's vector does not depend on the others.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for ids that no call of [`Encoder::tokenize`] makes; [`Error::Unsupported`] when
    /// the model knows too few tokens, or computes values that are not finite; what `check` says.
    pub fn embed(&self, batch: &[Tokens], pool: &Pool, check: Check<'_>) -> Result<Vec<Vec<f32>>> {
        for tokens in batch {
            if tokens.ids.is_empty() || tokens.ids.len() > self.max_tokens {
                let (n, max) = (tokens.ids.len(), self.max_tokens);
                return Err(Error::InvalidInput(format!(
                    "a text of {n} tokens, where 1 to {max} are allowed"
                )));
            }
            if let Some(id) = tokens.ids.iter().find(|&&id| id as usize >= self.bert.vocabulary()) {
                return Err(self.unsupported(format!("token id {id} has no embedding")));
            }
        }
        let rows_at_once = self.bert.rows_at_once();
        let width = self.dims();
        let mut vectors = Vec::with_capacity(batch.len());
        let mut rest = batch;
        while !rest.is_empty() {
            // Nothing is padded, so texts of any lengths go well together.
            let mut rows = 0;
            let fits = rest.iter().take_while(|t| {
                rows += t.ids.len();
                rows <= rows_at_once
            });
            let (now, later) = rest.split_at(fits.count().max(1));
            rest = later;
            let ids: Vec<&[u32]> = now.iter().map(|t| &t.ids[..]).collect();
            let states = self.bert.forward(&ids, pool, check)?;
            let mut states = &states[..];
            for ids in ids {
                let (text, after) = states.split_at(ids.len() * width);
                states = after;
                let mut vector = pooling::pool(text, width, self.config.pooling);
                if self.config.normalize {
                    pooling::normalize(&mut vector);
                }
                if !vector.iter().all(|v| v.is_finite()) {
                    return Err(self.unsupported("it computes values that are not finite".to_owned()));
                }
                vectors.push(vector);
            }
        }
        Ok(vectors)
    }

    fn unsupported(&self, reason: String) -> Error {
        Error::Unsupported { model: self.model.clone(), reason }
    }
}
