//! Citations in an answer: `[1]`, `[2, 3]`, `[2][3]`.

/// `answer` without the citations of passages that do not exist (numbers beyond `passages`, or 0).
///
/// Inside a sentence such a number stays, without its brackets: there it was meant as a number.
/// A bracket with other content than numbers, commas and spaces is no citation and stays as it is.
pub fn keep_valid(answer: &str, passages: usize) -> String {
    let mut text = answer.to_owned();
    loop {
        // What is taken out of nested brackets can leave a new citation behind.
        let cleaned = clean(&text, passages);
        if cleaned == text {
            return text;
        }
        text = cleaned;
    }
}

/// Whether `answer` has a citation, or what looks like one.
pub fn cites(answer: &str) -> bool {
    answer
        .split('[')
        .skip(1)
        .filter_map(|rest| rest.split_once(']'))
        .any(|(inside, _)| numbers(inside).is_some())
}

fn clean(answer: &str, passages: usize) -> String {
    let mut kept = String::with_capacity(answer.len());
    let mut rest = answer;
    while let Some(open) = rest.find('[') {
        let (before, bracket) = rest.split_at(open);
        kept.push_str(before);
        let Some(close) = bracket.find(']') else {
            rest = bracket;
            break;
        };
        let (inside, after) = (&bracket[1..close], &bracket[close + 1..]);
        match numbers(inside) {
            Some(numbers) => {
                let valid: Vec<String> =
                    numbers.iter().filter(|n| (1..=passages).contains(n)).map(usize::to_string).collect();
                if valid.is_empty() && is_word(after) {
                    kept.push_str(inside.trim());
                } else if valid.is_empty() {
                    kept.truncate(kept.trim_end_matches(' ').len());
                } else {
                    kept.push_str(&format!("[{}]", valid.join(", ")));
                }
                rest = after;
            }
            None => {
                kept.push('[');
                rest = &bracket[1..];
            }
        }
    }
    kept.push_str(rest);
    kept
}

/// Whether the sentence goes on: a small model also writes "allows [100] connections" for a plain number.
fn is_word(after: &str) -> bool {
    after.trim_start().starts_with(char::is_lowercase)
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
    fn drops_what_was_never_retrieved() {
        assert_eq!(keep_valid("Yes [1]. No [7].", 2), "Yes [1]. No.");
        assert_eq!(keep_valid("Both [1, 2, 9][3]", 2), "Both [1, 2]");
        assert_eq!(keep_valid("[0] [99999999999999999999999]", 2), "");
    }

    #[test]
    fn keeps_a_number_inside_a_sentence() {
        assert_eq!(keep_valid("It allows [100] connections [1].", 2), "It allows 100 connections [1].");
    }

    #[test]
    fn tells_a_citation_from_other_brackets() {
        assert!(["Yes [1].", "a[i] [2, 3]"].into_iter().all(cites));
        assert!(!["", "Yes.", "a[i]", "integer[]", "[1", "]1["].into_iter().any(cites));
    }

    #[test]
    fn leaves_other_brackets_alone() {
        for text in ["a[i] = b", "integer[]", "[ ]", "[1", "ARRAY[1,x]", "[[1]]", "]["] {
            assert_eq!(keep_valid(text, 3), text);
        }
    }

    proptest! {
        #[test]
        fn a_second_pass_changes_nothing(text in "[\\[\\]0-9, a]{0,40}", n in 0usize..12) {
            let once = keep_valid(&text, n);
            prop_assert_eq!(keep_valid(&once, n), once.clone());
            for word in once.split('[').skip(1).filter_map(|w| w.split_once(']')).filter_map(|(i, _)| numbers(i)) {
                prop_assert!(word.iter().all(|k| (1..=n).contains(k)));
            }
        }
    }
}
