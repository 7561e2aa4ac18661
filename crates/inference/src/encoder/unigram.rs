//! SentencePiece's Unigram (Kudo 2018) on a vocabulary that lies in the prepared image: a text becomes its likeliest pieces.
//!
//! How a text is normalised and parted before, the tokenizers library says; building its own vocabulary of 250,000 pieces
//! takes it most of a second in each session. Its ids are the reference in the tests.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokenizers::{ModelWrapper, OffsetReferential, OffsetType, PreTokenizer, Tokenizer};

use super::table::{EMPTY, Table, Words, hash};
use super::tokenizer::{caught, unknown_of};
use crate::prepared::{Draft, Image, Plan, View};
use crate::{Error, Result};

const SCORES: &str = "tokenizer.scores";
/// An unknown character is less likely than every piece by this much (SentencePiece's kUnkPenalty).
const PENALTY: f64 = 10.0;

/// What must be known beside the vocabulary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// A `tokenizer.json` that knows the tokens that are found in the text itself, and no others.
    parts: Value,
    /// Id of what no piece stands for.
    unknown: u32,
    /// Bytes of the longest piece.
    longest: usize,
    /// The score of an unknown character.
    penalty: f64,
}

/// A vocabulary on its way into an image.
pub struct Pieces {
    table: Table,
    /// Of each id.
    scores: Vec<f64>,
}

/// A vocabulary in an image.
pub struct Unigram {
    rules: Rules,
    parts: Tokenizer,
    words: Words,
    scores: View<f64>,
}

/// The likeliest way to the end of a piece.
#[derive(Clone, Copy)]
struct Node {
    score: f64,
    /// Where its last piece begins; none while no way leads here.
    start: Option<usize>,
    id: u32,
}

impl Rules {
    /// The rules and the vocabulary of `tokenizer`; none when it works in another way than this.
    pub fn of(tokenizer: &Tokenizer) -> Option<(Self, Pieces)> {
        let ModelWrapper::Unigram(model) = tokenizer.get_model() else { return None };
        if model.byte_fallback() {
            return None;
        }
        let unknown = unknown_of(tokenizer)?;
        let scores: Vec<f64> = model.iter().map(|(_, score)| *score).collect();
        let least = scores.iter().copied().fold(f64::INFINITY, f64::min);
        let longest = model.iter().map(|(piece, _)| piece.len()).max()?;
        let table = Table::new(tokenizer.get_vocab(false))?;
        let mut ids = Map::new();
        let mut added: Vec<(u32, Value)> = Vec::new();
        for (id, token) in tokenizer.get_added_tokens_decoder() {
            ids.insert(token.content.clone(), id.into());
            let mut entry = serde_json::to_value(&token).ok()?;
            entry["id"] = id.into();
            added.push((id, entry));
        }
        added.sort_by_key(|(id, _)| *id);
        let parts = json!({
            "version": "1.0",
            "added_tokens": added.into_iter().map(|(_, entry)| entry).collect::<Vec<_>>(),
            "normalizer": serde_json::to_value(tokenizer.get_normalizer()).ok()?,
            "pre_tokenizer": serde_json::to_value(tokenizer.get_pre_tokenizer()).ok()?,
            "model": { "type": "WordLevel", "vocab": ids, "unk_token": "" },
        });
        let rules = Self { parts, unknown, longest, penalty: least - PENALTY };
        Some((rules, Pieces { table, scores }))
    }
}

impl Pieces {
    /// Adds its sections.
    pub fn plan(&self, plan: &mut Plan) {
        self.table.plan(plan);
        plan.section::<f64>(SCORES, self.scores.len());
    }

    /// Fills its sections.
    ///
    /// # Errors
    /// [`Error::Internal`] when they were not planned.
    pub fn fill(&self, draft: &mut Draft) -> Result<()> {
        self.table.fill(draft)?;
        draft.fill(SCORES)?.copy_from_slice(&self.scores);
        Ok(())
    }
}

impl Unigram {
    /// The vocabulary of `image`, which has `rules`.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`] when the image has none.
    pub fn open(image: &Arc<Image>, rules: Rules) -> Result<Self> {
        let parts = caught(|| Tokenizer::from_bytes(rules.parts.to_string()));
        let parts = parts.map_err(|reason| image.damaged(format!("its tokenizer: {reason}")))?;
        Ok(Self { parts, words: Words::open(image)?, scores: image.view_all(SCORES)?, rules })
    }

    /// Id of what no piece stands for.
    pub fn unknown(&self) -> u32 {
        self.rules.unknown
    }

    /// Appends the ids of `text`, without special tokens around them.
    ///
    /// # Errors
    /// [`Error::Internal`] when the library fails.
    pub fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let cut = || {
            let normalizer = self.parts.get_normalizer();
            let mut text = self.parts.get_added_vocabulary().extract_and_normalize(normalizer, text);
            if let Some(cutter) = self.parts.get_pre_tokenizer() {
                cutter.pre_tokenize(&mut text)?;
            }
            Ok(text)
        };
        let text = caught(cut).map_err(|e| Error::Internal(format!("tokenizer: {e}")))?;
        let (mut nodes, mut path) = (Vec::new(), Vec::new());
        for (part, _, found) in text.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            match found {
                Some(tokens) => ids.extend(tokens.iter().map(|token| token.id)),
                None => self.likeliest(part, &mut nodes, &mut path, ids),
            }
        }
        Ok(())
    }

    /// Appends the ids of the likeliest pieces of `text` (Viterbi's way); `nodes` and `path` are room to work in.
    fn likeliest(&self, text: &str, nodes: &mut Vec<Node>, path: &mut Vec<Node>, ids: &mut Vec<u32>) {
        let bytes = text.as_bytes();
        nodes.clear();
        nodes.resize(bytes.len() + 1, Node { score: 0.0, start: None, id: self.rules.unknown });
        for (start, first) in text.char_indices() {
            let before = nodes[start].score;
            let mut reach = |end: usize, id: u32, score: f64| {
                let node = &mut nodes[end];
                if node.start.is_none() || before + score > node.score {
                    *node = Node { score: before + score, start: Some(start), id };
                }
            };
            let single = start + first.len_utf8();
            let mut knows_single = false;
            let mut state = EMPTY;
            for end in start + 1..=bytes.len().min(start.saturating_add(self.rules.longest)) {
                state = hash(state, &bytes[end - 1..end]);
                if !text.is_char_boundary(end) {
                    continue;
                }
                let id = self.words.find(&[], &bytes[start..end], state);
                let score = id.and_then(|id| self.scores.get(id as usize));
                if let (Some(id), Some(&score)) = (id, score) {
                    reach(end, id, score);
                    knows_single |= end == single;
                }
            }
            if !knows_single {
                reach(single, self.rules.unknown, self.rules.penalty);
            }
        }
        path.clear();
        let mut end = bytes.len();
        while let Some(start) = nodes[end].start {
            path.push(nodes[end]);
            end = start;
        }
        // Unknown characters beside each other are one token.
        let mut was_unknown = false;
        for node in path.iter().rev() {
            let is_unknown = node.id == self.rules.unknown;
            if !(is_unknown && was_unknown) {
                ids.push(node.id);
            }
            was_unknown = is_unknown;
        }
    }
}
