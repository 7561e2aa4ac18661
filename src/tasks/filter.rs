//! `ai_filter`: which rows meet a criterion. What was said in this session is remembered for each criterion and pair of models.

use std::cell::RefCell;

use pg_answer_inference::encoder::Role;
use pg_answer_tasks::filter::{ANSWERS, Verdicts, turns};
use pgrx::prelude::*;

use super::{messages, weigh};
use crate::embed::embed_text;
use crate::error::{Report, required};
use crate::settings;

/// Criteria that are remembered, the last used first.
const MOST: usize = 16;

/// A criterion with the models that judge by it.
#[derive(Clone, PartialEq, Eq)]
struct Question {
    criterion: String,
    model: String,
    encoder: String,
}

struct Memory {
    question: Question,
    verdicts: Verdicts,
    rows: i64,
    asked: i64,
}

thread_local! {
    static MEMORIES: RefCell<Vec<Memory>> = const { RefCell::new(Vec::new()) };
}

/// Runs `work` with what is remembered about `question`. No ERROR may be raised in it.
fn with_memory<R>(question: &Question, work: impl FnOnce(&mut Memory) -> R) -> R {
    MEMORIES.with_borrow_mut(|memories| {
        let memory = match memories.iter().position(|m| m.question == *question) {
            Some(at) => memories.remove(at),
            None => Memory { question: question.clone(), verdicts: Verdicts::default(), rows: 0, asked: 0 },
        };
        memories.truncate(MOST - 1);
        memories.insert(0, memory);
        work(&mut memories[0])
    })
}

#[pg_extern(sql = false)]
fn pg_answer_filter(
    content: Option<&str>,
    criterion: Option<&str>,
    doubt: Option<f64>,
    model: Option<&str>,
    embedding_model: Option<&str>,
) -> bool {
    required!(content, criterion, doubt);
    if !(0.0..0.5).contains(&doubt) {
        Report::invalid(format!("doubt must be at least 0 and below 0.5, not {doubt}")).raise();
    }
    let question = Question {
        criterion: criterion.to_owned(),
        model: model.map_or_else(settings::generation_model, str::to_owned),
        encoder: embedding_model.map_or_else(settings::embedding_model, str::to_owned),
    };
    let vector = embed_text(content, &question.encoder, Role::Document);
    let guess = with_memory(&question, |memory| memory.verdicts.guess(&vector, doubt));
    let meets = guess.unwrap_or_else(|| {
        let weights = weigh(&question.model, &messages(&turns(content, criterion)), &ANSWERS);
        weights[0] > weights[1]
    });
    with_memory(&question, |memory| {
        memory.rows += 1;
        if guess.is_none() {
            memory.asked += 1;
            memory.verdicts.learn(vector, meets);
        }
    });
    meets
}

/// How often each remembered criterion was asked for, and how often the language model was asked.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn ai_filter_stats() -> TableIterator<
    'static,
    (
        name!(criterion, String),
        name!(model, String),
        name!(embedding_model, String),
        name!(row_count, i64),
        name!(asked, i64),
    ),
> {
    let rows: Vec<_> = MEMORIES.with_borrow(|memories| {
        let row = |m: &Memory| {
            let Question { criterion, model, encoder } = m.question.clone();
            (criterion, model, encoder, m.rows, m.asked)
        };
        memories.iter().map(row).collect()
    });
    TableIterator::new(rows)
}

#[pg_extern(sql = false)]
fn ai_filter_reset() {
    MEMORIES.with_borrow_mut(Vec::clear);
}
