//! Arguments of `rag_answer` and its kin, looked at before anything is searched for.

use pg_answer_rag::Unsupported;
use pgrx::prelude::*;

use crate::error::{OrRaise, Report, required};
use crate::generate::Choices;
use crate::model;
use crate::settings;

/// `context_tokens` as a number of tokens.
pub(super) fn budget(context_tokens: i32) -> usize {
    usize::try_from(context_tokens).ok().filter(|n| *n > 0).unwrap_or_else(|| {
        Report::invalid(format!("context_tokens must be at least 1, not {context_tokens}")).raise()
    })
}

/// True, or an ERROR about the first argument that makes no sense.
#[pg_extern(sql = false)]
fn pg_answer_check_answer(
    model: Option<&str>,
    max_tokens: Option<i32>,
    context_tokens: Option<i32>,
    temperature: Option<f64>,
    on_unsupported: Option<&str>,
) -> bool {
    required!(max_tokens, context_tokens, temperature, on_unsupported);
    let _: Unsupported = on_unsupported.parse().map_err(Report::invalid).or_raise();
    budget(context_tokens);
    let choices = Choices { max_tokens, temperature, top_p: 1.0, seed: None, stop: Vec::new() };
    choices.options().sampling.check().or_raise();
    let model = model.map_or_else(settings::generation_model, str::to_owned);
    model::kind(&model).or_raise();
    true
}
