//! What the statements of `rag_retrieve` compute with: words, counts, and scores.

use pg_answer_rag::merge::{Passage, Piece, merge};
use pg_answer_rag::{bm25, diversity, fusion};
use pg_answer_text::words::{is_without_blanks, search_words};
use pgrx::prelude::*;
use pgrx::{Array, FromDatum, IntoDatum, pg_sys};

use super::lexemes::Lexemes;
use crate::error::OrRaise;
use crate::model::{check, with_encoder};
use crate::returned::Raw;
use crate::source::integer;
use crate::vector::call::Args;

/// Bytes of words that a `tsvector`, which holds 1 MB, has room for, whatever the words: each takes its own length, up to
/// one byte to be even, and four bytes for its place.
const MOST_WORDS: usize = 300_000;

/// The words of `texts` by the dictionaries of `config`.
#[pg_extern(sql = false)]
fn pg_answer_search_vector(config: pg_sys::Oid, texts: Array<&str>) -> Raw {
    let mut words = String::new();
    for text in texts.iter().flatten() {
        words.push_str(&search_words(text, MOST_WORDS - words.len().min(MOST_WORDS)));
    }
    let arguments = [Some(pg_sys::Datum::from(config)), words.into_datum()];
    // SAFETY: to_tsvector(regconfig, text) with arguments of these types.
    let made = unsafe { pgrx::direct_function_call_as_datum(pg_sys::to_tsvector_byid, &arguments) };
    Raw(made.unwrap_or_else(pg_sys::Datum::null))
}

/// How often each word of the second argument stands in the first, then how many words stand in the first.
#[pg_extern(sql = false)]
fn pg_answer_word_counts(fcinfo: pg_sys::FunctionCallInfo) -> Vec<i32> {
    // SAFETY: the function is declared STRICT with two arguments of type tsvector.
    unsafe {
        let arguments = Args::new(fcinfo);
        let [text, question] = [0, 1].map(|i| Lexemes::from_datum(arguments.datum(i)));
        text.counts_of(&question)
    }
}

/// BM25 as a share of the most that a passage could have; `counts` and `said` are those of `pg_answer_word_counts`.
#[pg_extern(sql = false)]
fn pg_answer_bm25(
    counts: Vec<i32>,
    said: Vec<i32>,
    holders: Vec<i64>,
    passages: f64,
    average_length: f64,
) -> f64 {
    let Some((length, counts)) = counts.split_last() else { return 0.0 };
    let words = counts.len().min(said.len());
    bm25::Question::new(&said[..words], &holders, passages, average_length).score(counts, *length)
}

/// How much the vector of `query` is worth, from 0 to 1: by the share of its tokens that the model knows.
#[pg_extern(sql = false)]
fn pg_answer_trust(query: &str, model: &str) -> f64 {
    let share = with_encoder(model, |encoder, _| encoder.known_share(query, &mut check)).or_raise();
    fusion::trust(share)
}

/// Share of a question's weight that lies in words which no passage has; pairs of characters do not count.
#[pg_extern(sql = false)]
fn pg_answer_unknown_share(fcinfo: pg_sys::FunctionCallInfo) -> f64 {
    // SAFETY: the function is declared STRICT with arguments tsvector, bigint[], double precision.
    unsafe {
        let arguments = Args::new(fcinfo);
        let question = Lexemes::from_datum(arguments.datum(0));
        let holders = Vec::<i64>::from_datum(arguments.datum(1), false).unwrap_or_default();
        let passages = f64::from_datum(arguments.datum(2), false).unwrap_or_default();
        let (words, said): (Vec<&[u8]>, Vec<i32>) = question.counts().unzip();
        let is_word = |i: usize| {
            words.get(i).is_some_and(|w| !String::from_utf8_lossy(w).chars().any(is_without_blanks))
        };
        bm25::Question::new(&said, &holders, passages, 1.0).unknown_share(&holders, passages, is_word)
    }
}

#[pg_extern(sql = false)]
fn pg_answer_fuse(
    cosine: Option<f64>,
    floor: Option<f64>,
    trust: Option<f64>,
    text: Option<f64>,
) -> Option<f64> {
    Some(fusion::fuse(cosine?, floor?, trust?, text))
}

/// Chunks, best first, as passages: the index of each one's best chunk, from 1, and its first and last chunk's ordinals.
/// `diversity` puts passages first that differ, by maximal marginal relevance.
#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, clippy::type_complexity)]
fn pg_answer_merge(
    documents: Vec<i64>,
    ordinals: Vec<i32>,
    starts: Vec<i32>,
    ends: Vec<i32>,
    contents: Array<&str>,
    scores: Vec<f64>,
    k: i32,
    expand: i32,
    diversity: f64,
) -> TableIterator<'static, (name!(place, i32), name!(first_chunk, i32), name!(last_chunk, i32))> {
    let chunks = documents.iter().zip(&ordinals).zip(starts.iter().zip(&ends)).zip(contents.iter());
    let pieces: Vec<Piece<'_>> = chunks
        .map(|(((document, ordinal), (start, end)), content)| Piece {
            document: *document,
            ordinal: *ordinal,
            characters: *start..*end,
            content: content.unwrap_or_default(),
        })
        .collect();
    let order: Vec<usize> = if diversity > 0.0 {
        let contents: Vec<&str> = pieces.iter().map(|piece| piece.content).collect();
        diversity::order(&contents, &scores, diversity, check).or_raise()
    } else {
        (0..pieces.len()).collect()
    };
    let pieces: Vec<Piece<'_>> = order.iter().map(|&i| pieces[i].clone()).collect();
    let passages = merge(&pieces, usize::try_from(k).unwrap_or(0), expand);
    let row = |passage: Passage| (integer(order[passage.best] + 1), passage.first, passage.last);
    TableIterator::new(passages.into_iter().map(row).collect::<Vec<_>>())
}
