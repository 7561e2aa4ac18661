//! A long text → passages that fit a model's window.
//!
//! Passages end where the text allows it best: at blank lines, line breaks, the ends of sentences (Unicode's
//! rules, so those of Chinese and Japanese too), words, and only in the end inside a word.

use std::convert::Infallible;
use std::ops::Range;

use text_splitter::{ChunkConfig, MarkdownSplitter, TextSplitter, TryChunkSizer};

/// How long passages may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    max_tokens: usize,
    overlap: usize,
}

/// Limits that make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Passages of no tokens.
    #[error("a passage must have room for at least one token")]
    NoRoom,
    /// Each passage would only repeat the one before.
    #[error("an overlap of {overlap} tokens leaves no room in a passage of {max_tokens}")]
    Overlap {
        /// Tokens to repeat.
        overlap: usize,
        /// Tokens of a passage.
        max_tokens: usize,
    },
}

impl Limits {
    /// Passages of at most `max_tokens` tokens, without overlap.
    ///
    /// # Errors
    /// [`Error::NoRoom`] for 0.
    pub fn new(max_tokens: usize) -> Result<Self, Error> {
        if max_tokens == 0 { Err(Error::NoRoom) } else { Ok(Self { max_tokens, overlap: 0 }) }
    }

    /// Most tokens of a passage.
    pub fn max_tokens(self) -> usize {
        self.max_tokens
    }

    /// Most tokens that a passage repeats of the one before.
    pub fn overlap(self) -> usize {
        self.overlap
    }

    /// Lets each passage begin with at most `overlap` tokens from the end of the one before.
    ///
    /// # Errors
    /// [`Error::Overlap`] when nothing new would fit beside them.
    pub fn with_overlap(self, overlap: usize) -> Result<Self, Error> {
        if overlap >= self.max_tokens {
            return Err(Error::Overlap { overlap, max_tokens: self.max_tokens });
        }
        Ok(Self { overlap, ..self })
    }
}

/// Byte ranges of the passages of `text`, in order, each on character boundaries and without white space at
/// its ends. `count` tells the tokens of a piece of text; by it every passage keeps to `limits`, except that a
/// single character is never split, however many tokens it takes.
///
/// Only white space stands outside all passages.
///
/// ```
/// use pg_answer_text::chunk::{Limits, split};
/// let text = "Green tea. Black tea.";
/// let words = |piece: &str| piece.split_whitespace().count();
/// assert_eq!(split(text, Limits::new(2)?, &words), [0..10, 11..21]);
/// # Ok::<(), pg_answer_text::chunk::Error>(())
/// ```
pub fn split(text: &str, limits: Limits, count: &dyn Fn(&str) -> usize) -> Vec<Range<usize>> {
    let count = |piece: &str| Ok::<_, Infallible>(count(piece));
    match try_split(text, limits, &count) {
        Ok(ranges) => ranges,
        Err(never) => match never {},
    }
}

/// As [`split`], for a counter that can fail, or that asks to stop.
///
/// # Errors
/// The counter's first.
pub fn try_split<E>(
    text: &str,
    limits: Limits,
    count: &dyn Fn(&str) -> Result<usize, E>,
) -> Result<Vec<Range<usize>>, E> {
    fit(text, TextSplitter::new(config(limits, count)).try_chunk_indices(text), limits, count)
}

/// As [`try_split`], but ends passages between the blocks of Markdown before it ends them inside one.
pub(crate) fn try_split_markdown<E>(
    text: &str,
    limits: Limits,
    count: &dyn Fn(&str) -> Result<usize, E>,
) -> Result<Vec<Range<usize>>, E> {
    fit(text, MarkdownSplitter::new(config(limits, count)).try_chunk_indices(text), limits, count)
}

fn config<E>(limits: Limits, count: &dyn Fn(&str) -> Result<usize, E>) -> ChunkConfig<Counter<'_, E>> {
    let config = ChunkConfig::new(limits.max_tokens).with_sizer(Counter(count)).with_trim(true);
    let Ok(config) = config.with_overlap(limits.overlap) else {
        unreachable!("Limits keeps the overlap below the size")
    };
    config
}

/// The ranges of a splitter's `pieces`, each made to fit.
fn fit<'t, E>(
    text: &'t str,
    pieces: impl Iterator<Item = Result<(usize, &'t str), E>>,
    limits: Limits,
    count: &dyn Fn(&str) -> Result<usize, E>,
) -> Result<Vec<Range<usize>>, E> {
    let mut ranges = Vec::new();
    for piece in pieces {
        let (start, piece) = piece?;
        // The splitter takes for granted that more text never has fewer tokens; tokenizers do not keep to it.
        halve(text, start..start + piece.len(), limits.max_tokens, count, &mut ranges)?;
    }
    Ok(ranges)
}

/// Adds `range`, or, while it has more than `max_tokens`, its two halves.
pub(crate) fn halve<E>(
    text: &str,
    range: Range<usize>,
    max_tokens: usize,
    count: &dyn Fn(&str) -> Result<usize, E>,
    ranges: &mut Vec<Range<usize>>,
) -> Result<(), E> {
    let Some(range) = trim(text, range) else { return Ok(()) };
    let piece = &text[range.clone()];
    // The border of characters nearest before the middle, else the first; none in a single character.
    let middle = piece.floor_char_boundary(piece.len() / 2);
    let middle =
        range.start + if middle > 0 { middle } else { piece.chars().next().map_or(0, char::len_utf8) };
    if middle == range.end || count(piece)? <= max_tokens {
        ranges.push(range);
        return Ok(());
    }
    halve(text, range.start..middle, max_tokens, count, ranges)?;
    halve(text, middle..range.end, max_tokens, count, ranges)
}

/// The range without white space at its ends; none when nothing is left.
pub(crate) fn trim(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let piece = &text[range.clone()];
    let start = range.start + (piece.len() - piece.trim_start().len());
    let piece = piece.trim();
    (!piece.is_empty()).then(|| start..start + piece.len())
}

struct Counter<'a, E>(&'a dyn Fn(&str) -> Result<usize, E>);

impl<E> TryChunkSizer for Counter<'_, E> {
    type Error = E;

    fn try_size(&self, chunk: &str) -> Result<usize, E> {
        (self.0)(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(piece: &str) -> usize {
        piece.split_whitespace().count()
    }

    fn pieces<'a>(text: &'a str, limits: Limits, count: &dyn Fn(&str) -> usize) -> Vec<&'a str> {
        split(text, limits, count).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn limits_must_make_sense() {
        assert_eq!(Limits::new(0), Err(Error::NoRoom));
        let limits = Limits::new(4).unwrap();
        assert!(limits.with_overlap(3).is_ok());
        assert_eq!(limits.with_overlap(4), Err(Error::Overlap { overlap: 4, max_tokens: 4 }));
    }

    #[test]
    fn nothing_gives_nothing() {
        let limits = Limits::new(5).unwrap();
        assert!(split("", limits, &words).is_empty());
        assert!(split(" \n\t\u{3000}\r\n ", limits, &words).is_empty());
    }

    #[test]
    fn paragraphs_stay_whole() {
        let text = "One two three. Four.\n\nFive six. Seven eight.";
        let limits = Limits::new(5).unwrap();
        assert_eq!(pieces(text, limits, &words), ["One two three. Four.", "Five six. Seven eight."]);
    }

    #[test]
    fn sentences_stay_whole() {
        let limits = Limits::new(5).unwrap();
        let text = "It costs 3.5 euros. That is much! Is it?";
        assert_eq!(pieces(text, limits, &words), ["It costs 3.5 euros.", "That is much! Is it?"]);
    }

    #[test]
    fn chinese_and_japanese_sentences_stay_whole() {
        let limits = Limits::new(12).unwrap();
        let chars = |piece: &str| piece.chars().count();
        let text = "数据库很重要。我们每天都用它。你知道吗？";
        assert_eq!(pieces(text, limits, &chars), ["数据库很重要。", "我们每天都用它。", "你知道吗？"]);
        let text = "猫が好きです。犬も好きです。";
        assert_eq!(pieces(text, limits, &chars), ["猫が好きです。", "犬も好きです。"]);
    }

    #[test]
    fn one_endless_word_is_cut() {
        let text = "x".repeat(10_000);
        let ranges = split(&text, Limits::new(300).unwrap(), &str::len);
        assert_eq!(ranges.len(), 34);
        assert_eq!(ranges.iter().map(ExactSizeIterator::len).sum::<usize>(), text.len());
    }

    #[test]
    fn characters_of_any_width_are_parted() {
        for text in ["A\u{10f70}", "\u{10f70}A", "\u{10f70}\u{10f70}"] {
            let limits = Limits::new(1).unwrap();
            assert_eq!(pieces(text, limits, &|piece| piece.chars().count()).len(), 2, "{text}");
            let mut ranges = Vec::new();
            halve::<()>(text, 0..text.len(), 1, &|piece| Ok(piece.chars().count()), &mut ranges).unwrap();
            assert_eq!(ranges.len(), 2, "{text}");
        }
    }

    #[test]
    fn overlap_repeats_the_end() {
        let limits = Limits::new(4).unwrap().with_overlap(1).unwrap();
        assert_eq!(pieces("a b c d e f g", limits, &words), ["a b c d", "d e f g"]);
    }

    #[test]
    fn the_counter_can_fail() {
        let result = try_split("a b", Limits::new(1).unwrap(), &|_| Err("stop"));
        assert_eq!(result, Err("stop"));
    }

    /// As tokenizers of words: a long word is one unknown token, a shorter one many; two tokens for the frame.
    fn like_wordpiece(piece: &str) -> usize {
        let word = |word: &str| if word.chars().count() > 20 { 1 } else { word.chars().count().div_ceil(3) };
        2 + piece.split_whitespace().map(word).sum::<usize>()
    }

    fn check(
        text: &str,
        max_tokens: usize,
        overlap: usize,
        count: &dyn Fn(&str) -> usize,
    ) -> Result<(), TestCaseError> {
        let limits = Limits::new(max_tokens).unwrap();
        let limits = limits.with_overlap(overlap).unwrap_or(limits);
        let ranges = split(text, limits, count);
        let mut covered = 0;
        for range in &ranges {
            // Slicing panics off character boundaries.
            let piece = &text[range.clone()];
            prop_assert!(!piece.is_empty() && piece.trim() == piece);
            prop_assert!(count(piece) <= max_tokens || piece.chars().count() == 1, "{piece:?}");
            prop_assert!(range.end > covered, "{ranges:?}");
            let gap = text.get(covered..range.start).unwrap_or("");
            prop_assert!(gap.trim().is_empty(), "lost {gap:?}");
            prop_assert!(limits.overlap > 0 || range.start >= covered, "{ranges:?}");
            covered = range.end;
        }
        prop_assert!(text[covered..].trim().is_empty());
        Ok(())
    }

    proptest! {
        #[test]
        fn any_text_any_limits(text in "\\PC*|[a-c .\n]{0,200}|[ab\u{301}👩‍👩‍👧。！\n　]{0,80}", max in 1usize..12, overlap in 0usize..12) {
            check(&text, max, overlap, &|piece| piece.chars().count())?;
            check(&text, max, overlap, &words)?;
        }

        #[test]
        fn counters_that_are_not_monotonic(text in "[a-z]{1,60}( [a-z]{1,40}\\.?){0,30}", max in 1usize..20, overlap in 0usize..5) {
            check(&text, max, overlap, &like_wordpiece)?;
        }
    }
}
