//! Text to tokens and back: words, then byte-level BPE over the tables of an image.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::tokenizer::pattern::Pattern;
use tokenizers::utils::SysRegex;

use super::vocabulary::{CONTROL, Tables, USER_DEFINED, VocabularyMeta};
use crate::{Error, Result};

/// How Qwen2 splits text into words before BPE (its published tokenizer configuration).
const QWEN2_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The tokenizer of a model.
pub struct Tokenizer {
    tables: Tables,
    words: SysRegex,
    meta: VocabularyMeta,
    /// Control and user-defined tokens, and their ids.
    special: Finder,
    /// User-defined tokens only.
    added: Finder,
}

/// Finds tokens that are whole strings, the longest at each place.
struct Finder {
    search: Option<AhoCorasick>,
    ids: Vec<u32>,
}

impl Finder {
    fn new(tables: &Tables, kinds: &[u8]) -> Result<Self> {
        let wanted = |id: u32| kinds.contains(&tables.kinds[id as usize]) && !tables.text(id).is_empty();
        let ids: Vec<u32> = (0..tables.kinds.len() as u32).filter(|&id| wanted(id)).collect();
        if ids.is_empty() {
            return Ok(Self { search: None, ids });
        }
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(ids.iter().map(|&id| tables.text(id)))
            .map_err(|e| Error::Internal(e.to_string()))?;
        Ok(Self { search: Some(search), ids })
    }

    /// Start, end and id of every token in `text`.
    fn find(&self, text: &str) -> Vec<(usize, usize, u32)> {
        let all = self.search.iter().flat_map(|search| search.find_iter(text));
        let found = all.map(|m| (m.start(), m.end(), self.ids[m.pattern().as_usize()]));
        // The text of a token in a damaged file need not be whole characters.
        found.filter(|&(start, end, _)| text.is_char_boundary(start) && text.is_char_boundary(end)).collect()
    }
}

impl Tokenizer {
    /// The tokenizer over `tables`.
    ///
    /// # Errors
    /// `Internal` when the library cannot search for the special tokens.
    pub fn new(tables: Tables, meta: VocabularyMeta) -> Result<Self> {
        let words = SysRegex::new(QWEN2_WORDS).map_err(|e| Error::Internal(e.to_string()))?;
        let special = Finder::new(&tables, &[CONTROL, USER_DEFINED])?;
        let added = Finder::new(&tables, &[USER_DEFINED])?;
        Ok(Self { tables, words, meta, special, added })
    }

    /// Tokens that end an answer.
    pub fn ends(&self) -> &[u32] {
        &self.meta.ends
    }

    /// What each token writes: nothing for control tokens.
    pub fn words(&self) -> Vec<Vec<u8>> {
        let kinds = self.tables.kinds.iter().zip(0..);
        kinds
            .map(|(&kind, id)| if kind == CONTROL { Vec::new() } else { self.tables.text(id).to_vec() })
            .collect()
    }

    /// Whether `id` ends an answer.
    pub fn is_end(&self, id: u32) -> bool {
        self.meta.ends.contains(&id)
    }

    /// The token that begins every prompt, if the model wants one.
    pub fn begin(&self) -> Option<u32> {
        self.meta.begin
    }

    /// Ids of `text`. With `special`, texts of control tokens become these tokens; without, they are plain text.
    /// User-defined tokens are found in both cases, as llama.cpp does.
    ///
    /// # Errors
    /// `InvalidInput` when the text cannot be split into words.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        self.encode_without(text, special, None)
    }

    /// As [`Tokenizer::encode`], leaving every `hidden` character out after the special tokens have been found.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_without(&self, text: &str, special: bool, hidden: Option<char>) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        let mut from = 0;
        for (start, end, id) in if special { self.special.find(text) } else { self.added.find(text) } {
            self.encode_plain(&text[from..start], hidden, &mut ids)?;
            ids.push(id);
            from = end;
        }
        self.encode_plain(&text[from..], hidden, &mut ids)?;
        Ok(ids)
    }

    fn encode_plain(&self, text: &str, hidden: Option<char>, ids: &mut Vec<u32>) -> Result<()> {
        if let Some(hidden) = hidden.filter(|&c| text.contains(c)) {
            ids.extend(self.encode(&text.replace(hidden, ""), false)?);
        } else if !text.is_empty() {
            let words = (&self.words).find_matches(text).map_err(|e| Error::InvalidInput(e.to_string()))?;
            for ((start, end), _) in words {
                self.encode_word(&text.as_bytes()[start..end], ids);
            }
        }
        Ok(())
    }

    /// Merges neighbours, the pair of the lowest rank first and of equal ones the first (Sennrich et al. 2016).
    fn encode_word(&self, word: &[u8], ids: &mut Vec<u32>) {
        // Each place holds a token, or nothing once it was merged into the one before; `next` skips those.
        let mut tokens: Vec<Option<u32>> = word.iter().map(|&byte| Some(self.tables.letter(byte))).collect();
        let end = tokens.len();
        let mut next: Vec<usize> = (1..=end).collect();
        let mut before: Vec<usize> = (0..end).map(|i| i.wrapping_sub(1)).collect();
        let mut queue = BinaryHeap::new();
        let propose = |tokens: &[Option<u32>], left: usize, right: usize, queue: &mut BinaryHeap<_>| {
            if let (Some(Some(a)), Some(Some(b))) = (tokens.get(left), tokens.get(right))
                && let Some(merge) = self.tables.merge(*a, *b)
            {
                queue.push(Reverse((merge.rank, left, *a, *b, merge.id)));
            }
        };
        (1..end).for_each(|right| propose(&tokens, right - 1, right, &mut queue));
        while let Some(Reverse((_, left, a, b, id))) = queue.pop() {
            let right = next[left];
            // A place of the pair may have changed since it was proposed.
            if tokens[left] != Some(a) || tokens.get(right) != Some(&Some(b)) {
                continue;
            }
            tokens[left] = Some(id);
            tokens[right] = None;
            next[left] = next[right];
            if let Some(before) = before.get_mut(next[left]) {
                *before = left;
            }
            propose(&tokens, before[left], left, &mut queue);
            propose(&tokens, left, next[left], &mut queue);
        }
        ids.extend(tokens.into_iter().flatten());
    }

    /// Start and end of the control tokens' texts in `text`.
    pub fn find_control(&self, text: &str) -> Vec<(usize, usize)> {
        let all = self.special.find(text).into_iter();
        all.filter(|(.., id)| self.tables.kinds[*id as usize] == CONTROL).map(|(a, b, _)| (a, b)).collect()
    }

    /// Appends the bytes of token `id`; control tokens have none.
    pub fn decode(&self, id: u32, out: &mut Vec<u8>) {
        if self.tables.kinds.get(id as usize).is_some_and(|&kind| kind != CONTROL) {
            out.extend_from_slice(self.tables.text(id));
        }
    }
}
