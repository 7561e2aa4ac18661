//! `rerank`: how well passages answer a question, read together with it.

use pg_answer_inference::decoder::Message;
use pg_answer_models::Kind;
use pg_answer_rag::likelihood;
use pg_answer_rag::snippet::snippets;
use pgrx::Array;
use pgrx::prelude::*;

use crate::error::{OrRaise, required};
use crate::model::{self, check, with_reranker};
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
    let mut scores = match judge(query, &texts.iter().copied().flatten().collect::<Vec<_>>(), &name) {
        Judged::Likely(likelihoods) => likelihoods.into_iter().map(|x| x as f32).collect(),
        Judged::Scored(scores) => scores,
    }
    .into_iter();
    Some(texts.iter().map(|text| text.and_then(|_| scores.next())).collect())
}

/// The scores of `passages`, which have `scores` so far, by the model to rerank with. Where nobody chose one and the default is
/// not installed it is the language model that is the default, or if that is not installed either, `otherwise`, by default the
/// generation model.
#[pg_extern(sql = false)]
fn pg_answer_rerank(
    query: Option<&str>,
    passages: Option<Array<&str>>,
    scores: Option<Vec<Option<f64>>>,
    otherwise: Option<&str>,
) -> Vec<f64> {
    required!(query, passages, scores);
    let mut name = settings::reranking_model();
    if settings::reranking_model_is_default() && !model::is_installed(&name) {
        // A larger model that answers judges no better, and takes three times as long.
        name = settings::default_generation_model();
        if !model::is_installed(&name) {
            name = otherwise.map_or_else(settings::generation_model, str::to_owned);
        }
    }
    let texts: Vec<&str> = passages.iter().map(Option::unwrap_or_default).collect();
    match judge(query, &texts, &name) {
        Judged::Likely(likelihoods) => {
            let scores: Vec<f64> = scores.into_iter().map(Option::unwrap_or_default).collect();
            likelihood::fuse(&scores, &likelihoods)
        }
        Judged::Scored(scores) => scores.into_iter().map(f64::from).collect(),
    }
}

/// What a model says of passages.
enum Judged {
    /// How well each answers, by a cross-encoder.
    Scored(Vec<f32>),
    /// Logarithms of how likely a language model asks the question about each.
    Likely(Vec<f64>),
}

/// What the model `name` says of `passages`.
fn judge(query: &str, passages: &[&str], name: &str) -> Judged {
    if model::kind(name).or_raise() == Kind::Decoder {
        if query.is_empty() {
            // No question is as likely after one passage as after another.
            return Judged::Likely(vec![0.0; passages.len()]);
        }
        let parts = snippets(query, passages, likelihood::PART);
        return Judged::Likely(parts.iter().map(|part| likelihood_of(query, part, name)).collect());
    }
    let scores = with_reranker(name, |reranker, pool| reranker.score(query, passages, pool, &mut check));
    Judged::Scored(scores.or_raise())
}

/// Logarithm of how likely the decoder `name` asks `query` about `passage`.
fn likelihood_of(query: &str, passage: &str, name: &str) -> f64 {
    let messages: Vec<Message> = likelihood::messages(passage)
        .into_iter()
        .map(|m| Message { role: m.role.to_owned(), content: m.content })
        .collect();
    model::weigh(name, &messages, &[query])[0]
}
