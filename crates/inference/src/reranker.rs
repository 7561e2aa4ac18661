//! Rerankers: how well passages answer a question, each read together with it.

use pg_answer_models::{InstalledModel, Kind};
use serde::Deserialize;

use crate::encoder::files::Files;
use crate::encoder::tokenizer::Tokenizer;
use crate::families::{CrossEncoder, Loader, Source};
use crate::network::Run;
use crate::{Check, Error, Pool, Result};

/// A cross-encoder in memory. It does not change, and threads may share it.
pub struct Reranker {
    model: String,
    tokenizer: Tokenizer,
    network: Box<dyn CrossEncoder>,
    max_tokens: usize,
    memory: usize,
}

#[derive(Deserialize)]
struct TokenizerConfig {
    /// Some published files say 1e30 for "no limit".
    model_max_length: Option<f64>,
}

impl Reranker {
    /// Opens `model`, a cross-encoder of any family.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`] when a file is missing or broken, [`Error::Unsupported`] when it is
    /// another kind of model.
    pub fn load(model: &InstalledModel) -> Result<Self> {
        let files = Files::new(model);
        if model.card.kind != Kind::CrossEncoder {
            return Err(files.unsupported("it is not a cross-encoder".to_owned()));
        }
        let tokenizer = Tokenizer::read(&files)?;
        let (source, family) = Source::open(model, &files)?;
        let Loader::CrossEncoder(load) = family.loader else {
            let kind = family.kind().as_str();
            return Err(files.unsupported(format!("its architecture is that of a model of kind {kind}")));
        };
        let network = load(&source)?;
        let limit: Option<TokenizerConfig> = files.json("tokenizer_config.json")?;
        // A cast of a float is saturating; the positions limit it further.
        let limit = limit.and_then(|l| l.model_max_length).map_or(usize::MAX, |n| n as usize);
        let max_tokens = limit.min(network.positions());
        let (specials, _) = tokenizer.encode_pair("", "", usize::MAX)?;
        if max_tokens <= specials.len() {
            return Err(files.unsupported(format!("it reads at most {max_tokens} tokens")));
        }
        let memory = source.tensors.memory();
        Ok(Self { model: model.card.name.clone(), tokenizer, network, max_tokens, memory })
    }

    /// Most tokens of a question and a passage together; the longer of the two is cut.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Bytes of the weights, which all processes share.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Token ids of a pair, and of which text each is.
    ///
    /// # Errors
    /// [`Error::Internal`] when the tokenizer fails.
    pub fn tokenize(&self, query: &str, passage: &str) -> Result<(Vec<u32>, Vec<u32>)> {
        self.tokenizer.encode_pair(query, passage, self.max_tokens)
    }

    /// Tokens of `text`, without special tokens.
    ///
    /// # Errors
    /// As [`Reranker::tokenize`].
    pub fn count_tokens(&self, text: &str) -> Result<usize> {
        let tokens = self.tokenizer.encode(text, usize::MAX, &mut || Ok(()))?;
        Ok(tokens.untruncated - self.tokenizer.specials())
    }

    /// How well each of `passages` answers `query`, in their order: any number, the higher the better, before any
    /// sigmoid.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the model knows too few tokens or computes values that are not finite; what
    /// `check` says.
    pub fn score(&self, query: &str, passages: &[&str], pool: &Pool, check: Check<'_>) -> Result<Vec<f32>> {
        let mut run = Run::new(pool, check);
        let mut score = |passage: &&str| {
            run.check()?;
            let (ids, kinds) = self.tokenize(query, passage)?;
            if let Some(id) = ids.iter().find(|&&id| id as usize >= self.network.vocabulary()) {
                return Err(self.unsupported(format!("token id {id} has no embedding")));
            }
            let score = self.network.score(&ids, &kinds, &mut run)?;
            if score.is_finite() {
                Ok(score)
            } else {
                Err(self.unsupported("it computes values that are not finite".to_owned()))
            }
        };
        passages.iter().map(&mut score).collect()
    }

    fn unsupported(&self, reason: String) -> Error {
        Error::Unsupported { model: self.model.clone(), reason }
    }
}
