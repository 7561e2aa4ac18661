//! Which passages a model reads: how many of them, and what fits into the part of the model's window that is theirs.

use crate::Passage;

/// Tokens that a passage's number and line breaks take in the prompt, at most.
const FRAME_TOKENS: usize = 8;

/// Passages that a model reads at first, where there are so many.
const AT_FIRST: usize = 3;

/// How a model is asked once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// The passages that it reads, the best ones.
    pub read: usize,
    /// Whether the question stands before them as well as after them.
    pub question_first: bool,
}

/// How a model is asked about `passages` (best first), one attempt after the other until what it says is supported: the better
/// half, but three at least, the same with the question before them, too, then all, then the best alone. Small models get
/// lost between passages.
pub fn attempts(passages: usize) -> Vec<Attempt> {
    let first = passages.div_ceil(2).max(AT_FIRST).min(passages);
    let mut attempts = vec![
        Attempt { read: first, question_first: false },
        Attempt { read: first, question_first: true },
        Attempt { read: passages, question_first: false },
        Attempt { read: 1.min(passages), question_first: false },
    ];
    let mut seen = Vec::new();
    attempts.retain(|attempt| {
        let new = attempt.read > 0 && !seen.contains(attempt);
        seen.push(*attempt);
        new
    });
    attempts
}

/// The longest prefix of `passages` (best first) that fits into `budget` tokens, each kept whole.
///
/// A passage that does not fit is left out and a later, shorter one may still go in. Only when not even one
/// fits is the best passage cut, at a word's end where there is one. `count` gives the tokens of a text.
///
/// # Errors
/// The first error of `count`.
pub fn pack<E>(
    passages: &[Passage],
    budget: usize,
    mut count: impl FnMut(&str) -> Result<usize, E>,
) -> Result<Vec<Passage>, E> {
    let mut left = budget;
    let mut packed = Vec::new();
    for passage in passages {
        let tokens = cost(passage, &mut count)?;
        if tokens <= left {
            left -= tokens;
            packed.push(passage.clone());
        }
    }
    match passages.first() {
        Some(best) if packed.is_empty() => Ok(cut(best, budget, &mut count)?.into_iter().collect()),
        _ => Ok(packed),
    }
}

fn cost<E>(passage: &Passage, count: &mut impl FnMut(&str) -> Result<usize, E>) -> Result<usize, E> {
    let title = passage.title.as_deref().map_or(Ok(0), &mut *count)?;
    Ok(title + count(&passage.content)? + FRAME_TOKENS)
}

/// The longest beginning of `passage` that costs at most `budget`, found by bisection; none if even one
/// character costs more.
fn cut<E>(
    passage: &Passage,
    budget: usize,
    count: &mut impl FnMut(&str) -> Result<usize, E>,
) -> Result<Option<Passage>, E> {
    let ends: Vec<usize> = passage.content.char_indices().map(|(i, c)| i + c.len_utf8()).collect();
    let (mut fits, mut too_long) = (0, ends.len() + 1);
    while too_long - fits > 1 {
        let middle = fits.midpoint(too_long);
        let beginning =
            Passage { content: passage.content[..ends[middle - 1]].to_owned(), ..passage.clone() };
        if cost(&beginning, count)? <= budget { fits = middle } else { too_long = middle }
    }
    if fits == 0 {
        return Ok(None);
    }
    let text = &passage.content[..ends[fits - 1]];
    let text = match text.rfind(char::is_whitespace) {
        Some(end) if fits < ends.len() && end > 0 => &text[..end],
        _ => text,
    };
    Ok(Some(Passage { content: text.to_owned(), ..passage.clone() }))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Result<usize, Infallible> {
        Ok(text.split_whitespace().count())
    }

    fn passage(content: &str) -> Passage {
        Passage { title: None, content: content.to_owned() }
    }

    #[test]
    fn the_better_half_is_read_first() {
        // Negative: with the question first.
        let expected: [(usize, &[i32]); 6] = [
            (0, &[]),
            (1, &[1, -1]),
            (2, &[2, -2, 1]),
            (3, &[3, -3, 1]),
            (5, &[3, -3, 5, 1]),
            (9, &[5, -5, 9, 1]),
        ];
        for (passages, read) in expected {
            let signed = |a: Attempt| if a.question_first { -(a.read as i32) } else { a.read as i32 };
            assert_eq!(attempts(passages).into_iter().map(signed).collect::<Vec<_>>(), read);
        }
    }

    #[test]
    fn keeps_the_best_whole_and_fills_up_with_shorter_ones() {
        let passages = [passage("a b c d"), passage(&"long ".repeat(50)), passage("e f")];
        let packed = pack(&passages, 12 + 10, words).unwrap();
        assert_eq!(packed, [passages[0].clone(), passages[2].clone()]);
    }

    #[test]
    fn cuts_the_best_at_a_word_when_nothing_fits() {
        let packed = pack(&[passage("one two three four")], FRAME_TOKENS + 2, words).unwrap();
        assert_eq!(packed, [passage("one two")]);
    }

    #[test]
    fn gives_nothing_for_no_budget() {
        assert!(pack(&[passage("one")], FRAME_TOKENS, words).unwrap().is_empty());
        assert!(pack(&[], 100, words).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn never_exceeds_the_budget(texts in prop::collection::vec("\\PC{0,80}", 0..6), budget in 0usize..200) {
            let chars = |t: &str| Ok::<_, Infallible>(t.chars().count());
            let passages: Vec<Passage> = texts.iter().map(|t| passage(t)).collect();
            let packed = pack(&passages, budget, chars).unwrap();
            let total: usize = packed.iter().map(|p| cost(p, &mut { chars }).unwrap()).sum();
            prop_assert!(total <= budget);
        }
    }
}
