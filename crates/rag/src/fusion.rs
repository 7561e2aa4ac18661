//! What meaning and words say of a passage, in one score.
//!
//! Ranks throw away how sure each side is, and a model that cannot read the question is as sure of its ranks as any other.
//! Here every candidate has both scores, whichever side found it, each on a scale from 0 (no more than any passage has) to
//! 1 (all that the question asks), and the vector's counts by how much of the question its model can read.

/// Tokens in a row that a phrase takes: with one of them unknown, its meaning is lost.
const PHRASE: i32 = 4;

/// How much a model's vector of a text is worth when it knows this share of its tokens: the chance to read a phrase whole.
pub fn trust(known_share: f64) -> f64 {
    known_share.clamp(0.0, 1.0).powi(PHRASE)
}

/// The score of a passage: the mean of what `cosine` says, weighted by `trust` (0 to 1), and what `text` says (a share, see
/// [`crate::bm25`]; none where the question has no words to look up, and the vector is all there is). `floor` is the cosine of the least similar candidate, which stands for a passage taken at random:
/// models differ in where that lies.
pub fn fuse(cosine: f64, floor: f64, trust: f64, text: Option<f64>) -> f64 {
    let room = 1.0 - floor;
    let meaning = if room > 0.0 { ((cosine - floor) / room).clamp(0.0, 1.0) } else { 0.0 };
    text.map_or(meaning, |text| (trust * meaning + text) / (trust + 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_model_that_cannot_read_is_not_heard() {
        assert_eq!(fuse(0.9, 0.1, trust(0.0), Some(0.3)), 0.3);
        assert!((fuse(0.55, 0.1, trust(0.0), None) - 0.5).abs() < 1e-12);
        let half = trust(0.5);
        assert!(fuse(1.0, 0.0, half, Some(0.3)) < fuse(0.0, 0.0, half, Some(0.4)));
        assert!(fuse(1.0, 0.0, trust(1.0), Some(0.3)) > fuse(0.0, 0.0, trust(1.0), Some(0.9)));
    }

    proptest! {
        #[test]
        fn order_does_not_depend_on_where_a_model_s_cosines_lie(
            a in (-1.0f64..1.0, 0.0f64..1.0), b in (-1.0f64..1.0, 0.0f64..1.0), shift in 0.1f64..1.0) {
            let floor = a.0.min(b.0);
            // Another model whose cosines all lie near 1.
            let near = |cosine: f64| 1.0 - (1.0 - cosine) * shift;
            let scores = [a, b].map(|(cosine, text)| fuse(cosine, floor, 1.0, Some(text)));
            let moved = [a, b].map(|(cosine, text)| fuse(near(cosine), near(floor), 1.0, Some(text)));
            prop_assert!((scores[0] - moved[0]).abs() < 1e-9 && (scores[1] - moved[1]).abs() < 1e-9);
        }
    }
}
