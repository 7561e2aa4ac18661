//! Which passage an answer rests on, by the words that they share.

use std::collections::HashSet;

use unicode_segmentation::UnicodeSegmentation;

use crate::citation::cites;
use crate::{Passage, REFUSAL};

/// Share of the answer's own words, weighted by how few passages hold them, that a passage must have to be cited.
const ENOUGH: f64 = 0.5;

/// `answer`, which cites none of its passages, with a citation of the one that holds most of it.
///
/// Small models forget citations even when they answer from the passages. An answer that cites already, that
/// refuses, or that no passage holds, stays as it is: no citation is better than one that is made up.
pub fn cite_support(answer: &str, query: &str, passages: &[Passage]) -> String {
    match best(answer, query, passages) {
        Some(i) if !cites(answer) && !answer.contains(REFUSAL) => append(answer, i + 1),
        _ => answer.to_owned(),
    }
}

/// Index of the passage that supports `answer` best, the first of equals; none if none does enough.
fn best(answer: &str, query: &str, passages: &[Passage]) -> Option<usize> {
    let passages: Vec<HashSet<String>> = passages
        .iter()
        .map(|p| &words(&p.content) | &words(p.title.as_deref().unwrap_or_default()))
        .collect();
    // What the question says already is no evidence.
    let (said, asked) = (words(answer), words(query));
    let new = &said - &asked;
    let claim = if new.is_empty() { said } else { new };
    // Rarer words weigh more, as in BM25; one that no passage has counts against all of them.
    let weight = |word: &String| {
        let found = passages.iter().filter(|p| p.contains(word)).count();
        (1.0 + passages.len() as f64 / (found as f64).max(0.5)).ln()
    };
    let total: f64 = claim.iter().map(weight).sum();
    let mut best = None;
    let mut most = ENOUGH * total;
    for (i, passage) in passages.iter().enumerate() {
        let support: f64 = claim.intersection(passage).map(weight).sum();
        if support > most || (best.is_none() && support > 0.0 && support >= most) {
            (best, most) = (Some(i), support);
        }
    }
    best
}

/// The words of `text` in lower case; each Chinese character is one. Of a word of letters the beginning counts, so that
/// its inflections are the same; identifiers and numbers count whole.
fn words(text: &str) -> HashSet<String> {
    let beginning = |word: &str| {
        let word = word.to_lowercase();
        if word.chars().all(char::is_alphabetic) { word.chars().take(5).collect() } else { word }
    };
    text.unicode_words().map(beginning).collect()
}

/// `answer` with `[number]` before the mark that ends it, where one does.
fn append(answer: &str, number: usize) -> String {
    let end = answer.trim_end().len();
    match answer[..end].char_indices().next_back() {
        Some((at, mark @ ('.' | '!' | '?'))) => format!("{} [{number}]{mark}", &answer[..at]),
        Some((at, mark @ ('。' | '！' | '？'))) => format!("{}[{number}]{mark}", &answer[..at]),
        _ => format!("{} [{number}]", &answer[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passages() -> Vec<Passage> {
        [
            ("Autovacuum", "The daemon runs VACUUM by itself."),
            (
                "Connections",
                "max_connections sets how many the server allows; the default is 100 connections.",
            ),
            ("端口", "服务器默认监听端口 5432。"),
        ]
        .map(|(title, content)| Passage { title: Some(title.to_owned()), content: content.to_owned() })
        .to_vec()
    }

    fn cite(answer: &str, query: &str) -> String {
        cite_support(answer, query, &passages())
    }

    #[test]
    fn the_passage_that_holds_the_answer_is_cited() {
        let query = "How many connections are allowed?";
        assert_eq!(cite("By default 100 are allowed.", query), "By default 100 are allowed [2].");
        assert_eq!(
            cite("The server allows 100 connections.", query),
            "The server allows 100 connections [2]."
        );
        assert_eq!(cite("max_connections", query), "max_connections [2]");
        assert_eq!(cite("服务器监听 5432 端口。", "服务器监听哪个端口？"), "服务器监听 5432 端口[3]。");
    }

    #[test]
    fn what_no_passage_holds_stays_uncited() {
        let query = "How many connections are allowed?";
        for answer in ["The moon is made of cheese.", "7", "", " ", "?!", REFUSAL] {
            assert_eq!(cite(answer, query), answer);
        }
        assert_eq!(cite_support("100.", query, &[]), "100.");
    }

    #[test]
    fn a_citation_of_the_model_stays_the_only_one() {
        let answer = "By default 100 may connect [1].";
        assert_eq!(cite(answer, "How many connections are allowed?"), answer);
    }

    #[test]
    fn the_question_s_words_are_no_evidence() {
        // All but "7" stands in the question and in passage 2.
        assert_eq!(cite("The default is 7.", "What is the default?"), "The default is 7.");
    }
}
