//! Drafts: answers often quote what was read, so what followed the last few tokens before may follow again
//! (prompt lookup, Saxena 2023). The model reads a draft in one pass and decides on every token of it itself.

/// Tokens at the end of the text that are looked up, at most and at least.
const LONGEST: usize = 6;
const SHORTEST: usize = 2;
/// Most tokens of a draft: with the last token they pass through the weights together, for about the price of one.
const MOST: usize = 7;
/// Tokens of the first draft.
const FIRST: usize = 3;

/// Proposes tokens, more of them the better the last proposals were.
pub struct Drafter {
    length: usize,
}

impl Drafter {
    /// A drafter that has seen nothing.
    pub fn new() -> Self {
        Self { length: FIRST }
    }

    /// What may follow `text`, at most `room` tokens; often nothing.
    pub fn propose<'a>(&self, text: &'a [u32], room: usize) -> &'a [u32] {
        let wanted = self.length.min(room);
        let Some(start) = continuation(text).filter(|_| wanted > 0) else { return &[] };
        &text[start..(start + wanted).min(text.len())]
    }

    /// Learns that `accepted` of `proposed` tokens came.
    pub fn learn(&mut self, proposed: usize, accepted: usize) {
        if proposed > 0 {
            self.length = if accepted == proposed { (self.length * 2).min(MOST) } else { accepted.max(1) };
        }
    }
}

/// Where the text goes on after the latest place that ends like the text itself; the longest ending counts.
fn continuation(text: &[u32]) -> Option<usize> {
    let last = *text.last()?;
    let mut best = (SHORTEST - 1, None);
    for end in (1..text.len()).rev().filter(|&end| text[end - 1] == last) {
        let (before, all) = (text[..end].iter().rev(), text.iter().rev());
        let same = before.zip(all).take(LONGEST).take_while(|(a, b)| a == b).count();
        if same > best.0 {
            best = (same, Some(end));
        }
        if same == LONGEST {
            break;
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_latest_ending_is_continued() {
        assert_eq!(Drafter::new().propose(&[1, 2, 3, 4, 5, 6, 1, 2, 3], 9), [4, 5, 6]);
        assert_eq!(Drafter::new().propose(&[1, 2, 3, 9, 2, 3, 8, 7, 2, 3], 2), [8, 7]);
        assert_eq!(Drafter::new().propose(&[0, 1, 2, 3, 9, 4, 2, 3, 8, 1, 2, 3], 1), [9]);
        // A repetition continues into itself.
        assert_eq!(Drafter::new().propose(&[5, 5, 5], 9), [5]);
    }

    #[test]
    fn no_draft_without_a_likeness_or_room() {
        for text in [&[][..], &[1], &[1, 2, 3], &[3, 1, 3]] {
            assert!(Drafter::new().propose(text, 9).is_empty(), "{text:?}");
        }
        assert!(Drafter::new().propose(&[1, 2, 3, 1, 2], 0).is_empty());
    }

    #[test]
    fn drafts_grow_with_success_and_shrink_without() {
        let text: Vec<u32> = (0..20).chain(0..3).collect();
        let mut drafter = Drafter::new();
        let length = |d: &Drafter| d.propose(&text, 99).len();
        drafter.learn(3, 3);
        assert_eq!(length(&drafter), 6);
        drafter.learn(6, 6);
        assert_eq!(length(&drafter), MOST);
        drafter.learn(7, 2);
        assert_eq!(length(&drafter), 2);
        drafter.learn(2, 0);
        drafter.learn(0, 0);
        assert_eq!(length(&drafter), 1);
    }
}
