//! SentencePiece (Kudo and Richardson 2018): its model files, and its way to cut a text by the tokenizers library.

use quick_protobuf::{BytesReader, MessageRead};
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{NormalizerWrapper, Precompiled, Replace, Sequence, Strip};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{ModelWrapper, Tokenizer};

use crate::encoder::tokenizer::caught;

/// What stands for a blank in pieces.
pub const BLANK: char = '▁';

/// The parts of `sentencepiece_model.proto` (SentencePiece's repository) that say how a text is cut.
#[derive(Default)]
pub struct Model {
    /// All pieces, by their ids.
    pub pieces: Vec<Piece>,
    trainer: Trainer,
    normalizer: Normalizer,
}

/// A piece of text.
pub struct Piece {
    /// The text, with [`BLANK`] for blanks.
    pub text: String,
    /// Logarithm of its probability.
    pub score: f32,
    /// [`TEXT`], [`UNKNOWN`], [`CONTROL`], or what is not read here.
    pub kind: i32,
}

/// Kinds of pieces.
pub const TEXT: i32 = 1;
/// The one of what no other stands for.
pub const UNKNOWN: i32 = 2;
/// Those that steer a model, and are never text.
pub const CONTROL: i32 = 3;
/// Those that no text is cut into.
const UNUSED: i32 = 5;

struct Trainer {
    kind: i32,
}

/// The kind of model that is read here.
const UNIGRAM: i32 = 1;

struct Normalizer {
    map: Vec<u8>,
    adds_prefix: bool,
    trims: bool,
}

impl Default for Piece {
    fn default() -> Self {
        Self { text: String::new(), score: 0.0, kind: TEXT }
    }
}

impl Default for Trainer {
    fn default() -> Self {
        Self { kind: UNIGRAM }
    }
}

impl Default for Normalizer {
    fn default() -> Self {
        Self { map: Vec::new(), adds_prefix: true, trims: true }
    }
}

/// Implements reading of a message from its known fields: what becomes of the value of each.
macro_rules! message {
    ($type:ty, |$message:ident, $reader:ident, $bytes:ident| { $($tag:path => $take:expr,)* }) => {
        impl<'a> MessageRead<'a> for $type {
            fn from_reader($reader: &mut BytesReader, $bytes: &'a [u8]) -> quick_protobuf::Result<Self> {
                let mut $message = Self::default();
                while !$reader.is_eof() {
                    match $reader.next_tag($bytes)? {
                        $($tag => $take,)*
                        tag => $reader.read_unknown($bytes, tag)?,
                    }
                }
                Ok($message)
            }
        }
    };
}

/// The tag of a field of `number` whose value is a number of variable length, of four bytes, or has a length.
const fn varint(number: u32) -> u32 {
    number << 3
}
const fn fixed(number: u32) -> u32 {
    number << 3 | 5
}
const fn lengthy(number: u32) -> u32 {
    number << 3 | 2
}

const PIECES: u32 = lengthy(1);
const TRAINER: u32 = lengthy(2);
const NORMALIZER: u32 = lengthy(3);
const PIECE_TEXT: u32 = lengthy(1);
const PIECE_SCORE: u32 = fixed(2);
const PIECE_KIND: u32 = varint(3);
const TRAINER_KIND: u32 = varint(3);
const NORMALIZER_MAP: u32 = lengthy(2);
const NORMALIZER_PREFIX: u32 = varint(3);
const NORMALIZER_TRIMS: u32 = varint(4);

message!(Piece, |piece, reader, bytes| {
    PIECE_TEXT => piece.text = reader.read_string(bytes)?.to_owned(),
    PIECE_SCORE => piece.score = reader.read_float(bytes)?,
    PIECE_KIND => piece.kind = reader.read_int32(bytes)?,
});
message!(Trainer, |trainer, reader, bytes| {
    TRAINER_KIND => trainer.kind = reader.read_int32(bytes)?,
});
message!(Normalizer, |normalizer, reader, bytes| {
    NORMALIZER_MAP => normalizer.map = reader.read_bytes(bytes)?.to_owned(),
    NORMALIZER_PREFIX => normalizer.adds_prefix = reader.read_bool(bytes)?,
    NORMALIZER_TRIMS => normalizer.trims = reader.read_bool(bytes)?,
});
message!(Model, |model, reader, bytes| {
    PIECES => model.pieces.push(reader.read_message(bytes)?),
    TRAINER => model.trainer = reader.read_message(bytes)?,
    NORMALIZER => model.normalizer = reader.read_message(bytes)?,
});

impl Model {
    /// Reads a model file.
    ///
    /// # Errors
    /// Why it is none that is read here: not Unigram, or with pieces of another kind than text and control.
    pub fn read(file: &[u8]) -> Result<Self, String> {
        let read = || Self::from_reader(&mut BytesReader::from_bytes(file), file);
        let model = caught(|| read().map_err(|e| e.to_string().into()))?;
        if model.trainer.kind != UNIGRAM {
            return Err(format!("its model type {} is not Unigram", model.trainer.kind));
        }
        if !model.normalizer.adds_prefix {
            return Err("it puts no blank before a text".to_owned());
        }
        let is_known = |piece: &&Piece| matches!(piece.kind, TEXT | UNKNOWN | CONTROL | UNUSED);
        if let Some(piece) = model.pieces.iter().find(|piece| !is_known(piece)) {
            return Err(format!("its piece \"{}\" is of a kind that is not supported", piece.text));
        }
        if model.pieces.iter().any(|piece| !piece.score.is_finite()) {
            return Err("it has a score that is no number".to_owned());
        }
        Ok(model)
    }

    /// Its tokenizer, with `pieces` in place of its own.
    ///
    /// # Errors
    /// What the library says.
    pub fn tokenizer(&self, pieces: Vec<(String, f64)>, unknown: usize) -> tokenizers::Result<Tokenizer> {
        let map = Some(&self.normalizer.map[..]).filter(|map| !map.is_empty());
        unigram(pieces, Some(unknown), map, self.normalizer.trims)
    }
}

/// Cuts texts into the likeliest of `pieces`, a text and the logarithm of its probability each. `map` says which
/// characters become others; `trims` that of several blanks one stays, and none at both ends.
///
/// # Errors
/// What the library says.
pub fn unigram(
    pieces: Vec<(String, f64)>,
    unknown: Option<usize>,
    map: Option<&[u8]>,
    trims: bool,
) -> tokenizers::Result<Tokenizer> {
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if let Some(map) = map {
        steps.push(Precompiled::from(map).map_err(|e| e.to_string())?.into());
    }
    if trims {
        steps.push(Strip::new(true, true).into());
        steps.push(Replace::new(ReplacePattern::Regex(" {2,}".to_owned()), " ")?.into());
    }
    let mut tokenizer = Tokenizer::new(ModelWrapper::Unigram(Unigram::from(pieces, unknown, false)?));
    tokenizer.with_normalizer(Some(Sequence::new(steps)))?;
    tokenizer.with_pre_tokenizer(Some(Metaspace::new(BLANK, PrependScheme::Always, true)));
    Ok(tokenizer)
}
