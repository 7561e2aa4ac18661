//! The tokenizer of a decoder from the vocabulary in its GGUF file, written as the `tokenizer.json` it was made from.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;

use crate::Result;
use crate::decoder::gguf::Gguf;
use crate::decoder::vocabulary::ENDS;
use crate::encoder::tokenizer::caught;

/// `tokenizer.ggml.token_type` of tokens that steer the model, and of whole words added to the vocabulary.
const CONTROL: u32 = 3;
const USER_DEFINED: u32 = 4;

/// How words are split before BPE, by `tokenizer.ggml.pre` (the models' published tokenizer files).
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A tokenizer, and what its file says of special tokens.
pub struct Found {
    /// The tokenizer.
    pub library: Tokenizer,
    /// Texts of the tokens that begin and end a text.
    pub begin: String,
    /// See there.
    pub end: String,
    /// Tokens that end an answer.
    pub ends: Vec<u32>,
}

/// The tokenizer in `gguf`.
///
/// # Errors
/// `Damaged` when its vocabulary makes no sense or is of an unknown kind.
pub fn tokenizer(gguf: &Gguf) -> Result<Found> {
    framed(gguf, false)
}

/// The tokenizer in `gguf`, a decoder that was trained to embed: an embedder of last tokens ends each text with its end
/// token, unless the file says that it does not.
///
/// # Errors
/// As [`tokenizer`].
pub fn of_embedder(gguf: &Gguf) -> Result<Tokenizer> {
    const LAST: u64 = 3;
    let architecture = gguf.text("general.architecture").unwrap_or("unknown");
    let pools_last = gguf.integer(&format!("{architecture}.pooling_type")) == Some(LAST);
    let ends = gguf.flag("tokenizer.ggml.add_eos_token").unwrap_or(pools_last);
    framed(gguf, ends).map(|found| found.library)
}

/// The tokenizer in `gguf`; with the end token after each text if it `ends` one.
fn framed(gguf: &Gguf, ends: bool) -> Result<Found> {
    let texts = gguf.texts("tokenizer.ggml.tokens").unwrap_or_default();
    let kinds = gguf.integers("tokenizer.ggml.token_type").unwrap_or_default();
    let id = |key: &str| {
        let id =
            gguf.integer(&format!("tokenizer.ggml.{key}_token_id")).and_then(|id| usize::try_from(id).ok());
        id.filter(|&id| id < texts.len())
    };
    let name = |key: &str| id(key).map_or_else(String::new, |id| texts[id].clone());
    let added = texts.iter().enumerate().filter_map(|(id, text)| {
        let kind = *kinds.get(id)?;
        (kind == CONTROL || kind == USER_DEFINED).then(|| {
            json!({ "id": id, "content": text, "special": kind == CONTROL, "single_word": false,
                    "lstrip": false, "rstrip": false, "normalized": false })
        })
    });
    let mut json = match gguf.text("tokenizer.ggml.model") {
        Some("gpt2") => byte_level(gguf, &texts)?,
        Some("llama") => sentence_piece(gguf, &texts, id("unknown"))?,
        other => {
            let name = other.unwrap_or("none");
            return Err(gguf.damaged(format!("its tokenizer \"{name}\" is not supported")));
        }
    };
    json["version"] = "1.0".into();
    json["added_tokens"] = added.collect::<Vec<Value>>().into();
    let begins = gguf.flag("tokenizer.ggml.add_bos_token").unwrap_or(json["model"]["byte_fallback"] == true);
    let piece = |key: &str, id: &str| json!({ key: { "id": id, "type_id": 0 } });
    let (mut single, mut special) = (vec![piece("Sequence", "A")], Map::new());
    for (key, is_used) in [("bos", begins), ("eos", ends)] {
        if let Some(id) = id(key).filter(|_| is_used) {
            let place = if key == "bos" { 0 } else { single.len() };
            single.insert(place, piece("SpecialToken", key));
            special.insert(key.to_owned(), json!({ "id": key, "ids": [id], "tokens": [texts[id]] }));
        }
    }
    if !special.is_empty() {
        json["post_processor"] = json!({ "type": "TemplateProcessing", "single": single,
            "pair": [piece("Sequence", "A"), piece("Sequence", "B")], "special_tokens": special });
    }
    let library =
        caught(|| Tokenizer::from_bytes(json.to_string())).map_err(|reason| gguf.damaged(reason))?;
    // A GGUF file names few of the tokens that end an answer: the others are known by their texts.
    let named = texts.iter().zip(0_u32..).filter(|(text, _)| ENDS.contains(&text.as_str())).map(|(_, id)| id);
    let ends = ["eos", "eot"].iter().filter_map(|key| id(key)).map(|id| id as u32).chain(named).collect();
    Ok(Found { library, begin: name("bos"), end: name("eos"), ends })
}

fn vocabulary(texts: &[String]) -> Map<String, Value> {
    texts.iter().cloned().zip((0_u32..).map(Value::from)).collect()
}

/// BPE over bytes, as GPT-2 has it.
fn byte_level(gguf: &Gguf, texts: &[String]) -> Result<Value> {
    let split = match gguf.text("tokenizer.ggml.pre").unwrap_or("gpt-2") {
        "llama-bpe" | "llama3" => Some(LLAMA3),
        "qwen2" => Some(QWEN2),
        "gpt-2" => None,
        other => return Err(gguf.damaged(format!("its way \"{other}\" to split words is not supported"))),
    };
    let bytes = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex });
    let words = match split {
        None => bytes(true),
        Some(regex) => {
            let split = json!({ "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated",
                                "invert": false });
            json!({ "type": "Sequence", "pretokenizers": [split, bytes(false)] })
        }
    };
    Ok(json!({
        "pre_tokenizer": words,
        "decoder": bytes(true),
        "model": { "type": "BPE", "vocab": vocabulary(texts),
                   "merges": gguf.texts("tokenizer.ggml.merges").unwrap_or_default(),
                   "ignore_merges": split == Some(LLAMA3) },
    }))
}

/// SentencePiece's BPE, which merges what makes the piece of the best score.
fn sentence_piece(gguf: &Gguf, texts: &[String], unknown: Option<usize>) -> Result<Value> {
    let scores = gguf.floats("tokenizer.ggml.scores").unwrap_or_default();
    if texts.is_empty() || scores.len() != texts.len() {
        return Err(gguf.damaged("it has no score for each token".to_owned()));
    }
    let ids: HashMap<&str, usize> = texts.iter().map(String::as_str).zip(0..).collect();
    let mut merges = Vec::new();
    for (id, text) in texts.iter().enumerate() {
        for (at, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(at);
            if let (Some(&a), Some(&b)) = (ids.get(left), ids.get(right)) {
                merges.push((scores[id], a, b, left, right));
            }
        }
    }
    merges.sort_by(|x, y| y.0.total_cmp(&x.0).then((x.1, x.2).cmp(&(y.1, y.2))));
    let merges: Vec<Value> = merges.into_iter().map(|(.., left, right)| json!([left, right])).collect();
    let prefixed = gguf.flag("tokenizer.ggml.add_space_prefix").unwrap_or(true);
    let blanks = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
    let back = json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " });
    let mut normalizers = vec![blanks];
    let mut decoders = vec![back, json!({ "type": "ByteFallback" }), json!({ "type": "Fuse" })];
    if prefixed {
        normalizers.insert(0, json!({ "type": "Prepend", "prepend": "▁" }));
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    Ok(json!({
        "normalizer": { "type": "Sequence", "normalizers": normalizers },
        "decoder": { "type": "Sequence", "decoders": decoders },
        "model": { "type": "BPE", "vocab": vocabulary(texts), "merges": merges, "fuse_unk": true,
                   "byte_fallback": true, "unk_token": unknown.map(|id| texts[id].clone()) },
    }))
}
