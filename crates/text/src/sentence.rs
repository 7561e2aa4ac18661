//! Whole sentences, as many as fit.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use crate::chunk::{Limits, trim, try_split};

/// As [`try_split`], but a passage is a run of whole sentences (Unicode's, so Chinese and Japanese ones too) and
/// ends inside one only when that alone is too long. It overlaps the one before by whole sentences.
pub(crate) fn try_split_sentences<E>(
    text: &str,
    limits: Limits,
    count: &dyn Fn(&str) -> Result<usize, E>,
) -> Result<Vec<Range<usize>>, E> {
    let mut passages = Vec::new();
    let mut sentences: Vec<Range<usize>> = Vec::new();
    let span = |run: &[Range<usize>]| run[0].start..run[run.len() - 1].end;
    for (start, sentence) in text.split_sentence_bound_indices() {
        let Some(next) = trim(text, start..start + sentence.len()) else { continue };
        if let Some(first) = sentences.first()
            && count(&text[first.start..next.end])? > limits.max_tokens()
        {
            passages.push(span(&sentences));
            let repeated = repeated(text, &sentences, &next, limits, count)?;
            sentences.drain(..sentences.len() - repeated);
        }
        if sentences.is_empty() && count(&text[next.clone()])? > limits.max_tokens() {
            let pieces = try_split(&text[next.clone()], limits, count)?;
            passages.extend(pieces.into_iter().map(|p| p.start + next.start..p.end + next.start));
            continue;
        }
        sentences.push(next);
    }
    if !sentences.is_empty() {
        passages.push(span(&sentences));
    }
    Ok(passages)
}

/// How many of the last `sentences` may stand again before `next`.
fn repeated<E>(
    text: &str,
    sentences: &[Range<usize>],
    next: &Range<usize>,
    limits: Limits,
    count: &dyn Fn(&str) -> Result<usize, E>,
) -> Result<usize, E> {
    let end = sentences[sentences.len() - 1].end;
    let mut repeated = 0;
    // Not all of them: the passage before would only be repeated.
    for sentence in sentences[1..].iter().rev() {
        let tokens = count(&text[sentence.start..end])?;
        if tokens > limits.overlap() || count(&text[sentence.start..next.end])? > limits.max_tokens() {
            break;
        }
        repeated += 1;
    }
    Ok(repeated)
}
