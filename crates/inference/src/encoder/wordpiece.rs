//! BERT's tokenizer on a vocabulary that lies in the prepared image: words become the longest pieces that are known
//! (WordPiece, Schuster and Nakajima 2012).
//!
//! A process that opens a prepared model parses no `tokenizer.json` and holds no vocabulary of its own. The ids are
//! those of the tokenizers library, which is the reference in the tests.

use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use serde::{Deserialize, Serialize};
use tokenizers::{ModelWrapper, NormalizerWrapper, PreTokenizerWrapper};

use super::table::{EMPTY, Table, Words, hash};
use super::words::Cleaning;
use crate::prepared::Image;
use crate::{Error, Result};

/// Most tokens that are found in a text before it is cut into words.
const MAX_ADDED: usize = 64;

/// What must be known beside the vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    cleaning: Cleaning,
    /// Stands before pieces that do not begin a word.
    prefix: String,
    /// Words of more characters are unknown.
    longest: usize,
    /// Id of an unknown word.
    unknown: u32,
    /// Tokens that are found in the text itself, with their ids.
    added: Vec<(String, u32)>,
}

/// A vocabulary in an image.
pub struct WordPiece {
    rules: Rules,
    added: AhoCorasick,
    words: Words,
}

impl Rules {
    /// The rules and the vocabulary of `tokenizer`; none when it works in another way than this.
    pub fn of(tokenizer: &tokenizers::Tokenizer) -> Option<(Self, Table)> {
        let Some(NormalizerWrapper::BertNormalizer(normalizer)) = tokenizer.get_normalizer() else {
            return None;
        };
        let Some(PreTokenizerWrapper::BertPreTokenizer(_)) = tokenizer.get_pre_tokenizer() else {
            return None;
        };
        let ModelWrapper::WordPiece(model) = tokenizer.get_model() else { return None };
        let mut added = Vec::new();
        for (id, token) in tokenizer.get_added_tokens_decoder() {
            if token.normalized
                || token.single_word
                || token.lstrip
                || token.rstrip
                || token.content.is_empty()
            {
                return None;
            }
            added.push((token.content, id));
        }
        if added.len() > MAX_ADDED {
            return None;
        }
        added.sort();
        let vocabulary = tokenizer.get_vocab(false);
        let rules = Self {
            cleaning: Cleaning {
                drop_controls: normalizer.clean_text,
                part_chinese: normalizer.handle_chinese_chars,
                strip_accents: normalizer.strip_accents.unwrap_or(normalizer.lowercase),
                lower_case: normalizer.lowercase,
            },
            prefix: model.continuing_subword_prefix.clone(),
            longest: model.max_input_chars_per_word,
            unknown: *vocabulary.get(&model.unk_token)?,
            added,
        };
        Some((rules, Table::new(vocabulary)?))
    }
}

impl WordPiece {
    /// The vocabulary of `image`, which has `rules`.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`] when the image has none.
    pub fn open(image: &Arc<Image>, rules: Rules) -> Result<Self> {
        let patterns = rules.added.iter().map(|(token, _)| token);
        let added = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(patterns);
        let added = added.map_err(|e| Error::Internal(format!("added tokens: {e}")))?;
        Ok(Self { added, words: Words::open(image)?, rules })
    }

    /// Id of an unknown word.
    pub fn unknown(&self) -> u32 {
        self.rules.unknown
    }

    /// Appends the ids of `text`, without special tokens around them.
    pub fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let mut rest = 0;
        for found in self.added.find_iter(text) {
            self.encode_words(&text[rest..found.start()], ids);
            ids.push(self.rules.added[found.pattern().as_usize()].1);
            rest = found.end();
        }
        self.encode_words(&text[rest..], ids);
    }

    fn encode_words(&self, text: &str, ids: &mut Vec<u32>) {
        let prefix = self.rules.prefix.as_bytes();
        let mut hashes = Vec::new();
        self.rules.cleaning.for_each_word(text, |word| {
            let first = ids.len();
            let short = word.chars().nth(self.rules.longest).is_none();
            if !short || self.split(word.as_bytes(), prefix, &mut hashes, ids).is_none() {
                ids.truncate(first);
                ids.push(self.rules.unknown);
            }
        });
    }

    /// Appends the ids of the longest pieces of `word`, from left to right; none when there is no piece at some place.
    fn split(&self, word: &[u8], prefix: &[u8], hashes: &mut Vec<u32>, ids: &mut Vec<u32>) -> Option<()> {
        let mut rest = word;
        while !rest.is_empty() {
            let prefix = if rest.len() == word.len() { &[] } else { prefix };
            let mut state = hash(EMPTY, prefix);
            hashes.clear();
            hashes.extend(rest.iter().map(|&byte| {
                state = hash(state, &[byte]);
                state
            }));
            let longest = (1..=rest.len()).rev().zip(hashes.iter().rev());
            let (length, id) = longest
                .filter_map(|(n, &hash)| Some((n, self.words.find(prefix, &rest[..n], hash)?)))
                .next()?;
            ids.push(id);
            rest = &rest[length..];
        }
        Some(())
    }
}
