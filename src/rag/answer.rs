//! Prompts and answers over given passages. Retrieval, refusal by evidence and the templates are SQL: `sql/52_answer.sql`.

use std::time::Instant;

use pg_answer_inference::decoder::{Message, Prompt};
use pg_answer_inference::{LanguageModel, Result};
use pg_answer_rag::refusal::{REFUSAL, refusal};
use pg_answer_rag::{Attempt, Checked, Passage, Prompts, Unsupported, attempts, pack};
use pg_answer_text::language::Language;
use pgrx::prelude::*;
use pgrx::{Array, JsonB};
use serde_json::{Value, json};

use super::arguments::budget;
use crate::error::{OrRaise, Report, required};
use crate::generate::{Choices, Written, reply};
use crate::model::with_decoder;
use crate::settings;
use crate::source::integer;

/// A question with the passages that fit into the model's context.
pub(super) struct Task<'a> {
    query: &'a str,
    pub(super) model: String,
    passages: Vec<Passage>,
}

impl<'a> Task<'a> {
    /// The first of `given` that fit.
    pub(super) fn new(query: &'a str, given: &[Passage], model: Option<&str>, context_tokens: i32) -> Self {
        let budget = budget(context_tokens);
        let model = model.map_or_else(settings::generation_model, str::to_owned);
        let passages = if given.is_empty() {
            Vec::new()
        } else {
            let packed =
                with_decoder(&model, |decoder, _| pack(given, budget, |text| decoder.count_tokens(text)));
            packed.or_raise()
        };
        Self { query, model, passages }
    }

    /// The question by its templates, with `question_first` before the passages as well.
    pub(super) fn asked(&self, system: &str, message: &str, question_first: bool) -> Asked {
        let wrong = |reason: String| -> Report {
            Report::invalid(format!("a prompt template is wrong: {reason}"))
                .hint("See the table pg_answer_prompts.")
        };
        let prompts = Prompts::new(system, message).map_err(wrong).or_raise();
        let language = Language::of(self.query);
        let messages = |query, passages: &[Passage]| {
            let messages = prompts.messages(query, language, passages, question_first)?.into_iter();
            Ok(messages.map(|m| Message { role: m.role.to_owned(), content: m.content }).collect())
        };
        Asked {
            messages: messages(self.query, &self.passages).map_err(wrong).or_raise(),
            // A template that cannot do without passages has nothing that is sure to be in every prompt.
            frame: messages("", &[]).unwrap_or_default(),
        }
    }
}

/// What supports an answer, for SQL: passages by the places that they were given in, from 1.
fn citations(checked: &Checked, passages: &[Passage], places: &[usize]) -> JsonB {
    let citation = |c: &pg_answer_rag::check::Citation| {
        let content = &passages[c.passage].content;
        let start = content[..c.quote.start].chars().count();
        let quote = &content[c.quote.clone()];
        json!({
            "passage": c.passage + 1,
            "place": places[c.passage] + 1,
            "quote": quote,
            "start_char": start,
            "end_char": start + quote.chars().count(),
            "support": c.support,
        })
    };
    JsonB(Value::Array(checked.citations.iter().map(citation).collect()))
}

/// What a model is asked.
pub(super) struct Asked {
    messages: Vec<Message>,
    /// The same without question and passages; empty where the templates do not allow that.
    frame: Vec<Message>,
}

impl Asked {
    /// As the model reads it.
    pub(super) fn prompt(&self, model: &LanguageModel) -> Result<Prompt> {
        let prompt = model.render_chat(&self.messages)?;
        if self.frame.is_empty() {
            return Ok(prompt);
        }
        // What stands there without the users' texts, too, is no text of theirs.
        Ok(prompt.within(&model.render_chat(&self.frame)?))
    }
}

/// Passages that are not empty, and their places, from 0.
pub(super) fn collect(contents: &Array<&str>, titles: &Array<&str>) -> (Vec<usize>, Vec<Passage>) {
    let titles: Vec<Option<&str>> = titles.iter().collect();
    if titles.len() > contents.len() {
        Report::invalid("there are more titles than passages")
            .detail(format!("{} titles, {} passages.", titles.len(), contents.len()))
            .raise();
    }
    contents
        .iter()
        .enumerate()
        .filter_map(|(i, content)| {
            let content = content.filter(|c| !c.trim().is_empty())?.to_owned();
            Some((i, Passage { title: titles.get(i).copied().flatten().map(str::to_owned), content }))
        })
        .unzip()
}

/// How many of some passages to read, and whether the question stands before them, too, one attempt after the other.
#[pg_extern(sql = false)]
fn pg_answer_attempts(
    passages: i32,
) -> TableIterator<'static, (name!(read, i32), name!(question_first, bool))> {
    let attempts = attempts(usize::try_from(passages).unwrap_or(0)).into_iter();
    TableIterator::new(attempts.map(|Attempt { read, question_first }| (integer(read), question_first)))
}

/// What to say to `query` where nothing answers it: `wanted`, or if that is the default, the same in the question's language.
#[pg_extern(sql = false)]
fn pg_answer_refusal(query: Option<&str>, wanted: Option<&str>) -> Option<String> {
    let refusal = match wanted {
        Some(REFUSAL) => refusal(Language::of(query.unwrap_or_default())),
        wanted => wanted?,
    };
    Some(refusal.to_owned())
}

/// The whole prompt, as the model reads it.
#[pg_extern(sql = false)]
fn pg_answer_prompt(
    query: Option<&str>,
    contents: Option<Array<&str>>,
    titles: Option<Array<&str>>,
    system: Option<&str>,
    message: Option<&str>,
    model: Option<&str>,
    context_tokens: Option<i32>,
) -> String {
    required!(query, contents, titles, system, message, context_tokens);
    let task = Task::new(query, &collect(&contents, &titles).1, model, context_tokens);
    let asked = task.asked(system, message, false);
    with_decoder(&task.model, |decoder, _| Ok(asked.prompt(decoder)?.text)).or_raise()
}

/// An answer to `query` from the first `read` passages (best first), each sentence looked up in all of them; NULL where nothing
/// supports one.
#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, clippy::type_complexity)]
fn pg_answer_write(
    query: Option<&str>,
    contents: Option<Array<&str>>,
    titles: Option<Array<&str>>,
    read: Option<i32>,
    question_first: Option<bool>,
    system: Option<&str>,
    message: Option<&str>,
    model: Option<&str>,
    max_tokens: Option<i32>,
    context_tokens: Option<i32>,
    temperature: Option<f64>,
    seed: Option<i64>,
    on_unsupported: Option<&str>,
) -> TableIterator<
    'static,
    (
        name!(answer, Option<String>),
        name!(support, f64),
        name!(citations, JsonB),
        name!(model, String),
        name!(prompt_tokens, i32),
        name!(answer_tokens, i32),
        name!(first_token_ms, f64),
        name!(write_ms, f64),
    ),
> {
    required!(
        query,
        contents,
        titles,
        system,
        message,
        max_tokens,
        context_tokens,
        temperature,
        on_unsupported
    );
    let unsupported: Unsupported = on_unsupported.parse().map_err(Report::invalid).or_raise();
    let began = Instant::now();
    let (places, passages) = collect(&contents, &titles);
    let read = read.and_then(|read| usize::try_from(read).ok()).unwrap_or(usize::MAX).min(passages.len());
    let task = Task::new(query, &passages[..read], model, context_tokens);
    if task.passages.is_empty() {
        let none = JsonB(Value::Array(Vec::new()));
        return TableIterator::once((None, 0.0, none, task.model, 0, 0, 0.0, 0.0));
    }
    let asked = task.asked(system, message, question_first.unwrap_or(false));
    let choices = Choices { max_tokens, temperature, top_p: 1.0, seed, stop: Vec::new() };
    let before = began.elapsed();
    let Written { generation, first } = reply(&task.model, |model| asked.prompt(model), choices);
    let checked = pg_answer_rag::check(generation.text.trim(), query, &passages, unsupported);
    let answers =
        !checked.text.is_empty() && (unsupported == Unsupported::Keep || !checked.citations.is_empty());
    let ms = |time: std::time::Duration| time.as_secs_f64() * 1000.0;
    TableIterator::once((
        answers.then(|| checked.text.clone()),
        checked.support,
        citations(&checked, &passages, &places),
        task.model,
        integer(generation.prompt_tokens),
        integer(generation.ids.len()),
        ms(before + first),
        ms(began.elapsed()),
    ))
}
