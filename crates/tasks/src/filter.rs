//! Which texts meet a criterion: most are answered by what was said of texts with similar vectors.
//!
//! The verdicts of a language model on some texts are the observations of a Gaussian process over the vectors (Rasmussen and
//! Williams 2006, chapter 2): for each further text it gives a mean and how far that can be trusted. Only where both together
//! leave doubt the language model is asked again.

use crate::Turn;

/// Verdicts that are kept; each costs a row of the factor and a vector.
const MOST: usize = 256;
/// Verdicts of each kind before vectors are trusted at all.
const LEAST: usize = 5;
/// Variance of a verdict about its mean: verdicts are not quite a function of the vector.
const NOISE: f64 = 0.2;
/// Texts whose cosine is this much below 1 have e^-1 in common: little where a criterion cuts through similar texts, much
/// where it parts subjects.
const WIDTHS: [f64; 4] = [0.35, 1.0, 3.0, 10.0];

/// What asks whether `content` meets `criterion`; the answers are [`ANSWERS`].
pub fn turns(content: &str, criterion: &str) -> Vec<Turn> {
    let question =
        format!("Text: {content}\nStatement: {criterion}\nIs the statement true? Answer Yes or No.");
    vec![Turn::system("You are a careful judge of statements."), Turn::user(question)]
}

/// For yes and no.
pub const ANSWERS: [&str; 2] = ["Yes", "No"];

/// What was said of some texts, by one model about one criterion.
#[derive(Debug, Default)]
pub struct Verdicts {
    vectors: Vec<Vec<f32>>,
    /// 1 for yes, -1 for no.
    values: Vec<f64>,
    /// Lower triangle of the Cholesky factor of the covariances, row after row.
    factor: Vec<Vec<f64>>,
    /// The values solved by the lower triangle.
    solved: Vec<f64>,
    width: Width,
    /// Verdicts at which the width is chosen anew.
    due: usize,
}

/// How far a verdict tells about other texts: one of [`WIDTHS`].
#[derive(Debug, Clone, Copy)]
struct Width(f64);

impl Default for Width {
    fn default() -> Self {
        Self(WIDTHS[0])
    }
}

impl Width {
    fn covariance(self, a: &[f32], b: &[f32]) -> f64 {
        let cosine: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum();
        ((cosine - 1.0) / self.0).exp()
    }
}

impl Verdicts {
    /// The solution of `factor · x = covariances with vector`.
    fn row(&self, vector: &[f32]) -> Vec<f64> {
        let mut row: Vec<f64> = Vec::with_capacity(self.factor.len());
        for (known, factor) in self.vectors.iter().zip(&self.factor) {
            let done: f64 = factor.iter().zip(&row).map(|(l, x)| l * x).sum();
            row.push((self.width.covariance(vector, known) - done) / factor[row.len()]);
        }
        row
    }

    /// The verdict on a text with this vector of length 1, when the chance that it is wrong is at most `doubt`.
    pub fn guess(&self, vector: &[f32], doubt: f64) -> Option<bool> {
        let yes = self.values.iter().filter(|v| **v > 0.0).count();
        if yes < LEAST || self.values.len() - yes < LEAST {
            return None;
        }
        let row = self.row(vector);
        let mean: f64 = row.iter().zip(&self.solved).map(|(a, b)| a * b).sum();
        let variance = 1.0 - row.iter().map(|x| x * x).sum::<f64>();
        let wrong = tail(mean.abs() / variance.sqrt());
        (wrong <= doubt).then_some(mean > 0.0)
    }

    /// Learns what was said of a text.
    pub fn learn(&mut self, vector: Vec<f32>, meets: bool) {
        if self.values.len() >= MOST {
            return;
        }
        self.add(vector, if meets { 1.0 } else { -1.0 });
        if self.values.len() >= self.due.max(2 * LEAST) {
            self.due = self.values.len() * 5 / 4;
            self.choose_width();
        }
    }

    /// Adds an observation.
    fn add(&mut self, vector: Vec<f32>, value: f64) {
        let mut row = self.row(&vector);
        let rest = 1.0 + NOISE - row.iter().map(|x| x * x).sum::<f64>();
        let done: f64 = row.iter().zip(&self.solved).map(|(a, b)| a * b).sum();
        let diagonal = rest.max(NOISE).sqrt();
        self.solved.push((value - done) / diagonal);
        row.push(diagonal);
        self.factor.push(row);
        self.vectors.push(vector);
        self.values.push(value);
    }

    /// Takes the width under which what was said is the likeliest (Rasmussen and Williams, equation 5.8).
    fn choose_width(&mut self) {
        let with_width = |width| {
            let mut other = Self { width: Width(width), ..Self::default() };
            self.vectors
                .iter()
                .zip(&self.values)
                .for_each(|(vector, value)| other.add(vector.clone(), *value));
            other
        };
        let likeliest = WIDTHS
            .map(with_width)
            .into_iter()
            .max_by(|a, b| a.log_likelihood().total_cmp(&b.log_likelihood()));
        if let Some(likeliest) = likeliest {
            *self = Self { due: self.due, ..likeliest };
        }
    }

    /// Logarithm of the likelihood of the values, less a constant of their number.
    fn log_likelihood(&self) -> f64 {
        let squares: f64 = self.solved.iter().map(|x| x * x).sum();
        let diagonals: f64 = self.factor.iter().enumerate().map(|(i, row)| row[i].ln()).sum();
        -squares / 2.0 - diagonals
    }
}

/// The chance that a standard normal number is above `x`, which is not negative (Abramowitz and Stegun 26.2.17).
fn tail(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x);
    let polynomial = t
        * (0.319_381_53
            + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * polynomial
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(angle: f64) -> Vec<f32> {
        vec![angle.cos() as f32, angle.sin() as f32]
    }

    #[test]
    fn nothing_is_guessed_before_enough_was_said() {
        let mut verdicts = Verdicts::default();
        for i in 0..20 {
            assert_eq!(verdicts.guess(&vector(0.1), 0.4), None);
            verdicts.learn(vector(0.01 * f64::from(i)), true);
        }
        // All the same: nobody knows where it ends.
        assert_eq!(verdicts.guess(&vector(0.1), 0.4), None);
    }

    #[test]
    fn sides_are_told_apart_and_the_border_is_doubtful() {
        let mut verdicts = Verdicts::default();
        for i in 0..12 {
            let spread = 0.02 * f64::from(i);
            verdicts.learn(vector(0.2 - spread), true);
            verdicts.learn(vector(1.4 + spread), false);
        }
        assert_eq!(verdicts.guess(&vector(0.1), 0.05), Some(true));
        assert_eq!(verdicts.guess(&vector(1.5), 0.05), Some(false));
        assert_eq!(verdicts.guess(&vector(0.8), 0.05), None);
        // Far from all that was seen.
        assert_eq!(verdicts.guess(&vector(3.9), 0.05), None);
    }

    #[test]
    fn subjects_far_apart_need_few_verdicts() {
        // Two subjects; each text is nearly perpendicular to all others.
        let mut state = 1_u64;
        let mut text = |subject: usize| {
            let mut vector: Vec<f32> = (0..256)
                .map(|_| {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 40) as f32 / (1 << 23) as f32 - 1.0
                })
                .collect();
            vector[subject] += 4.0;
            let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
            vector.iter_mut().for_each(|x| *x /= norm);
            vector
        };
        let (mut verdicts, mut asked, mut wrong) = (Verdicts::default(), 0, 0);
        for i in 0..400 {
            let vector = text(i % 2);
            match verdicts.guess(&vector, 0.1) {
                Some(guess) => wrong += usize::from(guess != (i % 2 == 0)),
                None => {
                    asked += 1;
                    verdicts.learn(vector, i % 2 == 0);
                }
            }
        }
        assert!(asked <= 200, "{asked} of 400");
        assert!(wrong <= (400 - asked) / 10, "{wrong} of {}", 400 - asked);
    }

    #[test]
    fn what_was_said_is_bounded_and_repeats_do_no_harm() {
        let mut verdicts = Verdicts::default();
        for i in 0..2 * MOST {
            verdicts.learn(vector(if i % 2 == 0 { 0.0 } else { 1.5 }), i % 2 == 0);
        }
        assert_eq!(verdicts.values.len(), MOST);
        assert_eq!(verdicts.guess(&vector(0.0), 0.05), Some(true));
    }

    #[test]
    fn the_normal_tail_is_right() {
        for (x, want) in [(0.0, 0.5), (1.0, 0.158_655), (1.644_85, 0.05), (3.0, 0.001_349_9)] {
            assert!((tail(x) - want).abs() < 1e-5, "{x}");
        }
    }
}
