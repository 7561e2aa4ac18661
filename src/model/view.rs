//! Rows of the view `pg_answer_models`.

use pgrx::prelude::*;

use super::cache::loaded_bytes;
use crate::error::{OrRaise, Report};
use crate::settings;
use pg_answer_models::Store;

/// One row per installed model; a damaged one raises a WARNING and is left out.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn pg_answer_installed_models() -> TableIterator<
    'static,
    (
        name!(name, String),
        name!(kind, String),
        name!(architecture, String),
        name!(dims, Option<i32>),
        name!(context_length, i32),
        name!(quantization, String),
        name!(bytes, i64),
        name!(sha256, String),
        name!(license, String),
        name!(loaded, bool),
        name!(memory, Option<i64>),
    ),
> {
    let models = Store::new(settings::model_path()).list().or_raise();
    let rows: Vec<_> = models
        .into_iter()
        .filter_map(|model| {
            let model = match model {
                Ok(model) => model,
                Err(e) => {
                    Report::from(e).report(PgLogLevel::WARNING);
                    return None;
                }
            };
            let memory = loaded_bytes(&model.dir);
            let sha256 = model.card.sha256().to_owned();
            let bytes = model.card.bytes();
            let card = model.card;
            Some((
                card.name,
                card.kind.as_str().to_owned(),
                card.architecture,
                card.dims.and_then(|d| i32::try_from(d).ok()),
                i32::try_from(card.context_length).unwrap_or(i32::MAX),
                card.quantization,
                i64::try_from(bytes).unwrap_or(i64::MAX),
                sha256,
                card.license,
                memory.is_some(),
                memory.and_then(|m| i64::try_from(m).ok()),
            ))
        })
        .collect();
    TableIterator::new(rows)
}

/// The model that `embed(text)` uses now.
#[pg_extern(sql = false)]
fn embedding_model() -> String {
    settings::embedding_model()
}

/// The model that `rerank` uses now.
#[pg_extern(sql = false)]
fn reranking_model() -> String {
    settings::reranking_model()
}

/// The model that `generate(text)` and `rag_answer` use now.
#[pg_extern(sql = false)]
fn generation_model() -> String {
    settings::generation_model()
}
