//! `generate`: text from a decoder.

use std::time::{Duration, Instant};

use pg_answer_inference::constraint::Constraint;
use pg_answer_inference::decoder::{GenerateOptions, Generation, Message, Prompt, Sampling};
use pg_answer_inference::language::{RewriteOptions, Rewriter};
use pg_answer_inference::{LanguageModel, Result};
use pg_answer_models::Kind;
use pgrx::prelude::*;
use pgrx::{Array, PgSqlErrorCode as Code};
use serde_json::Value;

use crate::error::{OrRaise, Report, required};
use crate::model::{self, Run, check, with_decoder, with_rewriter};
use crate::settings;

/// What a caller may choose about a generation.
#[derive(Clone)]
pub struct Choices {
    /// Most tokens of the answer.
    pub max_tokens: i32,
    /// 0 takes the likeliest token each time.
    pub temperature: f64,
    /// Share of probability that sampling chooses from.
    pub top_p: f64,
    /// Start of the random numbers; random when absent.
    pub seed: Option<i64>,
    /// Strings that end the answer before they appear in it.
    pub stop: Vec<String>,
}

impl Choices {
    pub(crate) fn options(self) -> GenerateOptions {
        let max_tokens = usize::try_from(self.max_tokens).ok().filter(|n| *n > 0).unwrap_or_else(|| {
            Report::new(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("max_tokens must be at least 1, not {}", self.max_tokens),
            )
            .raise()
        });
        GenerateOptions {
            max_tokens,
            sampling: Sampling {
                temperature: self.temperature,
                top_p: self.top_p,
                seed: self.seed.map_or_else(random_seed, i64::cast_unsigned),
                ..Sampling::default()
            },
            stop: self.stop,
            draft: true,
            max_memory: settings::max_memory(),
        }
    }
}

/// A seed that differs from call to call.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn generate(
    prompt: Option<&str>,
    model: Option<&str>,
    system: Option<&str>,
    max_tokens: Option<i32>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    seed: Option<i64>,
    stop: Option<Array<&str>>,
    top_k: Option<i32>,
    min_p: Option<f64>,
    repetition_penalty: Option<f64>,
) -> Option<String> {
    let prompt = prompt?;
    required!(max_tokens, temperature, top_p, top_k, min_p, repetition_penalty);
    let stop = stop.map_or_else(Vec::new, |s| s.iter().flatten().map(str::to_owned).collect());
    let mut options = Choices { max_tokens, temperature, top_p, seed, stop }.options();
    options.sampling.top_k = usize::try_from(top_k).unwrap_or_else(|_| {
        let message = format!("top_k must be at least 0, not {top_k}");
        Report::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, message).raise()
    });
    (options.sampling.min_p, options.sampling.repetition_penalty) = (min_p, repetition_penalty);
    let name = model.map_or_else(settings::generation_model, str::to_owned);
    if model::kind(&name).or_raise() == Kind::EncoderDecoder {
        let options = RewriteOptions {
            max_tokens: options.max_tokens,
            beams: None,
            sampling: options.sampling,
            stop: options.stop,
            forced: true,
        };
        // Instructions stand before the text, as the family's own prefixes do.
        let text = system.map_or_else(|| prompt.to_owned(), |system| format!("{system}{prompt}"));
        return Some(rewrite(&name, |_| Ok(text), &options));
    }
    let message = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
    let mut messages: Vec<Message> = system.map(|s| message("system", s)).into_iter().collect();
    messages.push(message("user", prompt));
    let prompt = |model: &LanguageModel| match model.can_chat() || system.is_some() {
        true => model.render_chat(&messages),
        // Without a chat template a model only continues texts.
        false => model.plain_prompt(prompt),
    };
    Some(write(&name, prompt, None, &options).generation.text)
}

/// What the encoder-decoder `name` writes about the text that `text` makes, given the model's own task prefixes.
pub fn rewrite(
    name: &str,
    text: impl FnOnce(&Rewriter) -> Result<String>,
    options: &RewriteOptions,
) -> String {
    with_rewriter(name, |rewriter, pool| {
        let text = text(rewriter)?;
        let run = Run::begin(name, 1, rewriter.count_tokens(&text)?, 0);
        let rewritten = rewriter.rewrite(&text, options, pool, &mut check)?;
        run.succeeded(rewritten.ids.len());
        Ok(rewritten.text)
    })
    .or_raise()
}

/// What a model wrote.
pub struct Written {
    pub generation: Generation,
    /// Time until the first piece of it.
    pub first: Duration,
}

/// The reply of the model `name` to a conversation, with what it took.
pub fn converse(messages: &[Message], name: &str, choices: Choices) -> Written {
    reply(name, |model| model.render_chat(messages), choices)
}

/// The reply of the model `name` to the prompt that `prompt` makes, with what it took.
pub fn reply(name: &str, prompt: impl FnOnce(&LanguageModel) -> Result<Prompt>, choices: Choices) -> Written {
    write(name, prompt, None, &choices.options())
}

/// The same in JSON that is valid against `schema`, unless `max_tokens` cut it.
pub fn converse_json(messages: &[Message], schema: &Value, name: &str, choices: Choices) -> Written {
    write(name, |model| model.ask(messages), Some(schema), &choices.options())
}

/// What the model `name` writes after `prompt`, JSON where there is a `schema`.
fn write(
    name: &str,
    prompt: impl FnOnce(&LanguageModel) -> Result<Prompt>,
    schema: Option<&Value>,
    options: &GenerateOptions,
) -> Written {
    let began = Instant::now();
    let mut first = None;
    let generation = with_decoder(name, |decoder, pool| {
        let prompt = prompt(&*decoder)?;
        let mut json = schema.map(|schema| decoder.json(schema, &mut check)).transpose()?;
        let constraint = json.as_mut().map(|json| json as &mut dyn Constraint);
        let run = Run::begin(name, 1, prompt.ids.len(), 0);
        let mut on_piece = |_: &str| {
            first.get_or_insert_with(|| began.elapsed());
            Ok(())
        };
        let generation =
            decoder.generate_within(&prompt, options, constraint, pool, &mut check, &mut on_piece)?;
        run.succeeded(generation.ids.len());
        Ok(generation)
    });
    let generation = generation.or_raise();
    Written { generation, first: first.unwrap_or_else(|| began.elapsed()) }
}
