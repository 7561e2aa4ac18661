//! The tokenizer of an encoder from the vocabulary in its GGUF file, by llama.cpp's rules.

use pg_answer_models::Kind;
use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::bert::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::template::TemplateProcessing;

use crate::Result;
use crate::decoder::gguf::Gguf;
use crate::families::find_gguf;
use crate::language::vocabulary;
use crate::sentence_piece::{self, BLANK as WORD};

/// `tokenizer.ggml.token_type` of tokens that are never text: the unknown one, and those that steer the model.
const NEVER_TEXT: [u32; 2] = [2, 3];

/// The tokenizer in `gguf`, and whether a text may be cut at blanks.
///
/// # Errors
/// `Damaged` when its vocabulary makes no sense or is of another kind than WordPiece (`bert`), Unigram (`t5`) and those
/// of decoders.
pub fn tokenizer(gguf: &Gguf) -> Result<(Tokenizer, bool)> {
    let damaged = |e: tokenizers::Error| gguf.damaged(e.to_string());
    // Texts of encoders are framed in another way, whatever their vocabulary.
    let family = gguf.text("general.architecture").and_then(find_gguf);
    if family.is_some_and(|family| family.kind() == Kind::Decoder) {
        return Ok((vocabulary::of_embedder(gguf)?, false));
    }
    let texts = gguf.texts("tokenizer.ggml.tokens").unwrap_or_default();
    let id = |key: &str| {
        let id =
            gguf.integer(&format!("tokenizer.ggml.{key}_token_id")).and_then(|id| usize::try_from(id).ok());
        id.filter(|&id| id < texts.len())
    };
    let (mut tokenizer, divisible) = match gguf.text("tokenizer.ggml.model") {
        Some("bert") => (word_piece(&texts, id("unknown")).map_err(damaged)?, true),
        Some("t5") => (unigram(gguf, &texts, id("unknown"))?, false),
        other => {
            let name = other.unwrap_or("none");
            return Err(gguf.damaged(format!("its tokenizer \"{name}\" is not supported in an encoder")));
        }
    };
    let first = id("cls").or_else(|| id("bos"));
    let last = id("seperator").or_else(|| id("separator")).or_else(|| id("eos"));
    let (Some(first), Some(last)) = (first, last) else {
        return Err(gguf.damaged("it does not say how a text begins and ends".to_owned()));
    };
    let frame = |id: usize| (format!("<{id}>"), id as u32);
    let processor = TemplateProcessing::builder()
        .try_single(format!("<{first}> $A <{last}>"))
        .and_then(|builder| {
            builder.special_tokens(vec![frame(first), frame(last)]).build().map_err(|e| e.to_string())
        })
        .map_err(|reason| gguf.damaged(reason))?;
    tokenizer.with_post_processor(Some(processor));
    Ok((tokenizer, divisible))
}

fn word_piece(texts: &[String], unknown: Option<usize>) -> tokenizers::Result<Tokenizer> {
    let vocabulary = texts.iter().zip(0_u32..).map(|(text, id)| {
        let is_special = text.starts_with('[') && text.ends_with(']') && text.len() > 2;
        let word = match text.strip_prefix(WORD) {
            Some(word) => word.to_owned(),
            None if is_special => text.clone(),
            None => format!("##{text}"),
        };
        (word, Value::from(id))
    });
    let unknown = unknown.and_then(|id| texts.get(id)).map_or("[UNK]", String::as_str);
    let model = json!({
        "type": "WordPiece",
        "unk_token": unknown,
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": vocabulary.collect::<Map<String, Value>>(),
    });
    let model: WordPiece = serde_json::from_str(&model.to_string())?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_normalizer(Some(BertNormalizer::new(true, true, Some(true), true)))?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    Ok(tokenizer)
}

fn unigram(gguf: &Gguf, texts: &[String], unknown: Option<usize>) -> Result<Tokenizer> {
    let scores = gguf.floats("tokenizer.ggml.scores").unwrap_or_default();
    if texts.is_empty() || scores.len() != texts.len() || scores.iter().any(|score| !score.is_finite()) {
        return Err(gguf.damaged("it has no score for each token".to_owned()));
    }
    let kinds = gguf.integers("tokenizer.ggml.token_type").unwrap_or_default();
    let piece = |(i, text): (usize, &String)| {
        // No text of a database holds U+0000: a control token cannot be spelled.
        let is_control = kinds.get(i).is_some_and(|kind| NEVER_TEXT.contains(kind));
        (if is_control { format!("\0{text}") } else { text.clone() }, f64::from(scores[i]))
    };
    let pieces = texts.iter().enumerate().map(piece).collect();
    let trims = gguf.flag("tokenizer.ggml.remove_extra_whitespaces").unwrap_or(true);
    let map = gguf.bytes("tokenizer.ggml.precompiled_charsmap");
    sentence_piece::unigram(pieces, unknown, map, trims).map_err(|e| gguf.damaged(e.to_string()))
}
