//! Layer normalisation (Ba, Kiros and Hinton 2016), together with what is always added before it.

use super::{dispatch, mul_add, sum_of};

/// Scale and shift of a layer normalisation, both as long as a row.
pub struct Norm {
    /// Scale.
    pub weight: Vec<f32>,
    /// Shift.
    pub bias: Vec<f32>,
    /// Added to the variance.
    pub epsilon: f32,
}

#[inline(always)]
fn add_norm_body<const FMA: bool>(x: &mut [f32], y: &[f32], bias: &[f32], norm: &Norm) {
    let width = norm.weight.len().max(1);
    let bias = &bias[..width];
    let (weight, shift) = (&norm.weight[..width], &norm.bias[..width]);
    for (x, y) in x.chunks_exact_mut(width).zip(y.chunks_exact(width)) {
        for ((x, &y), &b) in x.iter_mut().zip(y).zip(bias) {
            *x += y + b;
        }
        let mean = sum_of(x, |v| v) / width as f32;
        let variance = sum_of(x, |v| (v - mean) * (v - mean)) / width as f32;
        let scale = 1.0 / (variance + norm.epsilon).sqrt();
        for ((x, &w), &b) in x.iter_mut().zip(weight).zip(shift) {
            *x = mul_add::<FMA>((*x - mean) * scale, w, b);
        }
    }
}

dispatch! {
    /// For each row: x ← norm(x + y + bias). `x` and `y` hold the same number of rows.
    add_norm = add_norm_body(x: &mut [f32], y: &[f32], bias: &[f32], norm: &Norm)
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn agrees_with_the_oracle_at_every_level() {
        for width in (1..70).chain([384, 1024]) {
            let value = |i: usize, m: usize| ((i * 7919) % m) as f32 / m as f32 - 0.4;
            let norm = Norm {
                weight: (0..width).map(|i| value(i, 31) + 1.0).collect(),
                bias: (0..width).map(|i| value(i, 17)).collect(),
                epsilon: 1e-6,
            };
            let bias: Vec<f32> = (0..width).map(|i| value(i, 13)).collect();
            let x: Vec<f32> = (0..3 * width).map(|i| value(i, 1009)).collect();
            let y: Vec<f32> = (0..3 * width).map(|i| value(i, 613)).collect();
            for level in Level::available() {
                let mut got = x.clone();
                add_norm(level, &mut got, &y, &bias, &norm);
                for row in 0..3 {
                    let sum: Vec<f64> = (0..width)
                        .map(|i| {
                            f64::from(x[row * width + i]) + f64::from(y[row * width + i]) + f64::from(bias[i])
                        })
                        .collect();
                    let mean = sum.iter().sum::<f64>() / width as f64;
                    let variance = sum.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / width as f64;
                    for i in 0..width {
                        let want = (sum[i] - mean) / (variance + 1e-6).sqrt() * f64::from(norm.weight[i])
                            + f64::from(norm.bias[i]);
                        let got = f64::from(got[row * width + i]);
                        // One element: the mean is the value itself, up to rounding times 1/sqrt(epsilon).
                        let tolerance = if width == 1 { 1e-4 } else { 5e-6 };
                        assert!((got - want).abs() < tolerance, "{level:?}, width {width}: {got} for {want}");
                    }
                }
            }
        }
    }
}
