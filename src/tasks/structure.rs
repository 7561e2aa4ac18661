//! Answers of a given form: JSON by a schema, and one of some labels.

use pg_answer_inference::decoder::{Message, StopReason};
use pg_answer_inference::encoder::Role;
use pg_answer_models::Kind;
use pg_answer_tasks::{classify, structure};
use pgrx::prelude::*;
use pgrx::{Array, PgSqlErrorCode as Code};
use serde_json::Value;

use super::{messages, weigh};
use crate::embed::embed_text;
use crate::error::{OrRaise, Report, required};
use crate::generate::{Choices, converse_json};
use crate::model;
use crate::settings;

/// JSON valid against `schema`, as text.
#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn pg_answer_json(
    prompt: Option<&str>,
    schema: Option<&str>,
    extracts: Option<bool>,
    system: Option<&str>,
    model: Option<&str>,
    max_tokens: Option<i32>,
    temperature: Option<f64>,
    seed: Option<i64>,
) -> String {
    required!(prompt, schema, extracts, max_tokens, temperature);
    let parsed: Value = serde_json::from_str(schema)
        .map_err(|e| Report::invalid(format!("the schema cannot be read: {e}")))
        .or_raise();
    let turns = structure::turns(prompt, schema, extracts, system);
    let name = model.map_or_else(settings::generation_model, str::to_owned);
    let choices = Choices { max_tokens, temperature, top_p: 1.0, seed, stop: Vec::new() };
    let written = converse_json(&messages(&turns), &parsed, &name, choices).generation;
    if written.stop == StopReason::Length {
        let start: String = written.text.chars().take(80).collect();
        let message = format!("the JSON is not whole after {} tokens", written.ids.len());
        Report::new(Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED, message)
            .detail(format!("It begins with {start}"))
            .hint("Raise max_tokens, or bound strings and arrays in the schema with maxLength and maxItems.")
            .raise();
    }
    written.text
}

/// How probable each of `labels` is for `content`, in their order.
#[pg_extern(sql = false)]
fn pg_answer_label_probabilities(
    content: Option<&str>,
    labels: Option<Array<&str>>,
    instruction: Option<&str>,
    model: Option<&str>,
) -> Vec<Option<f64>> {
    required!(content, labels);
    let labels: Vec<Option<&str>> = labels.iter().collect();
    let present: Vec<&str> = labels.iter().copied().flatten().collect();
    if present.is_empty() {
        Report::invalid("there must be at least one label").raise();
    }
    if present.iter().any(|label| label.trim().is_empty()) {
        Report::invalid("a label must not be empty").raise();
    }
    let name = model.map_or_else(decoder_or_encoder, str::to_owned);
    let scores = match model::kind(&name).or_raise() {
        Kind::Encoder => {
            let content = embed_text(content, &name, Role::Plain);
            present
                .iter()
                .map(|label| classify::nearness(&content, &embed_text(label, &name, Role::Plain)))
                .collect()
        }
        _ => by_words(content, &present, instruction, &name),
    };
    let mut probabilities = classify::probabilities(&scores).into_iter();
    labels.iter().map(|label| label.and_then(|_| probabilities.next())).collect()
}

/// The generation model, or where it is not installed the embedding model.
fn decoder_or_encoder() -> String {
    let name = settings::generation_model();
    if model::is_installed(&name) { name } else { settings::embedding_model() }
}

/// What the decoder `name` says of each label, as far as it is more than it says without the text.
fn by_words(content: &str, labels: &[&str], instruction: Option<&str>, name: &str) -> Vec<f64> {
    let ask = |content: &str| {
        let turns: Vec<Message> = messages(&classify::turns(content, labels, instruction));
        weigh(name, &turns, labels)
    };
    let (with, without) = (ask(content), ask(classify::NOTHING));
    with.iter().zip(&without).map(|(with, without)| with - without).collect()
}
