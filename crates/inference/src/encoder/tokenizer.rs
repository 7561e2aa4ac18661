//! Text into token ids.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokenizers::{Encoding, Token};

use super::files::Files;
use crate::{Check, Error, Result};

/// Vocabularies of 250,000 words take about 20 MB.
const MAX_BYTES: u64 = 256 << 20;
/// Longer texts are cut into pieces of about this many bytes where that changes nothing.
const PIECE: usize = 32 << 10;
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
    inner: tokenizers::Tokenizer,
    /// Special tokens before a text's own.
    before: Vec<u32>,
    /// Special tokens after a text's own.
    after: Vec<u32>,
    /// Whether a text may be cut at blanks and between Chinese characters.
    divisible: bool,
}

impl Tokenizer {
    /// Reads `tokenizer.json`. What it says about truncation and padding is ignored: the length that
    /// sentence-transformers uses stands elsewhere, and no text is padded here.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`].
    pub fn read(files: &Files<'_>) -> Result<Self> {
        const FILE: &str = "tokenizer.json";
        let json = files.read(FILE, MAX_BYTES)?;
        let damaged = |reason: String| files.damaged(FILE, reason);
        let mut inner = caught(|| tokenizers::Tokenizer::from_bytes(&json)).map_err(damaged)?;
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
        let divisible = is_divisible(&json, &inner);
        Ok(Self { inner, before, after, divisible })
    }

    /// How many special tokens are put around a text.
    pub fn specials(&self) -> usize {
        self.before.len() + self.after.len()
    }

    /// The ids of `text`, at most `limit` (no fewer than [`Tokenizer::specials`]) of them.
    ///
    /// # Errors
    /// [`Error::Internal`] when the tokenizer fails; what `check` says, which is asked between pieces.
    pub fn encode(&self, text: &str, limit: usize, check: Check<'_>) -> Result<Tokens> {
        let room = limit.saturating_sub(self.specials());
        let mut ids = self.before.clone();
        let mut untruncated = self.specials();
        let mut rest = text;
        loop {
            check()?;
            let (piece, next) = if self.divisible { split_piece(rest) } else { (rest, "") };
            let encoding = caught(|| self.inner.encode_fast(piece, false));
            let encoding = encoding.map_err(|e| Error::Internal(format!("tokenizer: {e}")))?;
            let own = encoding.get_ids();
            let free = (self.before.len() + room).saturating_sub(ids.len());
            ids.extend_from_slice(&own[..own.len().min(free)]);
            untruncated += own.len();
            if next.is_empty() {
                break;
            }
            rest = next;
        }
        ids.extend_from_slice(&self.after);
        Ok(Tokens { ids, untruncated })
    }
}

/// Whether the ids of "a b" are those of "a" and "b": BERT's normaliser works on each character by itself, its
/// pre-tokenizer parts words at white space and around each Chinese character.
fn is_divisible(json: &[u8], tokenizer: &tokenizers::Tokenizer) -> bool {
    #[derive(serde::Deserialize)]
    struct Part {
        r#type: String,
        handle_chinese_chars: Option<bool>,
    }
    #[derive(serde::Deserialize)]
    struct Parts {
        normalizer: Option<Part>,
        pre_tokenizer: Option<Part>,
    }
    let Ok(parts) = serde_json::from_slice::<Parts>(json) else { return false };
    let bert = |part: &Option<Part>, name: &str| part.as_ref().is_some_and(|p| p.r#type == name);
    let chinese = parts.normalizer.as_ref().is_some_and(|n| n.handle_chinese_chars == Some(true));
    let mut added = tokenizer.get_added_tokens_decoder().into_values();
    bert(&parts.normalizer, "BertNormalizer")
        && chinese
        && bert(&parts.pre_tokenizer, "BertPreTokenizer")
        && added.all(|t| !t.content.contains(|c: char| c.is_whitespace() || is_chinese(c)))
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
    let start = text.floor_char_boundary(PIECE);
    let end = text[start..].find(|c| c == ' ' || c == '\n' || is_chinese(c));
    text.split_at(end.map_or(text.len(), |i| start + i))
}

/// Runs code of the tokenizer library, which panics on some malformed files, and makes its failure a text.
fn caught<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> std::result::Result<T, String> {
    // A tokenizer is thrown away when loading it fails, and encoding does not change it beyond its caches.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            Err(text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("panic").to_owned())
        }
    }
}
