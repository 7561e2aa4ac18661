//! The tokenizer of a Marian as published: SentencePiece's `source.spm` cuts a text into pieces, `vocab.json` has their ids.

use std::collections::HashMap;

use tokenizers::Tokenizer;

use crate::encoder::files::Files;
use crate::encoder::tokenizer::caught;
use crate::sentence_piece::{self, BLANK, Model, TEXT};
use crate::{Error, Result};

/// The pieces' file.
pub const SOURCE: &str = "source.spm";
/// The ids' file.
const IDS: &str = "vocab.json";
/// Most bytes of either.
const MAX_BYTES: u64 = 64 << 20;
/// Most tokens that a vocabulary is believed to have.
const MAX_TOKENS: usize = 1 << 20;
/// The token of what no piece stands for, and the one after each text.
const UNKNOWN: &str = "<unk>";
const END: &str = "</s>";
/// Tokens that write nothing.
const SILENT: [&str; 3] = [UNKNOWN, END, "<pad>"];

/// Pieces of text and their ids.
pub struct Pieces {
    cutter: Tokenizer,
    /// The id of each piece of the cutter.
    ids: Vec<u32>,
    /// The id of each text of the vocabulary.
    known: HashMap<String, u32>,
    /// What each id writes.
    texts: Vec<String>,
    unknown: u32,
    end: u32,
}

impl Pieces {
    /// Reads both files.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`] when one is missing or makes no sense.
    pub fn read(files: &Files<'_>) -> Result<Self> {
        let damaged = |reason: String| files.damaged(SOURCE, reason);
        let model = Model::read(&files.read(SOURCE, MAX_BYTES)?).map_err(damaged)?;
        let vocabulary = files.read(IDS, MAX_BYTES)?;
        let known: HashMap<String, u32> =
            serde_json::from_slice(&vocabulary).map_err(|e| files.damaged(IDS, e.to_string()))?;
        let size = known.values().max().map_or(0, |&id| id as usize + 1);
        if size > MAX_TOKENS {
            return Err(files.damaged(IDS, format!("it has an id of {}", size - 1)));
        }
        let named = |text: &str| {
            let id = known.get(text).copied();
            id.ok_or_else(|| files.damaged(IDS, format!("it has no \"{text}\"")))
        };
        let (unknown, end) = (named(UNKNOWN)?, named(END)?);
        let mut texts = vec![String::new(); size];
        for (text, &id) in known.iter().filter(|(text, _)| !SILENT.contains(&text.as_str())) {
            texts[id as usize].clone_from(text);
        }
        let id_of = |text: &str| known.get(text).copied().unwrap_or(unknown);
        let ids = model.pieces.iter().map(|piece| id_of(&piece.text)).collect();
        let place = model.pieces.iter().position(|piece| piece.kind == sentence_piece::UNKNOWN);
        let place = place.ok_or_else(|| damaged("it has no unknown piece".to_owned()))?;
        // No text of a database holds U+0000: a control piece cannot be spelled.
        let pieces = model.pieces.iter().map(|piece| {
            let text = piece.text.clone();
            (if piece.kind == TEXT { text } else { format!("\0{text}") }, f64::from(piece.score))
        });
        let cutter = caught(|| model.tokenizer(pieces.collect(), place)).map_err(damaged)?;
        Ok(Self { cutter, ids, known, texts, unknown, end })
    }

    /// The token after each text.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// The ids of `text`. What it is to be translated into may stand before it, as `>>fra<<`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the library fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let end = text.starts_with(">>").then(|| text.find("<<")).flatten();
        let (code, text) = text.split_at(end.map_or(0, |at| at + "<<".len()));
        let mut ids = Vec::new();
        if !code.is_empty() {
            ids.push(self.known.get(code).copied().unwrap_or(self.unknown));
        }
        let cut = caught(|| self.cutter.encode_fast(text, false));
        let cut = cut.map_err(|e| Error::InvalidInput(format!("tokenizer: {e}")))?;
        let id = |&piece: &u32| self.ids.get(piece as usize).copied().unwrap_or(self.unknown);
        ids.extend(cut.get_ids().iter().map(id));
        Ok(ids)
    }

    /// The text of `ids`.
    pub fn decode(&self, ids: &[u32]) -> String {
        let texts = ids.iter().filter_map(|&id| self.texts.get(id as usize));
        texts.map(String::as_str).collect::<String>().replace(BLANK, " ").trim().to_owned()
    }
}
