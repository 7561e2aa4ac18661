//! Beam search, as Hugging Face's transformers does it: the likeliest texts of all that are one token longer go on.

use crate::Result;

/// How to search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beams {
    /// Texts that go on at the same time; 1 is greedy.
    pub count: usize,
    /// The score of a finished text is its logarithmic probability over its length to this power.
    pub length_penalty: f64,
    /// Whether to stop as soon as `count` texts are finished; otherwise when none can become better.
    pub stop_early: bool,
}

/// What may be written, by the model's convention.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rules {
    /// Tokens that end a text.
    pub ends: Vec<u32>,
    /// The first token, whatever the model says.
    pub first: Option<u32>,
    /// The token at the end of a text that may not get longer.
    pub last: Option<u32>,
    /// Tokens that are never written.
    pub never: Vec<u32>,
    /// No sequence of so many tokens is written twice; 0 allows it.
    pub no_repeat: usize,
    /// No text ends before so many tokens, the one that it starts after counted, as transformers counts.
    pub min_tokens: usize,
}

/// A text on its way.
struct Beam<S> {
    ids: Vec<u32>,
    score: f64,
    state: S,
    logits: Vec<f32>,
}

/// The best text of at most `max_tokens` tokens, the end token included. `logits` are those of the first token, after
/// which `state` stands; `step` adds a token to a state and gives the logits after it.
///
/// # Errors
/// What `step` says.
pub fn search<S: Clone>(
    state: S,
    logits: Vec<f32>,
    max_tokens: usize,
    beams: Beams,
    rules: &Rules,
    mut step: impl FnMut(u32, &mut S) -> Result<Vec<f32>>,
) -> Result<Vec<u32>> {
    let worth = |score: f64, length: usize| score / (length as f64).powf(beams.length_penalty);
    let mut alive = vec![Beam { ids: Vec::new(), score: 0.0, state, logits }];
    let mut finished: Vec<(f64, Vec<u32>)> = Vec::new();
    for length in 1..=max_tokens {
        let mut next: Vec<(f64, usize, u32)> = Vec::new();
        for (i, beam) in alive.iter().enumerate() {
            let logprobs = rules.apply(&beam.ids, &beam.logits, max_tokens);
            // Twice as many, so that enough remain when all of `count` end here.
            next.extend(best(&logprobs, 2 * beams.count).into_iter().map(|(id, p)| (beam.score + p, i, id)));
        }
        next.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let mut going = Vec::new();
        for (rank, &(score, i, id)) in next.iter().take(2 * beams.count).enumerate() {
            if rules.ends.contains(&id) {
                if rank < beams.count {
                    finished.push((worth(score, length), [&alive[i].ids[..], &[id]].concat()));
                }
            } else if going.len() < beams.count {
                going.push((score, i, id));
            }
        }
        finished.sort_by(|a, b| b.0.total_cmp(&a.0));
        finished.truncate(beams.count);
        let is_full = finished.len() >= beams.count;
        let hope = going.first().map_or(f64::NEG_INFINITY, |&(score, ..)| worth(score, length));
        let worst = finished.last().map_or(f64::NEG_INFINITY, |&(score, _)| score);
        if going.is_empty() || (is_full && (beams.stop_early || worst >= hope)) {
            break;
        }
        if length == max_tokens {
            // Texts that are not at their end count, too.
            finished.extend(
                going
                    .iter()
                    .map(|&(score, i, id)| (worth(score, length), [&alive[i].ids[..], &[id]].concat())),
            );
            break;
        }
        let mut longer = Vec::new();
        for (score, i, id) in going {
            let mut state = alive[i].state.clone();
            let logits = step(id, &mut state)?;
            longer.push(Beam { ids: [&alive[i].ids[..], &[id]].concat(), score, state, logits });
        }
        alive = longer;
    }
    finished.sort_by(|a, b| b.0.total_cmp(&a.0));
    Ok(finished.into_iter().next().map_or_else(Vec::new, |(_, ids)| ids))
}

impl Rules {
    /// The only token that may come after `ids` in a text of at most `max_tokens`, where there is one.
    pub fn forced(&self, ids: &[u32], max_tokens: usize) -> Option<u32> {
        let last = self.last.filter(|_| ids.len() + 1 == max_tokens);
        self.first.filter(|_| ids.is_empty()).or(last)
    }

    /// Logarithmic probabilities of the tokens that may come after `ids`; -∞ for the others.
    fn apply(&self, ids: &[u32], logits: &[f32], max_tokens: usize) -> Vec<f64> {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total = logits.iter().map(|&x| f64::from(x - max).exp()).sum::<f64>().ln();
        let mut out: Vec<f64> = logits.iter().map(|&x| f64::from(x - max) - total).collect();
        if let Some(forced) = self.forced(ids, max_tokens) {
            out.iter_mut()
                .enumerate()
                .for_each(|(i, p)| *p = if i as u32 == forced { 0.0 } else { f64::NEG_INFINITY });
            return out;
        }
        let mut forbid = |id: u32| {
            if let Some(p) = out.get_mut(id as usize) {
                *p = f64::NEG_INFINITY;
            }
        };
        self.never.iter().for_each(|&id| forbid(id));
        if ids.len() + 1 < self.min_tokens {
            self.ends.iter().for_each(|&id| forbid(id));
        }
        if let Some(before) = self.no_repeat.checked_sub(1).filter(|&n| ids.len() >= n) {
            let end = &ids[ids.len() - before..];
            let repeats = ids.windows(self.no_repeat).filter(|window| &window[..before] == end);
            repeats.for_each(|window| forbid(window[before]));
        }
        out
    }
}

/// The `count` likeliest tokens, the first of equals first; impossible ones are none.
fn best(logprobs: &[f64], count: usize) -> Vec<(u32, f64)> {
    let mut top: Vec<(u32, f64)> = Vec::with_capacity(count + 1);
    for (id, &p) in (0..).zip(logprobs) {
        if p > f64::NEG_INFINITY && (top.len() < count || top.last().is_some_and(|&(_, last)| p > last)) {
            let at = top.partition_point(|&(_, q)| q >= p);
            top.insert(at, (id, p));
            top.truncate(count);
        }
    }
    top
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model of four tokens whose next depends on the last; 3 ends.
    fn run(count: usize, penalty: f64, rules: &Rules) -> Vec<u32> {
        let table: [[f32; 4]; 4] = [
            [0.05, 0.45, 0.40, 0.10],
            [0.30, 0.30, 0.30, 0.10],
            [0.01, 0.01, 0.03, 0.95],
            [0.25, 0.25, 0.25, 0.25],
        ];
        let logits = |id: u32| table[id as usize].iter().map(|p| p.ln()).collect::<Vec<f32>>();
        let beams = Beams { count, length_penalty: penalty, stop_early: false };
        search((), logits(0), 5, beams, rules, |id, ()| Ok(logits(id))).unwrap()
    }

    fn ends() -> Rules {
        Rules { ends: vec![3], ..Rules::default() }
    }

    #[test]
    fn one_beam_is_greedy_and_two_see_further() {
        // Greedy takes 1 (0.45), then 0, the first of equals, and so on.
        assert_eq!(run(1, 1.0, &ends()), [1, 0, 1, 0, 1]);
        // 2, 3 has 0.40 · 0.95.
        assert_eq!(run(2, 1.0, &ends()), [2, 3]);
    }

    #[test]
    fn rules_hold() {
        assert_eq!(run(2, 1.0, &Rules { first: Some(2), ..ends() }), [2, 3]);
        assert_eq!(run(1, 1.0, &Rules { first: Some(1), never: vec![0], ..ends() })[..2], [1, 1]);
        assert_eq!(run(1, 1.0, &Rules { last: Some(3), ..ends() }), [1, 0, 1, 0, 3]);
        assert!(run(2, 1.0, &Rules { min_tokens: 3, ..ends() }).len() >= 3);
        let text = run(1, 1.0, &Rules { no_repeat: 2, ..ends() });
        let pairs: std::collections::HashSet<&[u32]> = text.windows(2).collect();
        assert_eq!(pairs.len(), text.len() - 1);
        assert!(!run(3, 1.0, &Rules { never: vec![2], ..ends() }).contains(&2));
    }

    #[test]
    fn nothing_possible_is_an_empty_text() {
        let rules = Rules { never: vec![0, 1, 2, 3], ..ends() };
        assert!(run(2, 1.0, &rules).is_empty());
    }
}
