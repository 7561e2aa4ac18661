//! `generate`: text from a decoder.

use pg_answer_inference::decoder::{GenerateOptions, Message};
use pgrx::prelude::*;
use pgrx::{Array, PgSqlErrorCode as Code};

use crate::error::{OrRaise, Report};
use crate::model::{Run, check, with_decoder};
use crate::settings;

/// What a caller may choose about a generation.
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
    fn options(self) -> GenerateOptions {
        let max_tokens = usize::try_from(self.max_tokens).ok().filter(|n| *n > 0).unwrap_or_else(|| {
            Report::new(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("max_tokens must be at least 1, not {}", self.max_tokens),
            )
            .raise()
        });
        GenerateOptions {
            max_tokens,
            temperature: self.temperature,
            top_p: self.top_p,
            seed: self.seed.map_or_else(random_seed, i64::cast_unsigned),
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
    max_tokens: i32,
    temperature: f64,
    top_p: f64,
    seed: Option<i64>,
    stop: Option<Array<&str>>,
) -> Option<String> {
    let prompt = prompt?;
    let message = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
    let mut messages: Vec<Message> = system.map(|s| message("system", s)).into_iter().collect();
    messages.push(message("user", prompt));
    let stop = stop.map_or_else(Vec::new, |s| s.iter().flatten().map(str::to_owned).collect());
    Some(reply(&messages, model, Choices { max_tokens, temperature, top_p, seed, stop }))
}

/// The model's reply to a conversation.
pub fn reply(messages: &[Message], model: Option<&str>, choices: Choices) -> String {
    let options = choices.options();
    let name = model.map_or_else(settings::generation_model, str::to_owned);
    with_decoder(&name, |decoder, pool| {
        let prompt = decoder.render_chat(messages)?;
        let run = Run::begin(&name, 1, prompt.ids.len(), 0);
        let generation = decoder.generate(&prompt, &options, pool, &mut check, &mut |_| Ok(()))?;
        run.succeeded(generation.ids.len());
        Ok(generation.text)
    })
    .or_raise()
}
