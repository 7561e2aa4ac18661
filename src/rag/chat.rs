//! Conversations: replies to messages, and questions that stand by themselves.

use pg_answer_inference::decoder;
use pg_answer_rag::{Message, history};
use pgrx::Array;
use pgrx::prelude::*;
use serde_json::Value;

use crate::error::{OrRaise, Report, required};
use crate::generate::{Choices, converse};
use crate::model::with_decoder;
use crate::settings;

/// Tokens of a question, at most.
const QUESTION_TOKENS: i32 = 96;

/// Reads messages from JSON. It comes as text, since `jsonb` holds numbers that [`serde_json::Value`] cannot.
fn read(messages: &str) -> Vec<Message> {
    let wrong = |reason| -> Report {
        let example = r#"[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]"#;
        Report::invalid(reason).hint(format!("Write messages like {example}, the last of them the user's."))
    };
    let json: Value = serde_json::from_str(messages)
        .map_err(|e| wrong(format!("the messages cannot be read: {e}")))
        .or_raise();
    history::read(&json).map_err(wrong).or_raise()
}

/// The newest turns of `messages` that fit into `context_tokens`, by default into the model's window beside `max_tokens`.
fn trim(messages: Vec<Message>, model: &str, context_tokens: Option<i32>, max_tokens: i32) -> Vec<Message> {
    let wanted = context_tokens.map(|wanted| match usize::try_from(wanted) {
        Ok(wanted) if wanted > 0 => wanted,
        _ => Report::invalid(format!("context_tokens must be at least 1, not {wanted}")).raise(),
    });
    with_decoder(model, |decoder, _| {
        let window = decoder.context_length().saturating_sub(usize::try_from(max_tokens).unwrap_or(0));
        history::trim(messages, wanted.unwrap_or(window).min(window), |text| decoder.count_tokens(text))
    })
    .or_raise()
}

fn for_model(messages: Vec<Message>) -> Vec<decoder::Message> {
    let owned = |m: Message| decoder::Message { role: m.role.to_owned(), content: m.content };
    messages.into_iter().map(owned).collect()
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn pg_answer_reply(
    messages: Option<&str>,
    model: Option<&str>,
    max_tokens: Option<i32>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    seed: Option<i64>,
    stop: Option<Array<&str>>,
    context_tokens: Option<i32>,
) -> Option<String> {
    let messages = read(messages?);
    required!(max_tokens, temperature, top_p);
    let model = model.map_or_else(settings::generation_model, str::to_owned);
    let stop = stop.map_or_else(Vec::new, |s| s.iter().flatten().map(str::to_owned).collect());
    let messages = for_model(trim(messages, &model, context_tokens, max_tokens));
    let choices = Choices { max_tokens, temperature, top_p, seed, stop };
    Some(converse(&messages, &model, choices).generation.text)
}

/// The last of `messages`, understandable without the others.
#[pg_extern(sql = false)]
fn pg_answer_standalone(messages: Option<&str>, model: Option<&str>, context_tokens: Option<i32>) -> String {
    required!(messages);
    let model = model.map_or_else(settings::generation_model, str::to_owned);
    let messages = trim(read(messages), &model, context_tokens, QUESTION_TOKENS);
    let written = if messages.len() > 1 {
        let asked = for_model(history::rewriting(&messages));
        let choices = Choices {
            max_tokens: QUESTION_TOKENS,
            temperature: 0.0,
            top_p: 1.0,
            seed: None,
            stop: Vec::new(),
        };
        converse(&asked, &model, choices).generation.text
    } else {
        String::new()
    };
    history::standalone(&written, &messages)
}
