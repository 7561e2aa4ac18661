//! A random rotation in O(n log n): rounds of random signs and Hadamard transforms.
//!
//! After it the coordinates of any vector look alike, which is what makes their signs a good code (RaBitQ,
//! arXiv 2405.12497). A width that is no power of two is covered by transforms of its beginning and its end in turn,
//! with the two halves mixed in between.

use crate::kernels;

const ROUNDS: usize = 4;

/// A rotation of vectors of one width.
#[derive(Debug, Clone)]
pub struct Rotation {
    width: usize,
    /// Width of the Hadamard transforms.
    power: usize,
    /// For each round and coordinate a sign, scaled so that the round keeps lengths.
    signs: Vec<f32>,
}

impl Rotation {
    /// The rotation that a seed stands for. `width` is even.
    pub fn new(width: usize, seed: u64) -> Self {
        let power = if width == 0 { 1 } else { 1 << width.ilog2() };
        let mut state = seed;
        let mut bits = 0;
        let mut signs = Vec::with_capacity(ROUNDS * width);
        let norm = 1.0 / (power as f32).sqrt();
        for round in 0..ROUNDS {
            for i in 0..width {
                if signs.len() % 64 == 0 {
                    bits = splitmix(&mut state);
                }
                let sign = if bits >> (signs.len() % 64) & 1 == 0 { 1.0 } else { -1.0 };
                let transformed = Self::part(round, power, width).contains(&i);
                signs.push(if transformed { sign * norm } else { sign });
            }
        }
        Self { width, power, signs }
    }

    fn part(round: usize, power: usize, width: usize) -> std::ops::Range<usize> {
        if round.is_multiple_of(2) { 0..power } else { width - power..width }
    }

    /// Rotates `x`, which has the width.
    pub fn apply(&self, x: &mut [f32]) {
        debug_assert_eq!(x.len(), self.width);
        for (round, signs) in self.signs.chunks_exact(self.width).enumerate() {
            x.iter_mut().zip(signs).for_each(|(x, sign)| *x *= sign);
            kernels::hadamard(&mut x[Self::part(round, self.power, self.width)]);
            if self.power < self.width {
                let (left, right) = x.split_at_mut(self.width / 2);
                for (a, b) in left.iter_mut().zip(right) {
                    let (sum, difference) = (*a + *b, *a - *b);
                    *a = sum * std::f32::consts::FRAC_1_SQRT_2;
                    *b = difference * std::f32::consts::FRAC_1_SQRT_2;
                }
            }
        }
    }
}

/// The next number of the generator SplitMix64.
pub(crate) fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_lengths_and_spreads_coordinates() {
        for width in [2, 64, 128, 192, 320, 384, 768, 1536, 16_000] {
            let rotation = Rotation::new(width, 7);
            for hot in [0, width / 3, width - 1] {
                let mut x = vec![0.0; width];
                x[hot] = 2.0;
                rotation.apply(&mut x);
                let norm: f32 = x.iter().map(|x| x * x).sum();
                assert!((norm - 4.0).abs() < 1e-3, "{width}: {norm}");
                let most = x.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                assert!(width < 64 || most < 2.0 * 8.0 / (width as f32).sqrt(), "{width}, {hot}: {most}");
            }
        }
    }
}
