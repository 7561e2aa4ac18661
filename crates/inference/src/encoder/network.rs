//! Which network runs a model.

use pg_answer_models::InstalledModel;

use super::Kernels;
use super::bert::Bert;
use super::config::Bert as Config;
use super::files::Files;
use super::generic::Generic;
use super::packed::Packed;
use super::prepared_words as words;
use super::tokenizer::Tokenizer;
use crate::Result;
use crate::families::{Source, TextEncoder, load_encoder};

/// Heads narrower than a panel are mostly padding there: f32 as they are is as fast.
const MIN_HEAD: usize = 32;

/// A network in memory.
pub enum Network {
    /// Packed panels.
    Bert(Bert),
    /// That of candle.
    Generic(Generic),
    /// f32 on the files as they are.
    Family {
        /// The network.
        network: Box<dyn TextEncoder>,
        /// Bytes of its weights.
        memory: usize,
    },
}

impl Network {
    /// Opens that of `model` for `kernels`, and its tokenizer.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`], [`crate::Error::Unsupported`].
    pub fn open(model: &InstalledModel, files: &Files<'_>, kernels: Kernels) -> Result<(Self, Tokenizer)> {
        if let Some(config) = packable(model, files, kernels)? {
            if kernels == Kernels::Candle {
                return Ok((Self::Generic(Generic::read(files, &config)?), Tokenizer::read(files)?));
            }
            let (packed, tokenizer) = Packed::open(model, files, &config)?;
            return Ok((Self::Bert(Bert::new(&config, packed)), tokenizer));
        }
        let (source, family) = Source::open(model, files)?;
        let network = load_encoder(&source, family)?;
        let tokenizer = words::open(model, files)?;
        let tokenizer = if network.frames_text() { tokenizer } else { tokenizer.bare() };
        Ok((Self::Family { network, memory: source.tensors.memory() }, tokenizer))
    }

    /// Elements of a row.
    pub fn dims(&self) -> usize {
        match self {
            Self::Bert(bert) => bert.hidden(),
            Self::Generic(generic) => generic.hidden(),
            Self::Family { network, .. } => network.dims(),
        }
    }

    /// Most tokens of a text.
    pub fn positions(&self) -> usize {
        match self {
            Self::Bert(bert) => bert.positions(),
            Self::Generic(generic) => generic.positions(),
            Self::Family { network, .. } => network.positions(),
        }
    }

    /// Number of token ids that are known.
    pub fn vocabulary(&self) -> usize {
        match self {
            Self::Bert(bert) => bert.vocabulary(),
            Self::Generic(generic) => generic.vocabulary(),
            Self::Family { network, .. } => network.vocabulary(),
        }
    }

    /// Bytes of all weights, shared with other processes or not.
    pub fn memory(&self) -> usize {
        match self {
            Self::Bert(bert) => bert.memory(),
            Self::Generic(generic) => generic.memory(),
            Self::Family { memory, .. } => *memory,
        }
    }
}

/// The configuration of a BERT that packed panels, or candle, shall run.
///
/// # Errors
/// As [`Network::open`].
pub fn packable(model: &InstalledModel, files: &Files<'_>, kernels: Kernels) -> Result<Option<Config>> {
    let (fields, family) = Source::fields(model, files)?;
    // Candle's network, too, is only for BERT as it is.
    if kernels == Kernels::Exact || (kernels == Kernels::Candle && family.name != "bert") {
        return Ok(None);
    }
    let Some(config) = Config::read(&fields, family.name)? else { return Ok(None) };
    let suits = kernels != Kernels::Auto || config.hidden / config.heads >= MIN_HEAD;
    Ok(suits.then_some(config))
}
