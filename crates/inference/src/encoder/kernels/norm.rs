//! Layer normalisation (Ba, Kiros and Hinton 2016).

use super::product::{COLUMNS, Line, Wide, fold, narrow_row};
use super::{dispatch, mul_add};

/// Scale and shift of a layer normalisation, in panels; beyond the row's width both are zero.
pub struct Norm<'a> {
    /// Scale.
    pub weight: &'a [Wide],
    /// Shift.
    pub bias: &'a [Wide],
    /// Elements of a row.
    pub width: usize,
    /// Added to the variance.
    pub epsilon: f32,
}

#[inline(always)]
fn normalize_body<const FMA: bool>(x: &mut [Wide], lines: &mut [Line], rows: usize, norm: &Norm<'_>) {
    let width = norm.width as f32;
    // Elements beyond the width are zero: they add nothing to the sum, but their mean's square to the variance.
    let padding = (norm.weight.len() * COLUMNS) as f32 - width;
    for r in 0..rows {
        // Rows are copied, so that the compiler knows that nothing else changes them.
        let mut sums = [0.0; COLUMNS];
        for panel in x.chunks_exact(rows) {
            for (sum, v) in sums.iter_mut().zip(panel[r]) {
                *sum += v;
            }
        }
        let mean = fold(&sums, |a, b| a + b) / width;
        let mut squares = [0.0; COLUMNS];
        for panel in x.chunks_exact(rows) {
            for (square, v) in squares.iter_mut().zip(panel[r]) {
                *square = mul_add::<FMA>(v - mean, v - mean, *square);
            }
        }
        let variance = (fold(&squares, |a, b| a + b) - padding * mean * mean) / width;
        let scale = 1.0 / (variance.max(0.0) + norm.epsilon).sqrt();
        let panels = x.chunks_exact_mut(rows).zip(lines.chunks_exact_mut(rows));
        for ((panel, lines), (&weight, &bias)) in panels.zip(norm.weight.iter().zip(norm.bias)) {
            let mut row = panel[r];
            for ((v, w), b) in row.iter_mut().zip(weight).zip(bias) {
                *v = mul_add::<FMA>((*v - mean) * scale, w, b);
            }
            panel[r] = row;
            lines[r] = narrow_row(&row);
        }
    }
}

dispatch! {
    /// Normalises each row of `x`, panels of `rows` rows, in place, and writes it to `lines` as well.
    normalize = normalize_body | super::avx512::normalize, (
        x: &mut [Wide], lines: &mut [Line], rows: usize, norm: &Norm<'_>
    )
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn agrees_with_the_oracle_at_every_level() {
        for width in [2, 31, 32, 33, 48, 384, 1000] {
            let panels = usize::div_ceil(width, COLUMNS);
            let value = |i: usize, m: usize| ((i * 7919) % m) as f32 / m as f32 - 0.4;
            let wide = |f: &dyn Fn(usize) -> f32| -> Vec<Wide> {
                (0..panels)
                    .map(|p| std::array::from_fn(|c| if p * 32 + c < width { f(p * 32 + c) } else { 0.0 }))
                    .collect()
            };
            let (weight, bias) = (wide(&|i| value(i, 31) + 1.0), wide(&|i| value(i, 17)));
            let norm = Norm { weight: &weight, bias: &bias, width, epsilon: 1e-6 };
            const ROWS: usize = 3;
            let rows: Vec<Vec<Wide>> = (0..ROWS).map(|r| wide(&|i| value(r * width + i, 1009))).collect();
            for level in Level::available() {
                let mut x: Vec<Wide> = (0..panels * ROWS).map(|i| rows[i % ROWS][i / ROWS]).collect();
                let mut lines = vec![Line::default(); x.len()];
                normalize(level, &mut x, &mut lines, ROWS, &norm);
                for (r, row) in rows.iter().enumerate() {
                    let row: Vec<f64> = row.iter().flatten().take(width).map(|&v| f64::from(v)).collect();
                    let mean = row.iter().sum::<f64>() / width as f64;
                    let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / width as f64;
                    for p in 0..panels {
                        assert_eq!(lines[p * ROWS + r], narrow_row(&x[p * ROWS + r]));
                        for c in 0..COLUMNS {
                            let got = f64::from(x[p * ROWS + r][c]);
                            let Some(v) = row.get(p * 32 + c) else {
                                assert_eq!(got, 0.0);
                                continue;
                            };
                            let want = (v - mean) / (variance + 1e-6).sqrt() * f64::from(weight[p][c])
                                + f64::from(bias[p][c]);
                            assert!((got - want).abs() < 1e-5, "{level:?}, width {width}: {got} for {want}");
                        }
                    }
                }
            }
        }
    }
}
