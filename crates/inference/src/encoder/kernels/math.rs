//! Exponential, error function, activations and softmax on slices.

use std::f32::consts::FRAC_2_SQRT_PI;

use super::{LANES, dispatch, mul_add, sum_of};

/// e^x with a relative error below 2e-7; 0 below -87.3, where the result would be subnormal. No branches.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2, so e^x = 2^n · e^r; e^r is its Taylor polynomial of degree 6 and
/// 2^n is built from its exponent bits.
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    // Adding and subtracting 1.5·2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts: the first has so few bits that n times it is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(-87.3, 88.0);
    let shifted = mul_add::<FMA>(clamped, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = mul_add::<FMA>(n, -LN2_LOW, mul_add::<FMA>(n, -LN2_HIGH, clamped));
    let mut p = 1.0 / 720.0;
    for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = mul_add::<FMA>(p, r, c);
    }
    // The low bits of `shifted` are n in two's complement. For NaN they mean nothing, but `p` is NaN then.
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if x < -87.3 { 0.0 } else { p * power }
}

/// The error function with an absolute error below 5e-7: x·P(x²)/Q(x²) on [-4, 4], beyond which it is ±1
/// in single precision. P and Q are a rational minimax fit of degree 5 over 5; P(0) is the slope at 0, 2/√π.
#[inline(always)]
pub fn erf<const FMA: bool>(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let z = x * x;
    let mut p = 1.986_683e-6;
    for c in [2.845_417e-4, 3.882_869_6e-3, 5.310_025_8e-2, 1.935_36e-1, FRAC_2_SQRT_PI] {
        p = mul_add::<FMA>(p, z, c);
    }
    let mut q = 3.741_785_6e-5;
    for c in [1.185_430_2e-3, 1.520_631_9e-2, 1.153_459_9e-1, 5.048_494e-1, 1.0] {
        q = mul_add::<FMA>(q, z, c);
    }
    x * p / q
}

#[inline(always)]
fn gelu<const FMA: bool>(x: f32) -> f32 {
    0.5 * x * (1.0 + erf::<FMA>(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// tanh(u) = 1 - 2/(e^(2u) + 1).
#[inline(always)]
fn gelu_tanh<const FMA: bool>(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    let u = SQRT_2_OVER_PI * mul_add::<FMA>(0.044_715 * x * x, x, x);
    0.5 * x * (2.0 - 2.0 / (exp::<FMA>(2.0 * u) + 1.0))
}

#[inline(always)]
fn map_bias(rows: &mut [f32], bias: &[f32], f: impl Fn(f32) -> f32) {
    for row in rows.chunks_exact_mut(bias.len().max(1)) {
        for (x, &b) in row.iter_mut().zip(bias) {
            *x = f(*x + b);
        }
    }
}

#[inline(always)]
fn gelu_bias_body<const FMA: bool>(rows: &mut [f32], bias: &[f32]) {
    map_bias(rows, bias, gelu::<FMA>);
}

#[inline(always)]
fn gelu_tanh_bias_body<const FMA: bool>(rows: &mut [f32], bias: &[f32]) {
    map_bias(rows, bias, gelu_tanh::<FMA>);
}

#[inline(always)]
fn relu_bias_body<const FMA: bool>(rows: &mut [f32], bias: &[f32]) {
    map_bias(rows, bias, |x| x.max(0.0));
}

/// Body of [`softmax`], for use inside other kernels.
#[inline(always)]
pub fn softmax_body<const FMA: bool>(row: &mut [f32]) {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = if x > *lane { x } else { *lane };
    }
    let max = lanes.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    for x in row.iter_mut() {
        *x = exp::<FMA>(*x - max);
    }
    let scale = 1.0 / sum_of(row, |x| x);
    for x in row.iter_mut() {
        *x *= scale;
    }
}

dispatch! {
    /// Adds `bias` to each row (`rows.len()` is a multiple of `bias.len()`), then the exact GELU,
    /// x·Φ(x) (Hendrycks and Gimpel 2016).
    gelu_bias = gelu_bias_body(rows: &mut [f32], bias: &[f32])
}
dispatch! {
    /// As [`gelu_bias`], with the tanh approximation of GELU.
    gelu_tanh_bias = gelu_tanh_bias_body(rows: &mut [f32], bias: &[f32])
}
dispatch! {
    /// As [`gelu_bias`], with max(x, 0).
    relu_bias = relu_bias_body(rows: &mut [f32], bias: &[f32])
}
dispatch! {
    /// Softmax of one row in place.
    #[cfg(test)]
    softmax = softmax_body(row: &mut [f32])
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    /// The series of erf, in double precision.
    fn erf_oracle(x: f64) -> f64 {
        if x.abs() > 5.0 {
            return x.signum();
        }
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    fn inputs() -> Vec<f32> {
        (-12_000..=12_000)
            .map(|i| i as f32 * 1e-3)
            .chain([0.0, -0.0, 1e-30, -60.0, 60.0, 1e30, -1e30])
            .collect()
    }

    #[test]
    fn exp_is_near_the_exact_one() {
        for x in inputs().into_iter().filter(|x| x.abs() < 85.0) {
            let want = f64::from(x).exp();
            for got in [exp::<false>(x), exp::<true>(x)] {
                assert!((f64::from(got) / want - 1.0).abs() < 3e-7, "exp({x}) = {got}, not {want}");
            }
        }
        assert_eq!(exp::<false>(-1e30), 0.0);
        assert_eq!(exp::<false>(f32::NEG_INFINITY), 0.0);
        assert!(exp::<false>(f32::NAN).is_nan());
    }

    #[test]
    fn erf_is_near_the_exact_one() {
        for x in inputs() {
            let want = erf_oracle(f64::from(x));
            for got in [erf::<false>(x), erf::<true>(x)] {
                assert!((f64::from(got) - want).abs() < 5e-7, "erf({x}) = {got}, not {want}");
            }
        }
    }

    #[test]
    fn activations_agree_with_the_oracle_at_every_level() {
        let bias: Vec<f32> = (0..37).map(|i| i as f32 * 0.01 - 0.2).collect();
        let rows: Vec<f32> = (0..37 * 40).map(|i| ((i * 7919) % 1601) as f32 * 0.01 - 8.0).collect();
        for level in Level::available() {
            let (mut exact, mut tanh, mut relu) = (rows.clone(), rows.clone(), rows.clone());
            gelu_bias(level, &mut exact, &bias);
            gelu_tanh_bias(level, &mut tanh, &bias);
            relu_bias(level, &mut relu, &bias);
            for (i, &x) in rows.iter().enumerate() {
                let x = f64::from(x + bias[i % 37]);
                let want = 0.5 * x * (1.0 + erf_oracle(x / std::f64::consts::SQRT_2));
                assert!((f64::from(exact[i]) - want).abs() < 2e-6, "{level:?}: gelu({x}) = {}", exact[i]);
                let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
                let want = 0.5 * x * (1.0 + u.tanh());
                assert!((f64::from(tanh[i]) - want).abs() < 2e-6, "{level:?}: gelu_tanh({x}) = {}", tanh[i]);
                assert_eq!(f64::from(relu[i]), x.max(0.0));
            }
        }
    }

    #[test]
    fn softmax_agrees_with_the_oracle_at_every_level() {
        for level in Level::available() {
            for n in (1..70).chain([256, 511]) {
                let row: Vec<f32> = (0..n).map(|i| ((i * 31) % 97) as f32 * 0.3 - 10.0).collect();
                let max = row.iter().fold(f64::MIN, |a, &b| a.max(f64::from(b)));
                let sum: f64 = row.iter().map(|&x| (f64::from(x) - max).exp()).sum();
                let mut got = row.clone();
                softmax(level, &mut got);
                for (x, got) in row.iter().zip(got) {
                    let want = (f64::from(*x) - max).exp() / sum;
                    assert!((f64::from(got) - want).abs() < 1e-6, "{level:?}, n = {n}: {got} for {want}");
                }
            }
        }
    }
}
