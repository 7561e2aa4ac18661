//! `rag_answer` over given passages. Retrieval and the choice of sources are SQL: see `sql/52_answer.sql`.

use pg_answer_inference::decoder::Message;
use pg_answer_rag::{Passage, Prompts, REFUSAL, cite_support, keep_valid, pack};
use pgrx::prelude::*;
use pgrx::{Array, PgSqlErrorCode as Code};

use crate::error::{OrRaise, Report};
use crate::generate::{Choices, reply};
use crate::model::with_decoder;
use crate::settings;

/// Answers `query` from `passages` (best first, NULL and empty ones passed over); refuses without any.
#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn rag_answer_passages(
    query: Option<&str>,
    passages: Option<Array<&str>>,
    titles: Option<Array<&str>>,
    model: Option<&str>,
    max_tokens: i32,
    context_tokens: i32,
    temperature: f64,
    seed: Option<i64>,
) -> Option<String> {
    let query = query?;
    let budget = usize::try_from(context_tokens).ok().filter(|n| *n > 0).unwrap_or_else(|| {
        Report::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("context_tokens must be at least 1, not {context_tokens}"),
        )
        .raise()
    });
    let passages = collect(passages, titles);
    let name = model.map_or_else(settings::generation_model, str::to_owned);
    let passages = if passages.is_empty() {
        passages
    } else {
        with_decoder(&name, |decoder, _| pack(&passages, budget, |text| decoder.count_tokens(text)))
            .or_raise()
    };
    if passages.is_empty() {
        return Some(REFUSAL.to_owned());
    }
    let messages: Vec<Message> = Prompts::new()
        .messages(query, &passages)
        .into_iter()
        .map(|m| Message { role: m.role.to_owned(), content: m.content })
        .collect();
    let choices = Choices { max_tokens, temperature, top_p: 1.0, seed, stop: Vec::new() };
    let answer = reply(&messages, Some(&name), choices);
    let answer = keep_valid(answer.trim(), passages.len());
    Some(cite_support(&answer, query, &passages))
}

fn collect(contents: Option<Array<&str>>, titles: Option<Array<&str>>) -> Vec<Passage> {
    let Some(contents) = contents else { return Vec::new() };
    let titles: Vec<Option<&str>> = titles.iter().flat_map(Array::iter).collect();
    if titles.len() > contents.len() {
        Report::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, "there are more titles than passages")
            .detail(format!("{} titles, {} passages.", titles.len(), contents.len()))
            .raise();
    }
    contents
        .iter()
        .enumerate()
        .filter_map(|(i, content)| {
            let content = content.map(str::trim).filter(|c| !c.is_empty())?.to_owned();
            Some(Passage { title: titles.get(i).copied().flatten().map(str::to_owned), content })
        })
        .collect()
}
