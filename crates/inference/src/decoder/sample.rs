//! Choice of the next token.
//!
//! Own code instead of `candle_transformers::generation::LogitsProcessor`: that one sorts the whole vocabulary for
//! every token and runs its softmax on candle's thread pool.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::head::Near;
use super::isa::Isa;
use super::lanes::sum_exp;
use crate::constraint::Constraint;
use crate::{Error, Result};

/// Tokens this much (in units of the temperature) below the best one have no share: e^-25 is 1e-11.
const SPAN: f32 = 25.0;

/// With more of the best tokens than these to draw from, all logits are as fast.
const MOST_NEAR: usize = 256;

/// How tokens are drawn. The steps apply in the order of the fields but the seed, as in Hugging Face's transformers.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Logits of tokens that were there before are divided by this where positive, multiplied where negative (Keskar
    /// et al. 2019); 1 changes nothing.
    pub repetition_penalty: f64,
    /// 0 takes the best token every time; 1 draws by the model's own probabilities.
    pub temperature: f64,
    /// Draw from so many of the best tokens; 0 from all.
    pub top_k: usize,
    /// Draw from the smallest set of tokens that holds this share of the probability (Holtzman et al. 2020).
    pub top_p: f64,
    /// Draw from tokens of at least this share of the best one's probability (Nguyen et al. 2024).
    pub min_p: f64,
    /// The same seed makes the same choices.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { repetition_penalty: 1.0, temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 0 }
    }
}

impl Sampling {
    /// Whether tokens can be drawn so.
    ///
    /// # Errors
    /// `InvalidInput` for a negative temperature, a `top_p` outside (0, 1], a `min_p` outside [0, 1), a penalty that is
    /// not positive.
    pub fn check(&self) -> Result<()> {
        let Self { repetition_penalty, temperature, top_p, min_p, .. } = *self;
        let wrong = |what: String| Err(Error::InvalidInput(what));
        if !(temperature >= 0.0 && temperature.is_finite()) {
            return wrong(format!("temperature must be at least 0, not {temperature}"));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return wrong(format!("top_p must be above 0 and at most 1, not {top_p}"));
        }
        if !(0.0..1.0).contains(&min_p) {
            return wrong(format!("min_p must be at least 0 and below 1, not {min_p}"));
        }
        if !(repetition_penalty > 0.0 && repetition_penalty.is_finite()) {
            return wrong(format!("repetition_penalty must be above 0, not {repetition_penalty}"));
        }
        Ok(())
    }
}

/// Chooses tokens.
pub struct Sampler {
    how: Sampling,
    random: ChaCha8Rng,
    isa: Isa,
    /// Logits after the penalty.
    penalised: Vec<f32>,
}

impl Sampler {
    /// A sampler whose choices are the same for the same seed.
    ///
    /// # Errors
    /// As [`Sampling::check`].
    pub fn new(how: Sampling) -> Result<Self> {
        how.check()?;
        let random = ChaCha8Rng::seed_from_u64(how.seed);
        Ok(Self { how, random, isa: Isa::best(), penalised: Vec::new() })
    }

    /// The token chosen after those of `text`, and the natural logarithm of its probability at temperature 1, before
    /// any penalty.
    ///
    /// # Errors
    /// `Internal` when the logits are no numbers.
    pub fn choose(&mut self, logits: &[f32], text: &[u32]) -> Result<(u32, f32)> {
        let (_, max) = best(logits)?;
        let mut penalised = std::mem::take(&mut self.penalised);
        let chosen = self.pick(self.penalise(logits, text, &mut penalised))?;
        self.penalised = penalised;
        let total = sum_exp(self.isa, logits, max, 1.0);
        Ok((chosen as u32, logits[chosen] - max - total.ln()))
    }

    /// As [`Sampler::choose`] among the tokens that `constraint` lets come, which learns of the choice.
    ///
    /// # Errors
    /// There, too; those of the constraint.
    pub fn choose_within(
        &mut self,
        logits: &[f32],
        text: &[u32],
        constraint: Option<&mut (dyn Constraint + '_)>,
    ) -> Result<(u32, f32)> {
        let Some(constraint) = constraint else { return self.choose(logits, text) };
        let mut allowed = logits.to_vec();
        mask(&mut allowed, Some(constraint))?;
        let chosen = self.choose(&allowed, text)?;
        constraint.accept(chosen.0)?;
        Ok(chosen)
    }

    /// Which logits decide on the choice; None: all may.
    pub fn near(&self) -> Option<Near> {
        let Sampling { repetition_penalty, temperature, top_k, top_p, min_p, .. } = self.how;
        if repetition_penalty != 1.0 {
            return None;
        }
        match (temperature > 0.0, top_k) {
            (false, _) => Some(Near { top: 1, span: 0.0 }),
            (true, 1..=MOST_NEAR) => Some(Near { top: top_k, span: 0.0 }),
            // Rounded up: shares are compared in f64.
            _ if min_p > 0.0 && top_p == 1.0 => {
                Some(Near { top: 1, span: (-min_p.ln() * temperature * 1.001) as f32 + 0.001 })
            }
            _ => None,
        }
    }

    fn pick(&mut self, logits: &[f32]) -> Result<usize> {
        let (first, max) = best(logits)?;
        Ok(if self.how.temperature == 0.0 { first } else { self.draw(logits, max) })
    }

    fn penalise<'a>(&self, logits: &'a [f32], text: &[u32], space: &'a mut Vec<f32>) -> &'a [f32] {
        if self.how.repetition_penalty == 1.0 {
            return logits;
        }
        space.clear();
        space.extend_from_slice(logits);
        let penalty = self.how.repetition_penalty as f32;
        for &id in text {
            // From the original logit: a token that was there twice is penalised once.
            if let (Some(out), Some(&x)) = (space.get_mut(id as usize), logits.get(id as usize)) {
                *out = if x > 0.0 { x / penalty } else { x * penalty };
            }
        }
        space
    }

    fn draw(&mut self, logits: &[f32], max: f32) -> usize {
        let Sampling { temperature, top_k, top_p, min_p, .. } = self.how;
        let factor = (1.0 / temperature).min(f64::from(f32::MAX)) as f32;
        let least = match top_k.checked_sub(1) {
            Some(n) if n < logits.len() => {
                *logits.to_vec().select_nth_unstable_by(n, |a, b| b.total_cmp(a)).1
            }
            _ => f32::NEG_INFINITY,
        };
        let mut near: Vec<(usize, f64)> = logits
            .iter()
            .enumerate()
            .filter(|&(_, &x)| x >= least)
            .filter(|&(_, &x)| x == max || (x - max) * factor > -SPAN)
            .map(|(i, &x)| (i, (f64::from(x - max) / temperature).exp()))
            .collect();
        let sum = |near: &[(usize, f64)]| near.iter().map(|&(_, p)| p).sum::<f64>();
        if top_k > 0 || top_p < 1.0 {
            near.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        }
        if top_k > 0 {
            near.truncate(top_k);
        }
        if top_p < 1.0 {
            let (total, mut share) = (sum(&near), 0.0);
            let enough = near.iter().position(|&(_, p)| {
                share += p;
                share >= top_p * total
            });
            near.truncate(enough.map_or(near.len(), |i| i + 1));
        }
        // The best token's is e^0.
        near.retain(|&(_, p)| p >= min_p);
        // 53 random bits make a number in [0, 1).
        let mut left = (self.random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64 * sum(&near);
        for &(i, p) in &near {
            left -= p;
            if left < 0.0 {
                return i;
            }
        }
        near.last().map_or(0, |&(i, _)| i)
    }
}

/// Takes out of `logits` what `constraint` does not let come.
///
/// # Errors
/// `Internal` when they are no numbers, which is told apart from a text that cannot go on; those of the constraint.
pub fn mask(logits: &mut [f32], constraint: Option<&mut (dyn Constraint + '_)>) -> Result<()> {
    let Some(constraint) = constraint else { return Ok(()) };
    best(logits)?;
    constraint.mask(logits)
}

/// Natural logarithm of the probability, at temperature 1, that one of the tokens `ids` comes.
///
/// # Errors
/// `Internal` when the logits are no numbers; `InvalidInput` for a token that there is not.
pub fn logprob(logits: &[f32], ids: &[u32]) -> Result<f64> {
    let (_, max) = best(logits)?;
    let total = f64::from(sum_exp(Isa::best(), logits, max, 1.0));
    let mut share = 0.0;
    for &id in ids {
        let own = logits
            .get(id as usize)
            .ok_or_else(|| Error::InvalidInput(format!("token {id} is not in the vocabulary")))?;
        share += f64::from(own - max).exp();
    }
    Ok((share / total).ln())
}

/// Index and value of the largest logit, the first one of equals.
///
/// # Errors
/// `Internal` when one is NaN or none is finite: the model's weights are broken.
pub fn best(logits: &[f32]) -> Result<(usize, f32)> {
    let mut best = (0, f32::NEG_INFINITY);
    let mut broken = false;
    for (i, &x) in logits.iter().enumerate() {
        broken |= x.is_nan();
        if x > best.1 {
            best = (i, x);
        }
    }
    if broken || !best.1.is_finite() {
        return Err(Error::Internal("the model computed values that are no numbers".to_owned()));
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawing(temperature: f64, top_p: f64, seed: u64) -> Result<Sampler> {
        Sampler::new(Sampling { temperature, top_p, seed, ..Sampling::default() })
    }

    #[test]
    fn temperature_zero_takes_the_first_of_the_best() {
        let mut sampler = drawing(0.0, 1.0, 1).unwrap();
        let (id, logprob) = sampler.choose(&[0.0, 2.0, 2.0, -1.0], &[]).unwrap();
        let want = -(2.0 + (-2.0_f32).exp() + (-3.0_f32).exp()).ln();
        assert_eq!(id, 1);
        assert!((logprob - want).abs() < 1e-6);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [1.0, 0.0, 2.0, -3.0];
        let weights = logits.map(|x: f32| (f64::from(x) / 0.7).exp());
        let total: f64 = weights.iter().sum();
        let mut counts = [0_u32; 4];
        let mut sampler = drawing(0.7, 1.0, 42).unwrap();
        for _ in 0..20_000 {
            counts[sampler.choose(&logits, &[]).unwrap().0 as usize] += 1;
        }
        for i in 0..4 {
            let share = f64::from(counts[i]) / 20_000.0;
            assert!((share - weights[i] / total).abs() < 0.015, "{counts:?}");
        }
    }

    #[test]
    fn top_p_leaves_the_unlikely_out() {
        let mut sampler = drawing(1.0, 0.6, 7).unwrap();
        let logits = [0.5_f32.ln(), 0.3_f32.ln(), 0.2_f32.ln()];
        let drawn: Vec<u32> = (0..500).map(|_| sampler.choose(&logits, &[]).unwrap().0).collect();
        assert!(drawn.contains(&0) && drawn.contains(&1) && !drawn.contains(&2));
        let mut narrow = drawing(1.0, 1e-9, 7).unwrap();
        assert!((0..100).all(|_| narrow.choose(&logits, &[]).unwrap().0 == 0));
    }

    #[test]
    fn a_seed_repeats_and_another_differs() {
        let logits: Vec<f32> = (0..50).map(|i| (i % 7) as f32 / 3.0).collect();
        let run = |seed| -> Vec<u32> {
            let mut sampler = drawing(1.0, 0.9, seed).unwrap();
            (0..40).map(|_| sampler.choose(&logits, &[]).unwrap().0).collect()
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
        // A pinned stream: a seed must mean the same answer in the next release.
        assert_eq!(run(3)[..6], PINNED);
    }

    const PINNED: [u32; 6] = [11, 13, 48, 13, 4, 17];

    #[test]
    fn top_k_and_min_p_leave_the_unlikely_out() {
        let logits = [0.1_f32.ln(), 0.5_f32.ln(), 0.25_f32.ln(), 0.15_f32.ln()];
        let drawn = |how: Sampling| {
            let mut sampler = Sampler::new(Sampling { temperature: 1.0, ..how }).unwrap();
            let mut seen: Vec<u32> = (0..400).map(|_| sampler.choose(&logits, &[]).unwrap().0).collect();
            seen.sort_unstable();
            seen.dedup();
            seen
        };
        let all = Sampling::default();
        assert_eq!(drawn(all.clone()), [0, 1, 2, 3]);
        assert_eq!(drawn(Sampling { top_k: 1, ..all.clone() }), [1]);
        assert_eq!(drawn(Sampling { top_k: 2, ..all.clone() }), [1, 2]);
        assert_eq!(drawn(Sampling { top_k: 9, ..all.clone() }), [0, 1, 2, 3]);
        assert_eq!(drawn(Sampling { min_p: 0.29, ..all.clone() }), [1, 2, 3]);
        assert_eq!(drawn(Sampling { min_p: 0.99, ..all.clone() }), [1]);
        // 0.5 of the 0.75 that two tokens hold is two thirds: the first alone is enough for 0.6.
        assert_eq!(drawn(Sampling { top_k: 2, top_p: 0.6, ..all }), [1]);
    }

    #[test]
    fn repetitions_are_penalised_once_by_their_sign() {
        let how = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
        let mut sampler = Sampler::new(how).unwrap();
        let logits = [3.0, 2.0, -1.0, -1.5];
        assert_eq!(sampler.choose(&logits, &[]).unwrap().0, 0);
        // 3 becomes 1.5; twice there is as once there.
        assert_eq!(sampler.choose(&logits, &[0]).unwrap().0, 1);
        assert_eq!(sampler.choose(&logits, &[0, 0, 1, 1]).unwrap().0, 0);
        let below = [-1.0, -1.5, -9.0];
        assert_eq!(sampler.choose(&below, &[0]).unwrap().0, 1);
        // An id that is none changes nothing; the logarithm is that of the model's own probability.
        let (id, logprob) = sampler.choose(&logits, &[0, 77]).unwrap();
        let total: f32 = logits.iter().map(|x| x.exp()).sum();
        assert!(id == 1 && (logprob - (2.0 - total.ln())).abs() < 1e-5);
        for how in [
            Sampling { min_p: 1.0, ..Sampling::default() },
            Sampling { min_p: -0.1, ..Sampling::default() },
            Sampling { repetition_penalty: 0.0, ..Sampling::default() },
            Sampling { repetition_penalty: f64::NAN, ..Sampling::default() },
        ] {
            assert!(matches!(Sampler::new(how), Err(Error::InvalidInput(_))));
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        for (t, p) in
            [(-0.1, 1.0), (f64::NAN, 1.0), (f64::INFINITY, 1.0), (1.0, 0.0), (1.0, 1.1), (1.0, f64::NAN)]
        {
            assert!(matches!(drawing(t, p, 0), Err(Error::InvalidInput(_))), "{t} {p}");
        }
        let mut sampler = drawing(1.0, 1.0, 0).unwrap();
        assert!(sampler.choose(&[0.0, f32::NAN], &[]).is_err());
        assert!(sampler.choose(&[f32::NEG_INFINITY; 3], &[]).is_err());
        assert!(sampler.choose(&[f32::INFINITY, 0.0], &[]).is_err());
        let mut tiny = drawing(1e-300, 1.0, 0).unwrap();
        assert_eq!(tiny.choose(&[0.0, 1.0, 1.0 - 1e-6], &[]).unwrap().0, 1);
    }
}
