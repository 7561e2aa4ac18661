//! How many entries a search must refine because one-bit codes rank rows only about right. Where distances differ much more
//! than codes are wrong, as with what models embed, few; where all rows are about as far from a query, as with random vectors of
//! many dimensions, many.

use crate::meta::LEVELS;

/// Standard errors that the estimates of so many neighbours are not beyond: what [`LEVELS`] allow to be missed, less
/// what lists miss.
const MARGINS: [f64; LEVELS.len()] = [1.81, 2.05, 2.26, 2.35, 2.54, 2.78];
/// Squared tangent of the angle between a residual and its signs, if its coordinates are normal: π/2 − 1.
const SQUARED_TANGENT: f64 = std::f64::consts::FRAC_PI_2 - 1.0;
/// One row of so many is looked at.
const STEP: usize = 16;

/// Squared distances of rows from one query.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spread {
    rows: f64,
    sum: f64,
    squares: f64,
}

impl Spread {
    /// Whether a row is one to be looked at.
    pub fn takes(row: usize) -> bool {
        row.is_multiple_of(STEP)
    }

    /// Adds a row.
    pub fn add(&mut self, distance: f64) {
        self.rows += 1.0;
        self.sum += distance;
        self.squares += distance * distance;
    }

    /// Rows, for each of [`LEVELS`], whose estimated distance is expected to be below that of a row at `near` with the margin of
    /// the level. `error` is the standard error of an estimate; distances are taken to be normal, as they are where that
    /// matters.
    pub fn before(&self, near: f64, error: f64) -> [f64; LEVELS.len()] {
        let mean = self.sum / self.rows.max(1.0);
        let variance = (self.squares / self.rows.max(1.0) - mean * mean).max(0.0);
        let deviation = (variance + error * error).sqrt();
        let rows = self.rows * STEP as f64;
        MARGINS.map(|margin| match deviation > 0.0 && deviation.is_finite() {
            true => rows * below((near + margin * error - mean) / deviation),
            false => 0.0,
        })
    }
}

/// Standard error of the estimate of a squared distance by one-bit codes of `width` coordinates, from the squared norms of the row's
/// residual and of the query's (RaBitQ, arXiv 2405.12497, whose factor for normal coordinates is the tangent).
pub(crate) fn error(residual: f64, query: f64, width: usize) -> f64 {
    2.0 * (residual.max(0.0) * query.max(0.0) * SQUARED_TANGENT / width as f64).sqrt()
}

/// Share of a standard normal distribution below `x` (Abramowitz and Stegun 26.2.17, wrong by 7.5e-8 at most).
fn below(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let factors = [1.330_274_429, -1.821_255_978, 1.781_477_937, -0.356_563_782, 0.319_381_53];
    let sum = factors.into_iter().fold(0.0, |sum, factor| (sum + factor) * t);
    // The terms come from the highest power down.
    let tail = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt() * sum;
    if x < 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_the_normal_distribution() {
        for (x, want) in [(0.0, 0.5), (-1.0, 0.158_655_254), (1.96, 0.975_002_105), (-3.0, 0.001_349_898)] {
            assert!((below(x) - want).abs() < 1e-7, "{x}: {}", below(x));
        }
    }

    #[test]
    fn rows_that_are_far_apart_need_no_depth() {
        let mut spread = Spread::default();
        (0..1000).for_each(|i| spread.add(100.0 + f64::from(i % 20)));
        assert!(spread.before(10.0, 1.0).iter().all(|rows| *rows < 0.01));
        let all = spread.before(200.0, 1.0);
        assert!(all.iter().all(|rows| (*rows - 16_000.0).abs() < 1.0), "{all:?}");
    }
}
