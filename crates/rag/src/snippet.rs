//! The part of a passage that has most of a question's words.

use std::collections::{HashMap, HashSet};

use unicode_segmentation::UnicodeSegmentation;

use crate::words::{StopWords, words};

/// Bytes of a first line that is taken for a heading, at most.
const HEADING: usize = 120;

/// Of each passage its heading and whole sentences that follow each other, together at most `bytes` long (longer sentences are
/// cut at blanks): those that have most of the question's words, words that fewer of the passages have counting more.
pub fn snippets(question: &str, passages: &[&str], bytes: usize) -> Vec<String> {
    let stop = StopWords::of(passages.iter().copied());
    let asked = stop.leave(question);
    let held: Vec<HashSet<String>> = passages.iter().map(|passage| &words(passage) & &asked).collect();
    let weights: HashMap<&str, f64> = asked
        .iter()
        .map(|word| {
            let holders = held.iter().filter(|passage| passage.contains(word)).count().max(1);
            (word.as_str(), (1.0 + passages.len() as f64 / holders as f64).ln())
        })
        .collect();
    passages.iter().map(|passage| snippet(passage, &weights, bytes)).collect()
}

fn snippet(passage: &str, weights: &HashMap<&str, f64>, bytes: usize) -> String {
    let (heading, text) = match passage.split_once('\n') {
        Some((first, rest)) if first.len() <= HEADING => (Some(first), rest),
        _ => (None, passage),
    };
    let pieces = pieces(text, bytes);
    let said: Vec<HashSet<String>> = pieces.iter().map(|(_, piece)| words(piece)).collect();
    let end = |last: usize| pieces[last].0 + pieces[last].1.len();
    let known = |word: &String| weights.get_key_value(word.as_str()).map(|(word, weight)| (*word, *weight));
    let (mut best, mut first, mut last) = (-1.0, 0, 0);
    for start in 0..pieces.len() {
        let mut found: HashMap<&str, f64> = HashMap::new();
        for stop in (start..pieces.len()).take_while(|stop| end(*stop) - pieces[start].0 <= bytes) {
            found.extend(said[stop].iter().filter_map(known));
            let merit = found.values().sum::<f64>();
            // Of equals the first.
            if merit > best + 1e-9 {
                (best, first, last) = (merit, start, stop);
            }
        }
    }
    if pieces.is_empty() {
        return passage.to_owned();
    }
    // What room is left goes to what follows, then to what comes before.
    while last + 1 < pieces.len() && end(last + 1) - pieces[first].0 <= bytes {
        last += 1;
    }
    while first > 0 && end(last) - pieces[first - 1].0 <= bytes {
        first -= 1;
    }
    let part = text[pieces[first].0..end(last)].trim();
    heading.map_or_else(|| part.to_owned(), |heading| format!("{heading}\n{part}"))
}

/// The sentences of `text` with the bytes where they begin, none longer than `bytes` where blanks allow it.
fn pieces(text: &str, bytes: usize) -> Vec<(usize, &str)> {
    let mut pieces = Vec::new();
    for (mut start, mut sentence) in text.split_sentence_bound_indices() {
        while sentence.len() > bytes {
            let fits = sentence.floor_char_boundary(bytes);
            let blank = sentence[..fits].rfind(' ').map_or(fits, |blank| blank + 1);
            // A character that is longer than all the room stays whole.
            let cut = if blank > 0 { blank } else { sentence.chars().next().map_or(1, char::len_utf8) };
            pieces.push((start, &sentence[..cut]));
            (start, sentence) = (start + cut, &sentence[cut..]);
        }
        if !sentence.trim().is_empty() {
            pieces.push((start, sentence));
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_sentences_that_the_question_is_about_are_taken() {
        let passage = "Ports\nThe moon is very far away from here. The server listens on port 5432. It may be told otherwise. Goats eat grass.";
        let taken = snippets("Which port does the server listen on?", &[passage, "Goats."], 60);
        assert_eq!(taken, ["Ports\nThe server listens on port 5432. It may be told otherwise.", "Goats."]);
    }

    #[test]
    fn rare_words_decide() {
        let passages = ["The table is large. The trigger fires.", "The table is small.", "A table of rows."];
        let taken = snippets("Which trigger has the table?", &passages, 22);
        assert_eq!(taken[0], "The trigger fires.");
    }

    proptest! {
        #[test]
        fn is_a_part_of_the_passage_with_its_heading(question in "\\PC{0,40}", passage in "(\\PC|\n|\\. ){0,300}", bytes in 1usize..80) {
            let taken = &snippets(&question, &[&passage], bytes)[0];
            prop_assert!(taken == &passage || taken.len() <= HEADING + 1 + bytes.max(4));
            prop_assert!(taken.lines().all(|line| passage.contains(line)));
        }
    }
}
