//! The tables of a byte-level BPE vocabulary, as sections of an image: read once from a GGUF file, then mapped.

use std::collections::HashMap;
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};

use super::gguf::Gguf;
use crate::Result;
use crate::prepared::{Draft, Image, Plan, View};

/// `tokenizer.ggml.token_type` of tokens that steer the model and are never text.
pub const CONTROL: u8 = 3;
/// `tokenizer.ggml.token_type` of whole words added to the vocabulary.
pub const USER_DEFINED: u8 = 4;

/// Names of tokens that end an answer, and are control tokens, whatever the metadata says.
pub const ENDS: [&str; 7] =
    ["<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end|>", "<|end_of_text|>", "</s>", "<end_of_turn>"];

const BYTES: &str = "tokenizer.bytes";
const STARTS: &str = "tokenizer.starts";
const KINDS: &str = "tokenizer.kinds";
const LETTERS: &str = "tokenizer.letters";
const MERGES: &str = "tokenizer.merges";

/// What is known of special tokens.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VocabularyMeta {
    /// Tokens that end an answer.
    pub ends: Vec<u32>,
    /// The token that begins every prompt, if the model wants one.
    pub begin: Option<u32>,
    /// Texts of the tokens for a text's begin and end, for chat templates.
    pub names: [String; 2],
}

/// Two tokens that become one; an empty place of the table has `u32::MAX` as `rank`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Merge {
    /// The token before.
    pub left: u32,
    /// The token after.
    pub right: u32,
    /// The pair with the lowest rank is merged first.
    pub rank: u32,
    /// What they become.
    pub id: u32,
}

impl Merge {
    const NONE: Self = Self { left: 0, right: 0, rank: u32::MAX, id: 0 };
}

/// A vocabulary on its way into an image.
pub struct Vocabulary {
    /// Its special tokens.
    pub meta: VocabularyMeta,
    /// What each token writes, one after the other; control tokens have their names.
    bytes: Vec<u8>,
    starts: Vec<u32>,
    kinds: Vec<u8>,
    /// The tokens of single bytes.
    letters: Vec<u32>,
    merges: Vec<Merge>,
}

/// Where a pair is looked for first in a table of `length` places, a power of two.
fn place(left: u32, right: u32, length: usize) -> usize {
    let both = u64::from(left) << 32 | u64::from(right);
    (both.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize & (length - 1)
}

impl Vocabulary {
    /// The vocabulary of `gguf`, for a model of `size` tokens.
    ///
    /// # Errors
    /// `Damaged` when it is missing, inconsistent, or of another kind than byte-level BPE.
    pub fn read(gguf: &Gguf, size: usize) -> Result<Self> {
        let kind = gguf.text("tokenizer.ggml.model").unwrap_or("none");
        let words = gguf.text("tokenizer.ggml.pre").unwrap_or("default");
        if kind != "gpt2" || words != "qwen2" {
            return Err(gguf.damaged(format!("its tokenizer \"{kind}\", \"{words}\" is not supported")));
        }
        let texts = gguf
            .texts("tokenizer.ggml.tokens")
            .filter(|texts| texts.len() == size)
            .ok_or_else(|| gguf.damaged(format!("it does not name its {size} tokens")))?;
        let kinds = gguf.integers("tokenizer.ggml.token_type").unwrap_or_default();
        let mut kinds: Vec<u8> = kinds.into_iter().map(|kind| u8::try_from(kind).unwrap_or(1)).collect();
        kinds.resize(size, 1);
        let mut ends = Vec::new();
        for ((text, kind), id) in texts.iter().zip(&mut kinds).zip(0..) {
            if ENDS.contains(&text.as_str()) {
                *kind = CONTROL;
                ends.push(id);
            }
        }
        let ids: HashMap<&str, u32> = texts.iter().map(String::as_str).zip(0..).collect();
        let alphabet = byte_alphabet();
        let mut letters = vec![0; 256];
        for (c, byte) in &alphabet {
            letters[usize::from(*byte)] = *ids
                .get(c.to_string().as_str())
                .ok_or_else(|| gguf.damaged(format!("its vocabulary lacks the byte \"{c}\"")))?;
        }
        let merges = merges(gguf, &ids)?;
        let (mut bytes, mut starts) = (Vec::new(), vec![0]);
        for (text, &kind) in texts.iter().zip(&kinds) {
            match kind {
                CONTROL | USER_DEFINED => bytes.extend_from_slice(text.as_bytes()),
                _ => text.chars().for_each(|c| match alphabet.get(&c) {
                    Some(&byte) => bytes.push(byte),
                    None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                }),
            }
            let end = u32::try_from(bytes.len()).map_err(|_| gguf.damaged("its tokens are too long"))?;
            starts.push(end);
        }
        let id = |key: &str| {
            let id = gguf.integer(&format!("tokenizer.ggml.{key}_token_id"))?;
            u32::try_from(id).ok().filter(|&id| (id as usize) < size)
        };
        ends.extend(["eos", "eot"].iter().filter_map(|key| id(key)));
        let begin = id("bos").filter(|_| gguf.flag("tokenizer.ggml.add_bos_token").unwrap_or(false));
        let names =
            ["bos", "eos"].map(|key| id(key).map_or_else(String::new, |id| texts[id as usize].clone()));
        let meta = VocabularyMeta { ends, begin, names };
        Ok(Self { meta, bytes, starts, kinds, letters, merges })
    }

    /// Adds the sections to `plan`.
    pub fn plan(&self, plan: &mut Plan) {
        plan.section::<u8>(BYTES, self.bytes.len());
        plan.section::<u32>(STARTS, self.starts.len());
        plan.section::<u8>(KINDS, self.kinds.len());
        plan.section::<u32>(LETTERS, self.letters.len());
        plan.section::<Merge>(MERGES, self.merges.len());
    }

    /// Fills them.
    ///
    /// # Errors
    /// `Internal` when they are not planned.
    pub fn fill(&self, draft: &mut Draft) -> Result<()> {
        draft.fill::<u8>(BYTES)?.copy_from_slice(&self.bytes);
        draft.fill::<u32>(STARTS)?.copy_from_slice(&self.starts);
        draft.fill::<u8>(KINDS)?.copy_from_slice(&self.kinds);
        draft.fill::<u32>(LETTERS)?.copy_from_slice(&self.letters);
        draft.fill::<Merge>(MERGES)?.copy_from_slice(&self.merges);
        Ok(())
    }
}

/// The file's merges as a hash table, half full at most.
fn merges(gguf: &Gguf, ids: &HashMap<&str, u32>) -> Result<Vec<Merge>> {
    let texts = gguf.texts("tokenizer.ggml.merges").unwrap_or_default();
    let length = (2 * texts.len().max(1)).next_power_of_two();
    let mut table = vec![Merge::NONE; length];
    for (text, rank) in texts.iter().zip(0..) {
        let merge = text.split_once(' ').and_then(|(a, b)| {
            let id = *ids.get(format!("{a}{b}").as_str())?;
            Some(Merge { left: *ids.get(a)?, right: *ids.get(b)?, rank, id })
        });
        let Some(merge) = merge else {
            return Err(gguf.damaged(format!("the merge \"{text}\" is not in its vocabulary")));
        };
        let mut at = place(merge.left, merge.right, length);
        while table[at].rank != u32::MAX && (table[at].left, table[at].right) != (merge.left, merge.right) {
            at = (at + 1) % length;
        }
        table[at] = merge;
    }
    Ok(table)
}

/// The tables in an image.
pub struct Tables {
    bytes: View<u8>,
    starts: View<u32>,
    /// The kind of each token.
    pub kinds: View<u8>,
    letters: View<u32>,
    merges: View<Merge>,
}

impl Tables {
    /// The tables of `image`, for `size` tokens.
    ///
    /// # Errors
    /// `Damaged` when a section is missing or too short.
    pub fn open(image: &Arc<Image>, size: usize) -> Result<Self> {
        let merges = image.view_all::<Merge>(MERGES)?;
        if !merges.len().is_power_of_two() {
            return Err(image.damaged("its table of merges makes no sense".to_owned()));
        }
        Ok(Self {
            bytes: image.view_all(BYTES)?,
            starts: image.view(STARTS, size + 1)?,
            kinds: image.view(KINDS, size)?,
            letters: image.view(LETTERS, 256)?,
            merges,
        })
    }

    /// What token `id` writes; nothing for one that there is not.
    pub fn text(&self, id: u32) -> &[u8] {
        let range = self.starts.get(id as usize).zip(self.starts.get(id as usize + 1));
        range.and_then(|(&start, &end)| self.bytes.get(start as usize..end as usize)).unwrap_or_default()
    }

    /// The token of a single byte.
    pub fn letter(&self, byte: u8) -> u32 {
        self.letters[usize::from(byte)]
    }

    /// How two neighbours merge, if they do.
    pub fn merge(&self, left: u32, right: u32) -> Option<Merge> {
        let table = &self.merges[..];
        let first = place(left, right, table.len());
        let (end, start) = (&table[first..], &table[..first]);
        let found =
            end.iter().chain(start).find(|m| m.rank == u32::MAX || (m.left, m.right) == (left, right));
        found.filter(|m| m.rank != u32::MAX).copied()
    }
}

/// The characters that stand for bytes in GPT-2's vocabulary: printable Latin-1 for itself, the others from
/// U+0100 on.
fn byte_alphabet() -> HashMap<char, u8> {
    let mut next = 0x100;
    (0..=255_u8)
        .map(|byte| {
            if matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF) {
                (char::from(byte), byte)
            } else {
                next += 1;
                (char::from_u32(next - 1).unwrap_or(char::REPLACEMENT_CHARACTER), byte)
            }
        })
        .collect()
}
