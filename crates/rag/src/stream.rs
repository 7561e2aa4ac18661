//! An answer that is still being written, sentence by sentence.

use std::collections::VecDeque;

use unicode_segmentation::UnicodeSegmentation;

use crate::Passage;
use crate::check::{Evidence, Sentence, Unsupported};
use crate::refusal::refuses;

/// Hands out the sentences of an answer once they are whole, checked as [`crate::check`] does.
pub struct Sentences {
    passages: Vec<Passage>,
    evidence: Evidence,
    unsupported: Unsupported,
    /// Bytes of the answer that have been handed out or dropped.
    read: usize,
    /// Checked and not handed out: nothing is before a passage supports some sentence.
    waiting: VecDeque<String>,
    /// Whether sentences may be handed out.
    open: bool,
    refused: bool,
}

impl Sentences {
    /// Nothing of an answer to `query` from `passages` handed out yet.
    pub fn new(query: &str, passages: Vec<Passage>, unsupported: Unsupported) -> Self {
        let evidence = Evidence::new(query, &passages);
        let open = unsupported == Unsupported::Keep;
        Self { passages, evidence, unsupported, read: 0, waiting: VecDeque::new(), open, refused: false }
    }

    /// The next sentence of `answer`, which is all that is written so far and, when it `has_ended`, all there is. Nothing
    /// comes before a sentence that a passage supports, unless all are kept, and nothing after a refusal.
    pub fn next(&mut self, answer: &str, has_ended: bool) -> Option<String> {
        while !self.open || self.waiting.is_empty() {
            let found = self.look_up(answer, has_ended)?;
            self.open |= !found.citations.is_empty();
            self.waiting.extend(found.text);
        }
        self.waiting.pop_front()
    }

    fn look_up(&mut self, answer: &str, has_ended: bool) -> Option<Sentence> {
        while !self.refused {
            let rest = answer.get(self.read..)?;
            let sentence = rest.split_sentence_bounds().next()?;
            // Where a sentence ends may depend on the next letter: "5 p.m. is", "5 p.m. It is".
            if !has_ended && !rest[sentence.len()..].contains(char::is_alphabetic) {
                return None;
            }
            self.read += sentence.len();
            self.refused = refuses(sentence);
            if !self.refused
                && let Some(found) = self.evidence.look_up(sentence, &self.passages, self.unsupported)
            {
                return Some(found);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;
    use crate::refusal::REFUSAL;

    const QUERY: &str = "How many connections are allowed, and who may use port 5432?";
    const ANSWER: &str = "By default 100 are allowed [1]. The moon is made of cheese. This is max_connections. See e.g. the setting max_connections.\n\
                          服务器监听 5432 端口。Only at 5 p.m. is it closed. ";

    fn passages() -> Vec<Passage> {
        [
            "The setting max_connections says how many the server allows; the default is 100 connections. See the manual.",
            "服务器默认监听端口 5432。 It is closed only at 5 p.m. on Sundays.",
        ]
        .map(|content| Passage { title: None, content: content.to_owned() })
        .to_vec()
    }

    /// What comes of `answer` when it grows by `step` characters.
    fn streamed(answer: &str, step: usize, unsupported: Unsupported) -> String {
        let mut sentences = Sentences::new(QUERY, passages(), unsupported);
        let mut given = Vec::new();
        let ends: Vec<usize> = answer.char_indices().map(|(i, c)| i + c.len_utf8()).collect();
        for end in ends.iter().step_by(step).chain(ends.last()) {
            while let Some(sentence) = sentences.next(&answer[..*end], *end == answer.len()) {
                given.push(sentence);
            }
        }
        given.join(" ")
    }

    #[test]
    fn the_same_sentences_come_as_from_the_whole() {
        for unsupported in [Unsupported::Drop, Unsupported::Mark, Unsupported::Keep] {
            let whole = check(ANSWER, QUERY, &passages(), unsupported).text.replace('\n', " ");
            assert!(whole.contains("100 are allowed [1]. ") && whole.contains("[2]"), "{whole}");
            for step in [1, 2, 7, 1000] {
                assert_eq!(streamed(ANSWER, step, unsupported), whole, "{step}");
            }
        }
    }

    #[test]
    fn nothing_follows_a_refusal() {
        let answer = format!("{REFUSAL} By default 100 are allowed.");
        assert_eq!(streamed(&answer, 3, Unsupported::Keep), "");
        assert_eq!(streamed("The moon is made of cheese.", 1, Unsupported::Mark), "");
        assert_eq!(streamed("", 1, Unsupported::Keep), "");
    }
}
