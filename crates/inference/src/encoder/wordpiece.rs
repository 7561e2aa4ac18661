//! BERT's tokenizer on a vocabulary that lies in the prepared image: words become the longest pieces that are known
//! (WordPiece, Schuster and Nakajima 2012).
//!
//! A process that opens a prepared model parses no `tokenizer.json` and holds no vocabulary of its own. The ids are
//! those of the tokenizers library, which is the reference in the tests.

use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};
use tokenizers::{ModelWrapper, NormalizerWrapper, PreTokenizerWrapper};

use super::words::Cleaning;
use crate::prepared::{Draft, Image, Plan, View};
use crate::{Error, Result};

/// Most tokens that are found in a text before it is cut into words.
const MAX_ADDED: usize = 64;
const WORDS: &str = "tokenizer.words";
const SLOTS: &str = "tokenizer.slots";

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

/// A place of the hash table, which has open addressing. Length 0 means that it is free.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Slot {
    hash: u32,
    id: u32,
    /// Where the word lies in the section of words.
    start: u32,
    length: u32,
}

/// A vocabulary on its way into an image.
pub struct Table {
    rules: Rules,
    words: Vec<u8>,
    slots: Vec<Slot>,
}

/// A vocabulary in an image.
pub struct WordPiece {
    rules: Rules,
    added: AhoCorasick,
    words: View<u8>,
    slots: View<Slot>,
}

impl Table {
    /// The vocabulary and the rules of `tokenizer`; none when it works in another way than this.
    pub fn new(tokenizer: &tokenizers::Tokenizer) -> Option<Self> {
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
        let rules = Rules {
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
        let mut entries: Vec<(String, u32)> =
            vocabulary.into_iter().filter(|(word, _)| !word.is_empty()).collect();
        // An image is the same whenever it is made.
        entries.sort_by(|(a, i), (b, j)| (i, a).cmp(&(j, b)));
        let mut words = Vec::new();
        let mut slots = vec![Slot::zeroed(); (2 * entries.len().max(1)).next_power_of_two()];
        for (word, id) in entries {
            let hash = hash(EMPTY, word.as_bytes());
            let start = u32::try_from(words.len()).ok()?;
            words.extend_from_slice(word.as_bytes());
            let length = u32::try_from(word.len()).ok()?;
            let free = probes(hash, slots.len()).find(|&at| slots[at].length == 0)?;
            slots[free] = Slot { hash, id, start, length };
        }
        Some(Self { rules, words, slots })
    }

    /// What the image says of the tokenizer.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Adds its sections.
    pub fn plan(&self, plan: &mut Plan) {
        plan.section::<u8>(WORDS, self.words.len());
        plan.section::<Slot>(SLOTS, self.slots.len());
    }

    /// Fills its sections.
    ///
    /// # Errors
    /// [`Error::Internal`] when they were not planned.
    pub fn fill(&self, draft: &mut Draft) -> Result<()> {
        draft.fill(WORDS)?.copy_from_slice(&self.words);
        draft.fill(SLOTS)?.copy_from_slice(&self.slots);
        Ok(())
    }
}

impl WordPiece {
    /// The vocabulary of `image`, which has `rules`.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`] when the image has none.
    pub fn open(image: &Arc<Image>, rules: Rules) -> Result<Self> {
        let slots = image.view_all::<Slot>(SLOTS)?;
        if !slots.len().is_power_of_two() {
            return Err(image.damaged(format!("its vocabulary has {} slots", slots.len())));
        }
        let patterns = rules.added.iter().map(|(token, _)| token);
        let added = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(patterns);
        let added = added.map_err(|e| Error::Internal(format!("added tokens: {e}")))?;
        Ok(Self { added, words: image.view_all(WORDS)?, slots, rules })
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
        let table = Vocabulary { words: &self.words, slots: &self.slots };
        let prefix = self.rules.prefix.as_bytes();
        let mut hashes = Vec::new();
        self.rules.cleaning.for_each_word(text, |word| {
            let first = ids.len();
            let short = word.chars().nth(self.rules.longest).is_none();
            if !short || table.split(word.as_bytes(), prefix, &mut hashes, ids).is_none() {
                ids.truncate(first);
                ids.push(self.rules.unknown);
            }
        });
    }
}

#[derive(Clone, Copy)]
struct Vocabulary<'a> {
    words: &'a [u8],
    slots: &'a [Slot],
}

impl Vocabulary<'_> {
    /// Appends the ids of the longest pieces of `word`, from left to right; none when there is no piece at some place.
    fn split(self, word: &[u8], prefix: &[u8], hashes: &mut Vec<u32>, ids: &mut Vec<u32>) -> Option<()> {
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
            let (length, id) =
                longest.filter_map(|(n, &hash)| Some((n, self.find(prefix, &rest[..n], hash)?))).next()?;
            ids.push(id);
            rest = &rest[length..];
        }
        Some(())
    }

    /// The id of the word that is `first` and `second` together and has this hash.
    fn find(self, first: &[u8], second: &[u8], hash: u32) -> Option<u32> {
        // Whatever a damaged table says, this ends, and reads inside of it.
        for at in probes(hash, self.slots.len()) {
            let slot = self.slots[at];
            if slot.length == 0 {
                return None;
            }
            if slot.hash == hash {
                let start = slot.start as usize;
                let word = self.words.get(start..start.saturating_add(slot.length as usize))?;
                if word.strip_prefix(first) == Some(second) {
                    return Some(slot.id);
                }
            }
        }
        None
    }
}

/// FNV-1a, a word in parts: the hash of a word's every beginning is known when that of the word is.
fn hash(state: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(state, |state, &byte| (state ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

const EMPTY: u32 = 0x811c_9dc5;

/// The places of a hash in the order in which they are tried; `slots` is a power of two.
fn probes(hash: u32, slots: usize) -> impl Iterator<Item = usize> {
    // The low bits of FNV depend on few bits of a word.
    let mixed = (hash ^ hash >> 15).wrapping_mul(0x2c1b_3c6d);
    let first = (mixed ^ mixed >> 13) as usize;
    (0..slots).map(move |probe| (first + probe) & (slots - 1))
}
