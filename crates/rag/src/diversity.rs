//! Passages that differ: maximal marginal relevance (Carbonell and Goldstein 1998).

use std::collections::HashSet;

use crate::words::words;

/// The order of `contents` (best first) that takes next each time the greatest (1 − `diversity`) · score − `diversity` ·
/// similarity to the most similar one taken. Scores are scaled to 0…1 over all; similarity is the cosine of the sets of
/// words. `check` is asked once for each.
///
/// # Errors
/// The first error of `check`.
pub fn order<E>(
    contents: &[&str],
    scores: &[f64],
    diversity: f64,
    mut check: impl FnMut() -> Result<(), E>,
) -> Result<Vec<usize>, E> {
    let said: Vec<HashSet<String>> = contents.iter().map(|c| words(c)).collect();
    let (low, high) =
        scores.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &s| (l.min(s), h.max(s)));
    let score = |i: usize| {
        let share = (scores.get(i).copied().unwrap_or(low) - low) / (high - low);
        if share.is_finite() { share } else { 1.0 }
    };
    let mut left: Vec<usize> = (0..contents.len()).collect();
    let mut nearest = vec![0.0_f64; contents.len()];
    let mut ordered = Vec::with_capacity(contents.len());
    while !left.is_empty() {
        check()?;
        let merit = |i: usize| (1.0 - diversity) * score(i) - diversity * nearest[i];
        // The first of equals.
        let at =
            (1..left.len()).fold(0, |best, at| if merit(left[at]) > merit(left[best]) { at } else { best });
        let taken = left.remove(at);
        for &i in &left {
            nearest[i] = nearest[i].max(cosine(&said[taken], &said[i]));
        }
        ordered.push(taken);
    }
    Ok(ordered)
}

fn cosine(a: &HashSet<String>, b: &HashSet<String>) -> f64 {
    let shared = a.intersection(b).count() as f64;
    let length = (a.len() as f64 * b.len() as f64).sqrt();
    if length > 0.0 { shared / length } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_the_same_comes_later() {
        let contents = ["green tea at 70 degrees", "green tea at 70 degrees, always", "black tea boils", ""];
        let by = |diversity| order(&contents, &[9.0, 8.9, 5.0, 1.0], diversity, || Ok::<_, ()>(())).unwrap();
        assert_eq!(by(0.0), [0, 1, 2, 3]);
        assert_eq!(by(0.5), [0, 2, 1, 3]);
        assert_eq!(by(1.0), [0, 3, 2, 1]);
    }

    #[test]
    fn equal_scores_keep_their_order_and_a_check_stops() {
        let same = order(&["a", "b"], &[1.0, 1.0], 0.3, || Ok::<_, ()>(())).unwrap();
        assert_eq!(same, [0, 1]);
        assert_eq!(order(&["a"], &[1.0], 0.3, || Err("stop")), Err("stop"));
        assert!(order(&[], &[], 0.3, || Err("stop")).unwrap().is_empty());
    }
}
