//! BM25 (Robertson and Zaragoza, 2009): how much of what a question asks a passage has, word by word.

/// How soon a word's repetitions stop to count.
const K1: f64 = 1.2;
/// How much a passage's length counts against it.
const B: f64 = 0.75;

/// Passages in which a word that the collection's texts use is likely to stand.
const ENOUGH_PASSAGES: f64 = 1000.0;

/// A question's words with what a collection knows of them.
#[derive(Debug, Clone)]
pub struct Question {
    /// Weight of each word: how rare it is, as often as the question says it.
    weights: Vec<f64>,
    total: f64,
    average_length: f64,
}

impl Question {
    /// `said[i]` times stands word `i` in the question, in `holders[i]` of the collection's `passages` it is found;
    /// `average_length` is that of the passages, in words.
    pub fn new(said: &[i32], holders: &[i64], passages: f64, average_length: f64) -> Self {
        let weight = |(said, holders): (&i32, &i64)| {
            let holders = *holders as f64;
            // Counts and sizes are of different moments: no word is in more passages than there are.
            let passages = passages.max(holders);
            f64::from(*said) * (1.0 + (passages - holders + 0.5) / (holders + 0.5)).ln()
        };
        let weights: Vec<f64> = said.iter().zip(holders).map(weight).collect();
        let total = weights.iter().sum();
        Self { weights, total, average_length: average_length.max(1.0) }
    }

    /// The BM25 score of a passage of `length` words that has word `i` `counts[i]` times, as a share of the most that any
    /// passage could have: from 0 to 1, so that scores of several collections and questions can be compared.
    pub fn score(&self, counts: &[i32], length: i32) -> f64 {
        if self.total <= 0.0 {
            return 0.0;
        }
        let saturation = K1 * (1.0 - B + B * f64::from(length) / self.average_length);
        let gain = |(weight, count): (&f64, &i32)| {
            let count = f64::from(*count);
            if count > 0.0 { weight * count / (count + saturation) } else { 0.0 }
        };
        self.weights.iter().zip(counts).map(gain).sum::<f64>() / self.total
    }

    /// Share of the question's weight that lies in words which none of the collection's `passages` has, less where there are
    /// fewer than a thousand: a word can be missing from few passages by chance. `counts` tells whether word `i` is one that
    /// collections use to have: pairs of characters go across words, and few of them are in any text.
    pub fn unknown_share(&self, holders: &[i64], passages: f64, counts: impl Fn(usize) -> bool) -> f64 {
        let counted = || self.weights.iter().zip(holders).enumerate().filter(|(i, _)| counts(*i));
        let total: f64 = counted().map(|(_, (weight, _))| weight).sum();
        let unknown: f64 =
            counted().filter(|(_, (_, holders))| **holders == 0).map(|(_, (weight, _))| weight).sum();
        let certainty = (passages.max(1.0).ln() / ENOUGH_PASSAGES.ln()).min(1.0);
        if total > 0.0 { certainty * unknown / total } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn is_the_textbook_s_formula() {
        let question = Question::new(&[1, 2], &[3, 10], 100.0, 50.0);
        let idf = |n: f64| (1.0 + (100.0 - n + 0.5) / (n + 0.5)).ln();
        let part = |count: f64| count / (count + 1.2 * (1.0 - 0.75 + 0.75 * 80.0 / 50.0));
        let most = idf(3.0) + 2.0 * idf(10.0);
        let expected = (idf(3.0) * part(4.0) + 2.0 * idf(10.0) * part(1.0)) / most;
        assert!((question.score(&[4, 1], 80) - expected).abs() < 1e-12);
    }

    #[test]
    fn without_words_nothing_is_found() {
        assert_eq!(Question::new(&[], &[], 10.0, 5.0).score(&[], 3), 0.0);
        assert_eq!(Question::new(&[1], &[2], 10.0, 5.0).score(&[0], 3), 0.0);
    }

    #[test]
    fn words_of_no_passage_are_told_of() {
        let holders = [3, 0, 0];
        let share = |passages: f64, counts: fn(usize) -> bool| {
            Question::new(&[1, 1, 1], &holders, passages, 50.0).unknown_share(&holders, passages, counts)
        };
        assert!((0.6..1.0).contains(&share(1000.0, |_| true)));
        assert!(share(5.0, |_| true) < 0.3);
        assert_eq!(share(1000.0, |i| i == 0), 0.0);
        assert_eq!(share(1000.0, |_| false), 0.0);
    }

    proptest! {
        #[test]
        fn is_a_share(words in prop::collection::vec((1i32..4, 0i64..2000, 0i32..300), 0..12),
                      passages in 0.0f64..1000.0, average in 0.0f64..500.0, length in 0i32..20_000) {
            let (said, rest): (Vec<i32>, Vec<(i64, i32)>) = words.into_iter().map(|(s, h, c)| (s, (h, c))).unzip();
            let (holders, counts): (Vec<i64>, Vec<i32>) = rest.into_iter().unzip();
            let score = Question::new(&said, &holders, passages, average).score(&counts, length);
            prop_assert!((0.0..=1.0).contains(&score), "{score}");
        }
    }
}
