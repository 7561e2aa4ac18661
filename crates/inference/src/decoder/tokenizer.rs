//! The tokenizer of a GGUF file: byte-level BPE with the file's vocabulary and merges.

use std::collections::HashMap;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{PreTokenizerWrapper, Tokenizer as Engine};

use aho_corasick::{AhoCorasick, MatchKind};

use super::gguf::Gguf;
use crate::{Error, Result};

/// How Qwen2 splits text into words before BPE (its published tokenizer configuration).
const QWEN2_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// `tokenizer.ggml.token_type` of tokens that steer the model and are never text.
const CONTROL: u32 = 3;
/// `tokenizer.ggml.token_type` of whole words added to the vocabulary.
const USER_DEFINED: u32 = 4;

/// Names of tokens that end an answer, and are control tokens, whatever the metadata says.
const ENDS: [&str; 7] =
    ["<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end|>", "<|end_of_text|>", "</s>", "<end_of_turn>"];

/// The tokenizer of a GGUF file.
pub struct Tokenizer {
    engine: Engine,
    /// Texts of all tokens; those of ordinary tokens in the byte-level alphabet.
    texts: Vec<String>,
    kinds: Vec<u32>,
    /// Control and user-defined tokens, and their ids.
    special: Finder,
    /// User-defined tokens only.
    words: Finder,
    ends: Vec<u32>,
    bytes: HashMap<char, u8>,
    begin: Option<u32>,
}

/// Finds tokens that are whole strings, the longest at each place.
struct Finder {
    search: Option<AhoCorasick>,
    ids: Vec<u32>,
}

impl Finder {
    fn new(tokens: Vec<(&str, u32)>) -> Result<Self> {
        if tokens.is_empty() {
            return Ok(Self { search: None, ids: Vec::new() });
        }
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(tokens.iter().map(|(text, _)| text))
            .map_err(|e| Error::Internal(e.to_string()))?;
        Ok(Self { search: Some(search), ids: tokens.iter().map(|&(_, id)| id).collect() })
    }

    /// Start, end and id of every token in `text`.
    fn find(&self, text: &str) -> Vec<(usize, usize, u32)> {
        let all = self.search.iter().flat_map(|search| search.find_iter(text));
        all.map(|m| (m.start(), m.end(), self.ids[m.pattern().as_usize()])).collect()
    }
}

impl Tokenizer {
    /// The tokenizer of `gguf`, for a model of `vocabulary` tokens.
    ///
    /// # Errors
    /// `Damaged` when the vocabulary is missing, inconsistent, or of another kind than byte-level BPE.
    pub fn load(gguf: &Gguf, vocabulary: usize) -> Result<Self> {
        let kind = gguf.text("tokenizer.ggml.model").unwrap_or("none");
        let words = gguf.text("tokenizer.ggml.pre").unwrap_or("default");
        if kind != "gpt2" || words != "qwen2" {
            return Err(gguf.damaged(format!("its tokenizer \"{kind}\", \"{words}\" is not supported")));
        }
        let texts = gguf
            .texts("tokenizer.ggml.tokens")
            .filter(|texts| texts.len() == vocabulary)
            .ok_or_else(|| gguf.damaged(format!("it does not name its {vocabulary} tokens")))?;
        let mut kinds = gguf.integers("tokenizer.ggml.token_type").unwrap_or_default();
        kinds.resize(texts.len(), 1);
        let mut ends = Vec::new();
        for ((text, kind), id) in texts.iter().zip(&mut kinds).zip(0..) {
            if ENDS.contains(&text.as_str()) {
                *kind = CONTROL;
                ends.push(id);
            }
        }
        let vocab: Vocab = texts.iter().zip(0..).map(|(text, id)| (text.clone(), id)).collect();
        let bytes = byte_alphabet();
        if let Some(c) = bytes.keys().find(|c| !vocab.contains_key(&c.to_string())) {
            return Err(gguf.damaged(format!("its vocabulary lacks the byte \"{c}\"")));
        }
        let merges = gguf.texts("tokenizer.ggml.merges").unwrap_or_default();
        let mut pairs = Vec::with_capacity(merges.len());
        for merge in merges {
            // The library trusts that parts and whole are in the vocabulary.
            let pair = merge
                .split_once(' ')
                .filter(|(a, b)| [*a, *b, &format!("{a}{b}")].iter().all(|text| vocab.contains_key(*text)));
            let Some((a, b)) = pair else {
                return Err(gguf.damaged(format!("the merge \"{merge}\" is not in its vocabulary")));
            };
            pairs.push((a.to_owned(), b.to_owned()));
        }
        let internal = |e: tokenizers::Error| Error::Internal(e.to_string());
        let bpe = BPE::builder().vocab_and_merges(vocab, pairs).build().map_err(internal)?;
        let mut engine = Engine::new(bpe);
        let split =
            Split::new(SplitPattern::Regex(QWEN2_WORDS.to_owned()), SplitDelimiterBehavior::Isolated, false);
        engine.with_pre_tokenizer(Some(Sequence::new(vec![
            PreTokenizerWrapper::Split(split.map_err(internal)?),
            PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, false)),
        ])));
        let of_kind = |wanted: &[u32]| -> Result<Finder> {
            let tokens = texts.iter().zip(&kinds).zip(0..);
            Finder::new(
                tokens
                    .filter(|((text, kind), _)| wanted.contains(kind) && !text.is_empty())
                    .map(|((text, _), id)| (text.as_str(), id))
                    .collect(),
            )
        };
        let id = |key: &str| {
            let id = gguf.integer(&format!("tokenizer.ggml.{key}_token_id"))?;
            u32::try_from(id).ok().filter(|&id| (id as usize) < texts.len())
        };
        ends.extend(["eos", "eot"].iter().filter_map(|key| id(key)));
        let begin = id("bos").filter(|_| gguf.flag("tokenizer.ggml.add_bos_token").unwrap_or(false));
        let (special, words) = (of_kind(&[CONTROL, USER_DEFINED])?, of_kind(&[USER_DEFINED])?);
        Ok(Self { engine, special, words, ends, bytes, begin, texts, kinds })
    }

    /// Whether `id` ends an answer.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }

    /// The token that begins every prompt, if the model wants one.
    pub fn begin(&self) -> Option<u32> {
        self.begin
    }

    /// The text of the token whose id `key` (`bos`, `eos`) gives in the metadata of `gguf`.
    pub fn named<'a>(&'a self, gguf: &Gguf, key: &str) -> Option<&'a str> {
        let id = gguf.integer(&format!("tokenizer.ggml.{key}_token_id"))?;
        self.texts.get(usize::try_from(id).ok()?).map(String::as_str)
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
        for (start, end, id) in if special { self.special.find(text) } else { self.words.find(text) } {
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
            let encoding = self.engine.encode_fast(text, false);
            ids.extend(encoding.map_err(|e| Error::InvalidInput(e.to_string()))?.get_ids());
        }
        Ok(())
    }

    /// Start and end of the control tokens' texts in `text`.
    pub fn find_control(&self, text: &str) -> Vec<(usize, usize)> {
        let all = self.special.find(text).into_iter();
        all.filter(|(.., id)| self.kinds[*id as usize] == CONTROL).map(|(a, b, _)| (a, b)).collect()
    }

    /// Appends the bytes of token `id`; control tokens have none.
    pub fn decode(&self, id: u32, out: &mut Vec<u8>) {
        let (Some(text), Some(&kind)) = (self.texts.get(id as usize), self.kinds.get(id as usize)) else {
            return;
        };
        match kind {
            CONTROL => {}
            USER_DEFINED => out.extend_from_slice(text.as_bytes()),
            _ => {
                for c in text.chars() {
                    match self.bytes.get(&c) {
                        Some(&byte) => out.push(byte),
                        None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    }
                }
            }
        }
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
