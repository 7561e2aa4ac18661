//! One of some labels for a text.

use crate::Turn;

/// A text that says nothing: what a model answers to it is what it would answer to any (Zhao et al. 2021).
pub const NOTHING: &str = "N/A";

/// Cosine similarities lie near each other; this makes them as sure as logarithms of probabilities are.
const COSINE_SCALE: f64 = 20.0;

/// What asks for the label of `content`.
pub fn turns(content: &str, labels: &[&str], instruction: Option<&str>) -> Vec<Turn> {
    let before = instruction.map_or_else(String::new, |text| format!("{text}\n"));
    let list = labels.join("\n");
    let system = format!(
        "{before}Which of these labels fits the user's text best? Reply with the label alone.\nLabels:\n{list}"
    );
    vec![Turn::system(system), Turn::user(format!("Text: {content}\nLabel:"))]
}

/// The score of a label by the vectors of the text and of the label, both of length 1.
pub fn nearness(content: &[f32], label: &[f32]) -> f64 {
    let product: f64 = content.iter().zip(label).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    COSINE_SCALE * product
}

/// Probabilities that are in proportion to e to the power of `scores`.
pub fn probabilities(scores: &[f64]) -> Vec<f64> {
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|s| if *s == max { 1.0 } else { (s - max).exp() }).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|w| w / total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one_and_keep_the_order() {
        let p = probabilities(&[-700.0, -701.0, f64::NEG_INFINITY]);
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((p[0] / p[1] - 1f64.exp()).abs() < 1e-9 && p[2] == 0.0);
        assert_eq!(probabilities(&[f64::NEG_INFINITY; 2]), [0.5, 0.5]);
        assert!(probabilities(&[]).is_empty());
    }

    #[test]
    fn the_nearer_label_has_the_higher_score() {
        assert!(nearness(&[1.0, 0.0], &[0.8, 0.6]) > nearness(&[1.0, 0.0], &[0.6, 0.8]));
    }
}
