//! Rows of activations on their way into a matrix.

use super::isa::Isa;
use super::lanes::quantize_row;
use super::parallel;

/// Rows of activations, one for each token: the floats, and their 8-bit form for quantised matrices.
#[derive(Default)]
pub struct Activations {
    /// Number of rows.
    pub tokens: usize,
    /// Values of a row.
    pub width: usize,
    /// Row-major floats.
    pub rows: Vec<f32>,
    /// Row-major codes; row ≈ scale · code. Not filled when the width is no multiple of 32.
    pub codes: Vec<i8>,
    /// A scale for each 32 values.
    pub scales: Vec<f32>,
    /// Sums of the codes of each 16 values.
    pub sums16: Vec<i32>,
    /// Sums of the codes of each 32 values.
    pub sums32: Vec<i32>,
}

struct Job<'a> {
    first: usize,
    side: &'a mut [f32],
    rows: &'a mut [f32],
    codes: &'a mut [i8],
    scales: &'a mut [f32],
    sums16: &'a mut [i32],
    sums32: &'a mut [i32],
}

fn split<'a, T>(rest: &mut &'a mut [T], at: usize) -> &'a mut [T] {
    let (head, tail) = std::mem::take(rest).split_at_mut(at);
    *rest = tail;
    head
}

impl Activations {
    /// Fills the rows of `tokens` tokens: `f(token, side, row)` writes a row; `side` is the token's part of a
    /// buffer that `f` may change too (the residual stream).
    pub fn fill(
        &mut self,
        isa: Isa,
        threads: usize,
        (tokens, width): (usize, usize),
        side: &mut [f32],
        f: impl Fn(usize, &mut [f32], &mut [f32]) + Send + Sync,
    ) {
        let blocks = if width.is_multiple_of(32) { width / 32 } else { 0 };
        (self.tokens, self.width) = (tokens, width);
        self.rows.resize(tokens * width, 0.0);
        self.codes.resize(tokens * blocks * 32, 0);
        self.scales.resize(tokens * blocks, 0.0);
        self.sums16.resize(tokens * blocks * 2, 0);
        self.sums32.resize(tokens * blocks, 0);
        let side_width = side.len() / tokens.max(1);
        let each = parallel::share(tokens, threads, 1);
        let (mut side, mut rows, mut codes) = (side, &mut self.rows[..], &mut self.codes[..]);
        let (mut scales, mut sums16, mut sums32) =
            (&mut self.scales[..], &mut self.sums16[..], &mut self.sums32[..]);
        let jobs = (0..tokens).step_by(each).map(|first| {
            let n = each.min(tokens - first);
            Job {
                first,
                side: split(&mut side, n * side_width),
                rows: split(&mut rows, n * width),
                codes: split(&mut codes, n * blocks * 32),
                scales: split(&mut scales, n * blocks),
                sums16: split(&mut sums16, n * blocks * 2),
                sums32: split(&mut sums32, n * blocks),
            }
        });
        parallel::for_each(threads, jobs.collect(), |job: Job| {
            for (i, row) in job.rows.chunks_exact_mut(width).enumerate() {
                f(job.first + i, &mut job.side[i * side_width..][..side_width], row);
                if blocks > 0 {
                    quantize_row(
                        isa,
                        row,
                        &mut job.codes[i * width..][..width],
                        &mut job.scales[i * blocks..][..blocks],
                        &mut job.sums16[i * blocks * 2..][..blocks * 2],
                        &mut job.sums32[i * blocks..][..blocks],
                    );
                }
            }
        });
    }
}
