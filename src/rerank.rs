//! `rerank`: how well passages answer a question, read together with it.

use pgrx::Array;
use pgrx::prelude::*;

use crate::error::OrRaise;
use crate::model::{check, with_reranker};
use crate::settings;

/// A score for each passage, in their order; NULL for NULL.
#[pg_extern(sql = false)]
fn rerank(
    query: Option<&str>,
    passages: Option<Array<&str>>,
    model: Option<&str>,
) -> Option<Vec<Option<f32>>> {
    let (query, passages) = (query?, passages?);
    let texts: Vec<Option<&str>> = passages.iter().collect();
    let name = model.map_or_else(settings::reranking_model, str::to_owned);
    let scores = score(query, &texts.iter().copied().flatten().collect::<Vec<_>>(), &name);
    let mut scores = scores.into_iter();
    Some(texts.iter().map(|text| text.and_then(|_| scores.next())).collect())
}

/// The scores of `passages` by the model `name`.
pub fn score(query: &str, passages: &[&str], name: &str) -> Vec<f32> {
    with_reranker(name, |reranker, pool| reranker.score(query, passages, pool, &mut check)).or_raise()
}
