//! `semantic_match`: whether two texts name the same thing, and why.

use pg_answer_inference::encoder::Role;
use pg_answer_rag::fusion::trust;
use pg_answer_tasks::Turn;
use pg_answer_tasks::matching::{self, Evidence};
use pgrx::prelude::*;

use super::{messages, weigh};
use crate::embed::embed_texts;
use crate::error::{OrRaise, required};
use crate::generate::{Choices, converse};
use crate::model::{check, with_encoder};
use crate::settings;

/// Most tokens of a reason.
const REASON_TOKENS: i32 = 48;

/// What vectors and words say of a pair, and what the language model says in both orders.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn pg_answer_match(
    item: Option<&str>,
    candidate: Option<&str>,
    reasons: Option<bool>,
    model: Option<&str>,
    embedding_model: Option<&str>,
) -> TableIterator<
    'static,
    (
        name!(verdict, Option<bool>),
        name!(probability, f64),
        name!(similarity, f64),
        name!(reason, Option<String>),
    ),
> {
    required!(item, candidate, reasons);
    let name = model.map_or_else(settings::generation_model, str::to_owned);
    let encoder = embedding_model.map_or_else(settings::embedding_model, str::to_owned);
    let others = matching::others(item);
    let vectors = embed_texts(&[&[item, candidate], &others[..]].concat(), &encoder, Role::Document);
    let [own, other, rest @ ..] = &vectors[..] else { unreachable!("two texts and others were embedded") };
    let similarity = own.iter().zip(other).map(|(a, b)| f64::from(a * b)).sum();
    let known = with_encoder(&encoder, |encoder, _| {
        let shares = [item, candidate].map(|text| encoder.known_share(text, &mut check));
        let [a, b] = shares;
        Ok(a?.min(b?))
    });
    let (orders, [yes, no]) = matching::question(item, candidate);
    let judge = |turns: Vec<Turn>| {
        let weights = weigh(&name, &messages(&turns), &[yes, no]);
        weights[0] - weights[1]
    };
    let judgements = orders.map(judge);
    let evidence = Evidence {
        judgements,
        meaning: matching::meaning(own, other, rest),
        trust: trust(known.or_raise()),
        words: matching::shared_words(item, candidate),
    };
    let probability = evidence.probability(item);
    let verdict = matching::verdict(probability);
    let reason = verdict.filter(|_| reasons).map(|matches| why(item, candidate, matches, &name));
    TableIterator::once((verdict, probability, similarity, reason))
}

/// The model's reason for a verdict, one line.
fn why(item: &str, candidate: &str, matches: bool, name: &str) -> String {
    let (turns, begin) = matching::reason(item, candidate, matches);
    let stop = vec!["\n".to_owned()];
    let choices = Choices { max_tokens: REASON_TOKENS, temperature: 0.0, top_p: 1.0, seed: Some(0), stop };
    let written = converse(&messages(&turns), name, choices).generation;
    format!("{begin}{}", pg_answer_tasks::writing::whole_sentences(written.text.trim()))
}
