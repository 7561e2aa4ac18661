//! Citations in an answer: `[1]`, `[2, 3]`, `[2][3]`.

/// `text` without its citations. Inside a sentence a number stays, without its brackets: a small model also writes "allows
/// [100] connections" for a plain number. A bracket with other content than numbers, commas and spaces is no citation.
pub fn without_citations(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, inside, after)) = next_bracket(rest) {
        kept.push_str(before);
        if numbers(inside).is_none() {
            kept.push('[');
            rest = &rest[before.len() + 1..];
            continue;
        }
        if after.trim_start().starts_with(char::is_lowercase) {
            kept.push_str(inside.trim());
        } else {
            kept.truncate(kept.trim_end_matches(' ').len());
        }
        rest = after;
    }
    kept.push_str(rest);
    kept
}

/// The numbers that `text` cites.
pub fn cited(text: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, inside, _)) = next_bracket(rest) {
        found.extend(numbers(inside).unwrap_or_default());
        rest = &rest[before.len() + 1..];
    }
    found
}

/// What stands before, inside and after the next pair of brackets.
fn next_bracket(text: &str) -> Option<(&str, &str, &str)> {
    let (before, bracket) = text.split_once('[')?;
    let (inside, after) = bracket.split_once(']')?;
    Some((before, inside, after))
}

/// The numbers of a bracket's inside, or none if anything else stands there.
fn numbers(inside: &str) -> Option<Vec<usize>> {
    // A number too long for usize is no passage either: it becomes 0, which is never valid.
    inside
        .split(',')
        .map(str::trim)
        .map(|n| {
            let digits = !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| n.parse().unwrap_or(0))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn citations_go_and_numbers_stay() {
        assert_eq!(without_citations("Yes [1]. No [7]."), "Yes. No.");
        assert_eq!(without_citations("Both [1, 2, 9][3]"), "Both");
        assert_eq!(without_citations("It allows [100] connections [1]."), "It allows 100 connections.");
    }

    #[test]
    fn tells_a_citation_from_other_brackets() {
        assert_eq!(cited("a[i] [2, 3] [99999999999999999999999]"), [2, 3, 0]);
        for text in ["", "a[i] = b", "integer[]", "[ ]", "[1", "ARRAY[1,x]", "]["] {
            assert_eq!((without_citations(text).as_str(), cited(text).len()), (text, 0));
        }
    }

    proptest! {
        #[test]
        fn any_brackets_are_read(text in "[\\[\\]0-9, a]{0,40}") {
            prop_assert!(without_citations(&text).len() <= text.len());
            cited(&text);
        }
    }
}
