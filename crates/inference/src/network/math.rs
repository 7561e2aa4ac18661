//! Functions of single values and rows.

use super::Rows;
use crate::decoder::isa::{Isa, dispatch};
use crate::decoder::lanes::exp;

/// The function between the two dense layers of a feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x·Φ(x).
    Gelu,
    /// Its tanh approximation.
    GeluTanh,
    /// max(x, 0).
    Relu,
    /// x·σ(x), also called swish.
    Silu,
    /// tanh(x).
    Tanh,
}

impl Activation {
    /// The function that configuration files call `name`.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "gelu" => Self::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Self::GeluTanh,
            "relu" => Self::Relu,
            "silu" | "swish" => Self::Silu,
            "tanh" => Self::Tanh,
            _ => return None,
        })
    }

    /// Applies it to every value.
    pub fn apply(self, isa: Isa, rows: &mut Rows) {
        activate(isa, &mut rows.data, self);
    }
}

dispatch! {
    fn activate(values: &mut [f32], function: Activation) = activate_body
}

#[inline(always)]
fn activate_body<const FMA: bool>(values: &mut [f32], function: Activation) {
    match function {
        Activation::Gelu => values.iter_mut().for_each(|x| *x = gelu(*x)),
        Activation::GeluTanh => values.iter_mut().for_each(|x| {
            let inner = 0.797_884_6 * (*x + 0.044_715 * *x * *x * *x);
            *x *= 0.5 * (1.0 + tanh::<FMA>(inner));
        }),
        Activation::Relu => values.iter_mut().for_each(|x| *x = x.max(0.0)),
        Activation::Silu => values.iter_mut().for_each(|x| *x /= 1.0 + exp::<FMA>(-*x)),
        Activation::Tanh => values.iter_mut().for_each(|x| *x = x.tanh()),
    }
}

#[inline(always)]
fn tanh<const FMA: bool>(x: f32) -> f32 {
    1.0 - 2.0 / (exp::<FMA>(2.0 * x) + 1.0)
}

/// x·Φ(x), with the error function to f32 precision.
fn gelu(x: f32) -> f32 {
    let half = candle_core::cpu::erf::erf_f64(f64::from(x) * std::f64::consts::FRAC_1_SQRT_2);
    (f64::from(x) * 0.5 * (1.0 + half)) as f32
}

dispatch! {
    /// e^x over their sum, in place of each x.
    pub fn softmax(scores: &mut [f32]) = softmax_body
}

#[inline(always)]
fn softmax_body<const FMA: bool>(scores: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for x in scores.iter_mut() {
        *x = exp::<FMA>(*x - max);
        sum += *x;
    }
    let factor = 1.0 / sum;
    scores.iter_mut().for_each(|x| *x *= factor);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_have_known_values() {
        // scipy: x * norm.cdf(x), and its approximation.
        for (function, x, want) in [
            (Activation::Gelu, 1.0, 0.841_344_7),
            (Activation::Gelu, -2.0, -0.045_500_26),
            (Activation::GeluTanh, 1.0, 0.841_192),
            (Activation::GeluTanh, -30.0, 0.0),
            (Activation::GeluTanh, 30.0, 30.0),
            (Activation::Silu, 1.0, 0.731_058_6),
            (Activation::Silu, -100.0, 0.0),
            (Activation::Relu, -1.0, 0.0),
            (Activation::Tanh, 0.5, 0.462_117_16),
        ] {
            let mut rows = Rows { width: 1, data: vec![x] };
            function.apply(Isa::best(), &mut rows);
            assert!((rows.data[0] - want).abs() < 1e-6, "{function:?} {x}: {}", rows.data[0]);
        }
    }

    #[test]
    fn shares_add_up_to_one() {
        let mut scores = [1.0, 2.0, -90.0];
        softmax(Isa::best(), &mut scores);
        assert!((scores.iter().sum::<f32>() - 1.0).abs() < 1e-6 && scores[1] > scores[0]);
    }
}
