//! Encoders: text into vectors.
//!
//! text → [`tokenizer`] → ids → [`network`] → one row per token → [`pooling`] → vector. [`config`], [`files`] and
//! [`weights`] read the model's files, [`packed`] prepares what [`bert`], [`wordpiece`] and [`unigram`] run on; other networks are those of
//! [`families`](crate::families), and [`generic`] is candle's way.

mod bert;
mod config;
pub(crate) mod files;
mod generic;
mod kernels;
mod known;
mod network;
mod packed;
mod pooling;
mod prepared_words;
mod table;
pub(crate) mod tokenizer;
mod unigram;
mod vocabulary;
mod weights;
mod wordpiece;
mod words;

use std::sync::Arc;

use pg_answer_models::{InstalledModel, Kind};

use self::bert::{Batch, Bert};
use self::config::Config;
use self::files::Files;
use self::network::Network;
use self::tokenizer::Tokenizer;
pub use self::tokenizer::Tokens;
pub use crate::Kernels;
use crate::families::TextEncoder;
use crate::network::Run;
use crate::prepared::{Image, Place};
use crate::{Check, Error, Pool, Result};

/// Rows of one forward pass: enough to make each weight that is read worth it, few enough to stay in a core's caches.
const ROWS_AT_ONCE: usize = 160;

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
    network: Network,
    max_tokens: usize,
}

/// Writes the prepared file of `model`; none for a network that runs on its files as they are.
///
/// # Errors
/// As [`Encoder::load`]; [`pg_answer_models::Error::Io`]; what `check` says.
pub fn prepare(model: &InstalledModel, check: Check<'_>) -> Result<Option<Arc<Image>>> {
    let mut files = Files::new(model);
    Config::read(&mut files)?;
    match network::packable(model, &files, Kernels::Auto)? {
        Some(bert) => packed::build(model, &files, &bert, Place::File, check).map(Some),
        None => prepared_words::build(model, &files, Place::File),
    }
}

/// The prepared file of `model`, when there is one.
///
/// # Errors
/// [`pg_answer_models::Error::Damaged`] when it is no such file.
pub fn prepared(model: &InstalledModel) -> Result<Option<Arc<Image>>> {
    let mut files = Files::new(model);
    Config::read(&mut files)?;
    match network::packable(model, &files, Kernels::Auto)? {
        Some(_) => Image::open(model, packed::LAYOUT),
        None => Image::open(model, prepared_words::LAYOUT),
    }
}

impl Encoder {
    /// Opens `model`, a sentence encoder of any family in the layout of sentence-transformers.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`] when a file is missing or broken, [`Error::Unsupported`] when it is
    /// another kind of model.
    pub fn load(model: &InstalledModel) -> Result<Self> {
        Self::load_for(model, Kernels::Auto)
    }

    /// As [`Encoder::load`], to be run by `kernels`.
    ///
    /// # Errors
    /// As [`Encoder::load`].
    pub fn load_for(model: &InstalledModel, kernels: Kernels) -> Result<Self> {
        let mut files = Files::new(model);
        if model.card.kind != Kind::Encoder {
            return Err(files.unsupported("it is not an encoder".to_owned()));
        }
        let config = Config::read(&mut files)?;
        let (network, tokenizer) = Network::open(model, &files, kernels)?;
        let dims = network.dims();
        if model.card.dims.is_some_and(|card| card != dims) {
            let reason = format!("its vectors have {dims} dimensions, its card says otherwise");
            return Err(files.unsupported(reason));
        }
        let max_tokens = config.max_tokens.min(network.positions());
        if max_tokens <= tokenizer.specials() {
            return Err(files.unsupported(format!("it reads at most {max_tokens} tokens")));
        }
        Ok(Self { model: model.card.name.clone(), config, tokenizer, network, max_tokens })
    }

    /// Elements of a vector.
    pub fn dims(&self) -> usize {
        self.network.dims()
    }

    /// Most tokens of a text, special tokens included; longer texts are cut.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Bytes of the weights in memory; those of a prepared model are shared by all processes.
    pub fn memory(&self) -> usize {
        self.network.memory()
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
        let vocabulary = self.network.vocabulary();
        for tokens in batch {
            let (n, least, max) = (tokens.ids.len(), self.tokenizer.specials().min(1), self.max_tokens);
            if !(least..=max).contains(&n) {
                let reason = format!("a text of {n} tokens, where {least} to {max} are allowed");
                return Err(Error::InvalidInput(reason));
            }
            if let Some(id) = tokens.ids.iter().find(|&&id| id as usize >= vocabulary) {
                return Err(self.unsupported(format!("token id {id} has no embedding")));
            }
        }
        match &self.network {
            Network::Bert(bert) => self.embed_parts(bert, batch, pool, check),
            Network::Generic(generic) => {
                let embed = |tokens: &Tokens| {
                    check()?;
                    self.finish(&generic.forward(&tokens.ids)?)
                };
                batch.iter().map(embed).collect()
            }
            Network::Family { network, .. } => self.embed_each(network.as_ref(), batch, pool, check),
        }
    }

    /// Runs the batch text by text. With enough texts for every thread each runs its own; with fewer the threads share
    /// the work of each product.
    fn embed_each(
        &self,
        network: &dyn TextEncoder,
        batch: &[Tokens],
        pool: &Pool,
        check: Check<'_>,
    ) -> Result<Vec<Vec<f32>>> {
        let alone = Pool::alone();
        let is_many = batch.len() >= pool.threads();
        let (outer, inner) = if is_many { (pool, &alone) } else { (&alone, pool) };
        let mut texts: Vec<(&[u32], Vec<f32>)> = batch.iter().map(|t| (&t.ids[..], Vec::new())).collect();
        let run = |kinds: &mut Vec<u32>, _, texts: &mut [(&[u32], Vec<f32>)], check: Check<'_>| {
            let mut run = Run::new(inner, check);
            for (ids, vector) in texts {
                kinds.resize(ids.len(), 0);
                *vector = self.finish(&network.forward(ids, kinds, &mut run)?.data)?;
            }
            Ok(())
        };
        outer.for_each(&mut texts, 1, check, Vec::new, run)?;
        Ok(texts.into_iter().map(|(_, vector)| vector).collect())
    }

    /// Runs the batch in parts. With a part for every thread each thread runs its own from the first layer to the
    /// last; with fewer the threads share the work of each step.
    fn embed_parts(
        &self,
        bert: &Bert,
        batch: &[Tokens],
        pool: &Pool,
        check: Check<'_>,
    ) -> Result<Vec<Vec<f32>>> {
        let rows: usize = batch.iter().map(|t| t.ids.len()).sum();
        let parts = rows.div_ceil(ROWS_AT_ONCE).next_multiple_of(pool.threads()).max(1);
        let mut parts = split(batch, rows.div_ceil(parts));
        let alone = Pool::alone();
        let inner = if parts.len() < pool.threads() { pool } else { &alone };
        let outer = if parts.len() < pool.threads() { &alone } else { pool };
        let run = |space: &mut Batch, _, parts: &mut [(&[Tokens], Vec<Vec<f32>>)], check: Check<'_>| {
            check()?;
            for (texts, vectors) in parts {
                let ids: Vec<&[u32]> = texts.iter().map(|t| &t.ids[..]).collect();
                bert.forward(&ids, space, inner, check)?;
                let mut first = 0;
                let mut states = Vec::new();
                for ids in ids {
                    states.clear();
                    for row in first..first + ids.len() {
                        states.extend(space.row(row, self.dims()));
                    }
                    first += ids.len();
                    vectors.push(self.finish(&states)?);
                }
            }
            Ok(())
        };
        outer.for_each(&mut parts, 1, check, Batch::default, run)?;
        Ok(parts.into_iter().flat_map(|(_, vectors)| vectors).collect())
    }

    /// The vector of a text from the rows of its tokens.
    fn finish(&self, states: &[f32]) -> Result<Vec<f32>> {
        let mut vector = pooling::pool(states, self.dims(), self.config.pooling);
        if self.config.normalize {
            pooling::normalize(&mut vector);
        }
        if !vector.iter().all(|v| v.is_finite()) {
            return Err(self.unsupported("it computes values that are not finite".to_owned()));
        }
        Ok(vector)
    }

    /// The first `dimensions` elements of `vector`, of length 1 if the whole is: for models trained to be cut
    /// (Kusupati et al. 2022, Matryoshka representation learning).
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for no dimensions, or more than the model has.
    pub fn shorten(&self, mut vector: Vec<f32>, dimensions: usize) -> Result<Vec<f32>> {
        if !(1..=vector.len()).contains(&dimensions) {
            let dims = vector.len();
            return Err(Error::InvalidInput(format!("dimensions must be 1 to {dims}, not {dimensions}")));
        }
        vector.truncate(dimensions);
        if self.config.normalize {
            pooling::normalize(&mut vector);
        }
        Ok(vector)
    }

    fn unsupported(&self, reason: String) -> Error {
        Error::Unsupported { model: self.model.clone(), reason }
    }
}

/// Parts of `batch` of about `rows` tokens each, at least one text.
fn split(batch: &[Tokens], rows: usize) -> Vec<(&[Tokens], Vec<Vec<f32>>)> {
    let mut parts = Vec::new();
    let (mut rest, mut done, mut cut) = (batch, 0, 0);
    while !rest.is_empty() {
        // Parts end where the running total passes a multiple of `rows`, so that the last is no remnant.
        cut += rows;
        let mut total = done;
        let fits = rest.iter().take_while(|t| {
            let before = total;
            total += t.ids.len();
            before + t.ids.len() / 2 < cut
        });
        let (now, later) = rest.split_at(fits.count().max(1).min(rest.len()));
        done += now.iter().map(|t| t.ids.len()).sum::<usize>();
        rest = later;
        parts.push((now, Vec::new()));
    }
    parts
}
