//! Text into token ids: by the vocabulary of a prepared image, or by the tokenizers library.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokenizers::utils::truncation::{TruncationParams, TruncationStrategy, truncate_encodings};
use tokenizers::{Encoding, Model, PostProcessor, Token};

use super::config::parse;
use super::files::Files;
use super::table::Table;
use super::unigram::{self, Unigram};
use super::vocabulary;
use super::wordpiece::{self, WordPiece};
use crate::prepared::{Draft, Image, Plan};
use crate::{Check, Error, Result};

/// Vocabularies of 250,000 words take about 20 MB.
const MAX_BYTES: u64 = 256 << 20;
/// Longer texts are cut into pieces of about this many bytes where that changes nothing.
const PIECE: usize = 32 << 10;
/// Longest list of special tokens that is believed.
const MAX_SPECIALS: usize = 64;
/// Most that a normaliser may lengthen a text.
const MAX_GROWTH: f64 = 256.0;
/// Id that no vocabulary holds: it stands for a text's own tokens.
const MARK: u32 = u32::MAX;

/// A text's token ids, ready for the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Special tokens included, cut to the model's window.
    pub ids: Vec<u32>,
    /// How many ids the whole text has, special tokens included.
    pub untruncated: usize,
}

/// A tokenizer without truncation and padding.
pub struct Tokenizer {
    pieces: Pieces,
    frame: Frame,
    /// A token that is left out.
    dropped: Option<u32>,
}

/// What makes the ids of a text.
enum Pieces {
    WordPiece(WordPiece),
    Unigram(Box<Unigram>),
    Library(Box<tokenizers::Tokenizer>),
}

/// What stands around the ids of a text, and where the text may be cut.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Frame {
    /// Special tokens before a text's own.
    before: Vec<u32>,
    /// Special tokens after a text's own.
    after: Vec<u32>,
    /// Whether a text may be cut at blanks and between Chinese characters.
    divisible: bool,
}

/// What a prepared image says of its tokenizer beside the vocabulary.
#[derive(Debug, Serialize, Deserialize)]
pub struct Prepared {
    frame: Frame,
    rules: Rules,
}

/// By which of two ways a text becomes ids.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Rules {
    WordPiece(wordpiece::Rules),
    Unigram(unigram::Rules),
}

/// A vocabulary on its way into an image.
pub enum Vocabulary {
    /// Words and pieces of words.
    WordPiece(Table),
    /// Pieces and their scores.
    Unigram(unigram::Pieces),
}

impl Vocabulary {
    /// Adds its sections.
    pub fn plan(&self, plan: &mut Plan) {
        match self {
            Self::WordPiece(table) => table.plan(plan),
            Self::Unigram(pieces) => pieces.plan(plan),
        }
    }

    /// Fills its sections.
    ///
    /// # Errors
    /// [`Error::Internal`] when they were not planned.
    pub fn fill(&self, draft: &mut Draft) -> Result<()> {
        match self {
            Self::WordPiece(table) => table.fill(draft),
            Self::Unigram(pieces) => pieces.fill(draft),
        }
    }
}

impl Tokenizer {
    /// The tokenizer of a prepared image.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`] when the vocabulary is missing.
    pub fn open(image: &Arc<Image>, prepared: Prepared) -> Result<Self> {
        let Prepared { frame, rules } = prepared;
        let pieces = match rules {
            Rules::WordPiece(rules) => Pieces::WordPiece(WordPiece::open(image, rules)?),
            Rules::Unigram(rules) => Pieces::Unigram(Box::new(Unigram::open(image, rules)?)),
        };
        Ok(Self { pieces, frame, dropped: None })
    }

    /// The same without special tokens around a text, and without those that stand for unknown words.
    pub fn bare(mut self) -> Self {
        self.dropped = match &self.pieces {
            Pieces::WordPiece(words) => Some(words.unknown()),
            Pieces::Unigram(pieces) => Some(pieces.unknown()),
            Pieces::Library(library) => unknown_of(library),
        };
        (self.frame.before, self.frame.after) = (Vec::new(), Vec::new());
        self
    }

    /// What a prepared image keeps of this tokenizer, so that [`Tokenizer::open`] gives the same ids; none when it is
    /// none that can be prepared.
    pub fn prepare(&self) -> Option<(Prepared, Vocabulary)> {
        let Pieces::Library(library) = &self.pieces else { return None };
        let word_piece = || {
            let (rules, table) = wordpiece::Rules::of(library)?;
            Some((Rules::WordPiece(rules), Vocabulary::WordPiece(table)))
        };
        let unigram = || {
            let (rules, pieces) = unigram::Rules::of(library)?;
            Some((Rules::Unigram(rules), Vocabulary::Unigram(pieces)))
        };
        let (rules, vocabulary) = word_piece().or_else(unigram)?;
        Some((Prepared { frame: self.frame.clone(), rules }, vocabulary))
    }

    /// Reads `tokenizer.json` with the library, or without one the vocabulary of a GGUF file. What the file says about
    /// truncation and padding is ignored: the length that
    /// sentence-transformers uses stands elsewhere, and no text is padded here.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`].
    pub fn read(files: &Files<'_>) -> Result<Self> {
        const FILE: &str = "tokenizer.json";
        let damaged = |reason: String| files.damaged(FILE, reason);
        let (mut inner, divisible) = match files.gguf()? {
            Some(gguf) if !files.has(FILE) => vocabulary::tokenizer(&gguf)?,
            _ => {
                let json = files.read(FILE, MAX_BYTES)?;
                let parts: Parts = parse(&json).map_err(damaged)?;
                parts.check().map_err(damaged)?;
                let inner = caught(|| tokenizers::Tokenizer::from_bytes(&json)).map_err(damaged)?;
                let divisible = parts.is_divisible(&inner);
                (inner, divisible)
            }
        };
        caught(|| inner.with_truncation(None).map(|_| ())).map_err(damaged)?;
        inner.with_padding(None);
        // What the post-processor puts around a text is learned from a text of one token.
        let probe = Encoding::from_tokens(vec![Token::new(MARK, String::new(), (0, 0))], 0);
        let probe = caught(|| inner.post_process(probe, None, true)).map_err(damaged)?;
        let mut around = probe.get_ids().split(|&id| id == MARK);
        let (Some(before), Some(after), None) = (around.next(), around.next(), around.next()) else {
            return Err(damaged("its post-processor does not keep a text in one piece".to_owned()));
        };
        let (before, after) = (before.to_vec(), after.to_vec());
        let frame = Frame { before, after, divisible };
        Ok(Self { pieces: Pieces::Library(Box::new(inner)), frame, dropped: None })
    }

    /// How many special tokens are put around a text.
    pub fn specials(&self) -> usize {
        self.frame.before.len() + self.frame.after.len()
    }

    /// The ids of `text`, at most `limit` (no fewer than [`Tokenizer::specials`]) of them.
    ///
    /// # Errors
    /// [`Error::Internal`] when the tokenizer fails; what `check` says, which is asked between pieces.
    pub fn encode(&self, text: &str, limit: usize, check: Check<'_>) -> Result<Tokens> {
        let Frame { before, after, divisible } = &self.frame;
        let last = limit.saturating_sub(after.len());
        let mut ids = before.clone();
        let mut untruncated = after.len();
        let mut rest = text;
        loop {
            check()?;
            let (piece, next) = if *divisible { split_piece(rest) } else { (rest, "") };
            match &self.pieces {
                Pieces::WordPiece(words) => words.encode(piece, &mut ids),
                Pieces::Unigram(pieces) => pieces.encode(piece, &mut ids)?,
                Pieces::Library(library) => {
                    let encoding = caught(|| library.encode_fast(piece, false));
                    let encoding = encoding.map_err(|e| Error::Internal(format!("tokenizer: {e}")))?;
                    ids.extend_from_slice(encoding.get_ids());
                }
            }
            untruncated += ids.len().saturating_sub(last);
            ids.truncate(last);
            if next.is_empty() {
                break;
            }
            rest = next;
        }
        untruncated += ids.len();
        ids.extend_from_slice(after);
        if let Some(dropped) = self.dropped {
            let all = ids.len();
            ids.retain(|&id| id != dropped);
            untruncated -= all - ids.len();
        }
        Ok(Tokens { ids, untruncated })
    }
}

impl Tokenizer {
    /// The ids of a pair of texts and of which part each is, cut to `limit` tokens: the longer text first.
    ///
    /// # Errors
    /// [`Error::Internal`] when the tokenizer fails.
    pub fn encode_pair(&self, first: &str, second: &str, limit: usize) -> Result<(Vec<u32>, Vec<u32>)> {
        let Pieces::Library(library) = &self.pieces else {
            return Err(Error::Internal("a prepared vocabulary knows no pairs".to_owned()));
        };
        let encode = || {
            let encode = |text: &str| library.encode_fast(start_of(text), false);
            let (first, second) = (encode(first)?, encode(second)?);
            let added = library.get_post_processor().map_or(0, |p| p.added_tokens(true));
            let strategy = TruncationStrategy::LongestFirst;
            let params = TruncationParams {
                max_length: limit.saturating_sub(added),
                strategy,
                ..TruncationParams::default()
            };
            let (first, second) = truncate_encodings(first, Some(second), &params)?;
            library.post_process(first, second, true)
        };
        let encoding = caught(encode).map_err(|e| Error::Internal(format!("tokenizer: {e}")))?;
        Ok((encoding.get_ids().to_vec(), encoding.get_type_ids().to_vec()))
    }
}

/// The token of `library` that stands for unknown words: the one that a character of no vocabulary becomes.
pub fn unknown_of(library: &tokenizers::Tokenizer) -> Option<u32> {
    let tokens = caught(|| library.get_model().tokenize(super::known::UNKNOWN)).ok()?;
    if let [token] = &tokens[..] { Some(token.id) } else { None }
}

/// As much of `text` as a pair can hold: no window has so many tokens of so many bytes.
fn start_of(text: &str) -> &str {
    const MOST: usize = 1 << 20;
    if text.len() <= MOST { text } else { &text[..text.floor_char_boundary(MOST)] }
}

/// The parts of `tokenizer.json` around its vocabulary.
#[derive(serde::Deserialize)]
struct Parts {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
}

impl Parts {
    /// Refuses files that make much memory out of few bytes: a normaliser that doubles the text forty times
    /// over, a template of thousands of special tokens.
    fn check(&self) -> std::result::Result<(), String> {
        let growth = growth(&self.normalizer);
        if growth > MAX_GROWTH {
            return Err(format!("its normalizer makes texts up to {growth} times as long"));
        }
        let specials = longest_array(&self.post_processor);
        if specials > MAX_SPECIALS {
            return Err(format!("its post-processor has a list of {specials} entries"));
        }
        Ok(())
    }

    /// Whether the ids of "a b" are those of "a" and "b": BERT's normaliser works on each character by itself,
    /// its pre-tokenizer parts words at white space and around each Chinese character.
    fn is_divisible(&self, tokenizer: &tokenizers::Tokenizer) -> bool {
        let mut added = tokenizer.get_added_tokens_decoder().into_values();
        self.normalizer["type"] == "BertNormalizer"
            && self.normalizer["handle_chinese_chars"] == true
            && self.pre_tokenizer["type"] == "BertPreTokenizer"
            && added.all(|t| !t.content.contains(|c: char| c.is_whitespace() || is_chinese(c)))
    }
}

/// How many times as long a text can get by the replacements in a normaliser.
fn growth(normalizer: &Value) -> f64 {
    match normalizer {
        Value::Array(parts) => parts.iter().map(growth).product(),
        Value::Object(fields) => {
            let own = fields.get("content").or(fields.get("prepend")).and_then(Value::as_str);
            own.map_or(1.0, |text| text.len().max(1) as f64) * fields.values().map(growth).product::<f64>()
        }
        _ => 1.0,
    }
}

/// Entries of the longest array anywhere in `value`.
fn longest_array(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(longest_array).fold(items.len(), usize::max),
        Value::Object(fields) => fields.values().map(longest_array).max().unwrap_or(0),
        _ => 0,
    }
}

/// The main block of Chinese characters, which BERT takes one by one.
fn is_chinese(c: char) -> bool {
    ('\u{4E00}'..='\u{9FFF}').contains(&c)
}

/// Cuts `text` after about [`PIECE`] bytes, before a blank, a line end or a Chinese character.
fn split_piece(text: &str) -> (&str, &str) {
    if text.len() <= PIECE {
        return (text, "");
    }
    let start = (PIECE..text.len()).find(|&i| text.is_char_boundary(i)).unwrap_or(text.len());
    let end = text[start..].find(|c| c == ' ' || c == '\n' || is_chinese(c));
    text.split_at(end.map_or(text.len(), |i| start + i))
}

/// Runs code of the tokenizer library, which panics on some malformed files, and makes its failure a text.
pub fn caught<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> std::result::Result<T, String> {
    // A tokenizer is thrown away when loading it fails, and encoding does not change it beyond its caches.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            Err(text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("panic").to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bert() -> Tokenizer {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/tiny/bert_cls/tokenizer.json");
        let json = std::fs::read(path).unwrap();
        let parts: Parts = parse(&json).unwrap();
        parts.check().unwrap();
        let inner = tokenizers::Tokenizer::from_bytes(&json).unwrap();
        let frame = Frame { before: vec![2], after: vec![3], divisible: parts.is_divisible(&inner) };
        Tokenizer { pieces: Pieces::Library(Box::new(inner)), frame, dropped: None }
    }

    #[test]
    fn a_text_in_pieces_has_the_ids_of_the_whole() {
        let pieces = bert();
        assert!(pieces.frame.divisible);
        let mut whole = bert();
        whole.frame.divisible = false;
        let words = [
            "naïve",
            "[SEP]",
            "PostgreSQL",
            " \u{301}",
            "e\u{301}",
            "\t",
            "石英砂",
            "，",
            "[MASK]",
            "🦀",
            "\n",
            "x",
        ];
        for seed in 0..4usize {
            let mut text = String::new();
            for i in 0..30_000 {
                text.push_str(words[(i * i + seed * i + (i >> 3)) % words.len()]);
                text.push_str(if (i + seed) % 5 == 0 { "" } else { " " });
            }
            assert!(text.len() > 3 * PIECE);
            let mut checks = 0;
            let got = pieces
                .encode(&text, usize::MAX, &mut || {
                    checks += 1;
                    Ok(())
                })
                .unwrap();
            assert!(checks > 3);
            assert_eq!(got, whole.encode(&text, usize::MAX, &mut || Ok(())).unwrap());
            let cut = pieces.encode(&text, 50, &mut || Ok(())).unwrap();
            assert_eq!((cut.ids.len(), cut.untruncated), (50, got.untruncated));
            assert_eq!((&cut.ids[..49], cut.ids[49]), (&got.ids[..49], 3));
        }
    }

    #[test]
    fn a_check_stops_a_long_text() {
        let text = "word ".repeat(PIECE);
        let mut asked = 0;
        let stopped = bert().encode(&text, 50, &mut || {
            asked += 1;
            if asked < 3 { Ok(()) } else { Err(Error::Interrupted) }
        });
        assert!(matches!(stopped, Err(Error::Interrupted)));
    }

    #[test]
    fn a_panic_of_the_library_is_an_error() {
        let got = caught(|| -> tokenizers::Result<()> { panic!("number {}", 7) });
        assert_eq!(got, Err("number 7".to_owned()));
    }
}
