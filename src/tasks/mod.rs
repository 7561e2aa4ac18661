//! Tasks for language models. What is asked, and what becomes of the answers, is in `crates/tasks`.

mod filter;
mod matching;
mod structure;
mod writing;

use pg_answer_inference::decoder::Message;
use pg_answer_tasks::Turn;

use crate::error::OrRaise;
use crate::model::{Run, check, with_decoder};

fn messages(turns: &[Turn]) -> Vec<Message> {
    turns.iter().map(|t| Message { role: t.role.to_owned(), content: t.content.clone() }).collect()
}

/// For each of `answers` the natural logarithm of the probability that the model `name` replies just so.
fn weigh(name: &str, messages: &[Message], answers: &[&str]) -> Vec<f64> {
    with_decoder(name, |decoder, pool| {
        let prompt = decoder.ask(messages)?;
        let run = Run::begin(name, 1, prompt.ids.len(), 0);
        let weights = decoder.weigh(&prompt, answers, pool, &mut check)?;
        run.succeeded(0);
        Ok(weights)
    })
    .or_raise()
}
