//! Passages by how likely a language model asks the question after reading them (query likelihood, Ponte and Croft 1998; of
//! language models: Sachan et al. 2022, "Improving passage retrieval with zero-shot question generation").

use crate::Message;

/// What the likelihood of the question counts beside the score that a passage has.
const WEIGHT: f64 = 0.4;

/// Bytes of a passage that a model reads: the part with most of the question's words tells as much as all of it.
pub const PART: usize = 160;

/// What is asked about a passage; how likely the question is as the reply tells how well the passage answers it.
pub fn messages(passage: &str) -> Vec<Message> {
    // The instruction stands before the passage: what all prompts begin with is read once.
    let message = |role, content: &str| Message { role, content: content.to_owned() };
    vec![message("system", "Write a question that the text answers."), message("user", passage)]
}

/// Scores from 0 to 1 of passages that have `scores` of that kind so far, given the logarithms of how likely the question is
/// after each: these say which of the passages fits better, not how well, and are taken from the least (0) to the most likely (1).
pub fn fuse(scores: &[f64], likelihoods: &[f64]) -> Vec<f64> {
    let (low, high) =
        likelihoods.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &x| (l.min(x), h.max(x)));
    let share = |x: f64| if high > low { (x - low) / (high - low) } else { 0.0 };
    let both = scores.iter().zip(likelihoods);
    both.map(|(score, &x)| (score + WEIGHT * share(x)) / (1.0 + WEIGHT)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likelihoods_decide_between_passages_that_are_as_good() {
        let fused = fuse(&[0.5, 0.5, 0.8], &[-30.0, -20.0, -40.0]);
        assert!(fused[1] > fused[0] && fused[1] > fused[2], "{fused:?}");
        assert!(fused.iter().all(|score| (0.0..=1.0).contains(score)));
        assert!((fuse(&[0.7], &[-9.0])[0] - 0.5).abs() < 1e-12);
        assert!(fuse(&[], &[]).is_empty());
    }

    #[test]
    fn a_passage_is_asked_about_as_it_is() {
        let [asked, other] = ["a {{ b }}", "c"].map(messages);
        assert_eq!((asked[1].content.as_str(), &asked[0]), ("a {{ b }}", &other[0]));
    }
}
