//! The models of this session: loaded when first used, kept until the session ends or another takes their place.

mod cache;
mod counters;
mod error;
mod stats;
mod view;

pub use cache::{kind, with_decoder, with_encoder, with_reranker, with_rewriter};
pub use stats::Run;

use pg_answer_inference::decoder::Message;
use pg_answer_inference::encoder::{Encoder, Role, Tokens};
use pg_answer_inference::{Error, Pool, Result};
use pg_answer_models::Kind;

use crate::error::OrRaise;

/// Tokens of `text` for the model `name`, special tokens of an encoder included.
///
/// # Errors
/// Those of the load.
pub fn count_tokens(name: &str, text: &str) -> Result<usize> {
    match cache::kind(name)? {
        Kind::Encoder => with_encoder(name, |encoder, _| {
            Ok(encoder.tokenize_checked(text, Role::Plain, &mut check)?.untruncated)
        }),
        Kind::Decoder => with_decoder(name, |decoder, _| decoder.count_tokens(text)),
        Kind::EncoderDecoder => with_rewriter(name, |rewriter, _| rewriter.count_tokens(text)),
        Kind::CrossEncoder => with_reranker(name, |reranker, _| reranker.count_tokens(text)),
    }
}

/// Whether there is a model `name`; one that is damaged is.
pub fn is_installed(name: &str) -> bool {
    !matches!(cache::kind(name), Err(Error::Model(pg_answer_models::Error::NotInstalled { .. })))
}

/// The vectors of `batch` by `encoder`, the model `name`.
///
/// # Errors
/// Those of the model.
pub fn embed(name: &str, encoder: &Encoder, batch: &[Tokens], pool: &Pool) -> Result<Vec<Vec<f32>>> {
    let tokens = batch.iter().map(|text| text.ids.len()).sum();
    let truncated = batch.iter().filter(|text| text.untruncated > text.ids.len()).count();
    let run = Run::begin(name, batch.len(), tokens, truncated);
    let vectors = encoder.embed(batch, pool, &mut check)?;
    run.succeeded(0);
    Ok(vectors)
}

/// For each of `answers` the natural logarithm of the probability that the model `name` replies just so.
pub fn weigh(name: &str, messages: &[Message], answers: &[&str]) -> Vec<f64> {
    with_decoder(name, |decoder, pool| {
        let prompt = decoder.ask(messages)?;
        let run = Run::begin(name, 1, prompt.ids.len(), 0);
        let weights = decoder.weigh(&prompt, answers, pool, &mut check)?;
        run.succeeded(0);
        Ok(weights)
    })
    .or_raise()
}

/// Passed to every model run: lets a cancel, a timeout or a termination through.
///
/// The server's interrupt handler raises its ERROR from here; the frames of the model run are unwound and
/// keep nothing half-done, since every run starts from a clean state.
pub fn check() -> Result<()> {
    pgrx::check_for_interrupts!();
    Ok(())
}
