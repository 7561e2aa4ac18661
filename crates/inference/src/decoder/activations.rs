//! Rows of activations on their way into a matrix.

use super::isa::Isa;
use super::parallel::{self, Grid};
use super::quantize::{Codes, SPAN, WIDE_SPAN, quantize_row};
use crate::{Pool, Result};

/// In which form matrices read their activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// As floats.
    pub floats: bool,
    /// As codes.
    pub codes: bool,
    /// Whether some of them have weights that may be rounded.
    pub rounds: bool,
}

/// Rows of activations, one for each token: floats for matrices of floats, 8-bit codes for quantised ones.
#[derive(Default)]
pub struct Activations {
    /// Number of rows.
    pub tokens: usize,
    /// Values of a row.
    pub width: usize,
    /// Row-major floats, if they are read.
    pub rows: Vec<f32>,
    /// Row-major codes, if they are read; row ≈ scale · code.
    pub codes: Vec<i8>,
    /// A scale for each 32 values; wider spans have it several times.
    pub scales: Vec<f32>,
    /// Sums of the codes of each 16 values.
    pub sums16: Vec<i32>,
    /// Sums of the codes of each 32 values.
    pub sums32: Vec<i32>,
    /// What codes with an offset of [`OFFSET`](super::quantize::OFFSET) add to the products of each span, less than zero;
    /// empty unless `rounded`.
    pub starts: Vec<i32>,
    /// Whether they are a prompt's, to be multiplied with rounded weights where there are such.
    pub of_prompt: bool,
    /// Whether they are to be multiplied with rounded weights.
    pub rounded: bool,
}

/// The same columns of some rows, to be written.
pub struct Part<'a> {
    rows: Grid<'a, f32>,
    codes: Grid<'a, i8>,
    scales: Grid<'a, f32>,
    sums16: Grid<'a, i32>,
    sums32: Grid<'a, i32>,
    starts: Grid<'a, i32>,
    span: usize,
}

impl Activations {
    /// Values that share a scale.
    pub fn span(&self) -> usize {
        if self.rounded && self.width.is_multiple_of(WIDE_SPAN) { WIDE_SPAN } else { SPAN }
    }

    /// Becomes rows of `width` values, to be written; for codes that is a multiple of 32.
    pub fn start(&mut self, (tokens, width): (usize, usize), form: Form) -> Part<'_> {
        (self.tokens, self.width) = (tokens, width);
        self.rounded = self.of_prompt && form.rounds;
        let columns = |used: bool| if used { width } else { 0 };
        let (floats, codes) = (columns(form.floats), columns(form.codes));
        self.rows.resize(tokens * floats, 0.0);
        self.codes.resize(tokens * codes, 0);
        self.scales.resize(tokens * codes / 32, 0.0);
        self.sums16.resize(tokens * codes / 16, 0);
        self.sums32.resize(tokens * codes / 32, 0);
        let span = self.span();
        let starts = if self.rounded { codes / span } else { 0 };
        self.starts.resize(tokens * starts, 0);
        Part {
            rows: Grid::new(&mut self.rows, floats),
            codes: Grid::new(&mut self.codes, codes),
            scales: Grid::new(&mut self.scales, codes / 32),
            sums16: Grid::new(&mut self.sums16, codes / 16),
            sums32: Grid::new(&mut self.sums32, codes / 32),
            starts: Grid::new(&mut self.starts, starts),
            span,
        }
    }

    /// Fills the rows of `tokens` tokens: `f(token, side, row)` writes a row; `side` is the token's part of a
    /// buffer that `f` may change too (the residual stream).
    ///
    /// # Errors
    /// As [`parallel::for_each`].
    pub fn fill(
        &mut self,
        isa: Isa,
        pool: &Pool,
        (tokens, width): (usize, usize),
        form: Form,
        side: &mut [f32],
        f: impl Fn(usize, &mut [f32], &mut [f32]) + Send + Sync,
    ) -> Result<()> {
        let mut part = self.start((tokens, width), form);
        let mut side = Grid::new(side, side.len() / tokens.max(1));
        let each = parallel::share(tokens, pool.threads(), 1);
        let jobs = (0..tokens).step_by(each).map(|first| (first, part.take_top(each), side.take_top(each)));
        parallel::for_each(pool, &mut jobs.collect::<Vec<_>>(), |(first, part, side)| {
            let mut row = vec![0.0; width];
            for i in 0..each.min(tokens - *first) {
                let side = if side.columns() > 0 { side.row(i) } else { &mut [] };
                f(*first + i, side, &mut row);
                part.write(isa, i, &row);
            }
        })
    }
}

impl Part<'_> {
    /// Takes off the first `rows` rows.
    pub fn take_top(&mut self, rows: usize) -> Self {
        Self {
            rows: self.rows.take_top(rows),
            codes: self.codes.take_top(rows),
            scales: self.scales.take_top(rows),
            sums16: self.sums16.take_top(rows),
            sums32: self.sums32.take_top(rows),
            starts: self.starts.take_top(rows),
            span: self.span,
        }
    }

    /// Takes off the first `columns` columns, a multiple of the span unless they are all that is left.
    pub fn take_left(&mut self, columns: usize) -> Self {
        Self {
            rows: self.rows.take_left(columns),
            codes: self.codes.take_left(columns),
            scales: self.scales.take_left(columns / 32),
            sums16: self.sums16.take_left(columns / 16),
            sums32: self.sums32.take_left(columns / 32),
            starts: self.starts.take_left(columns / self.span),
            span: self.span,
        }
    }

    /// Writes the values of a row.
    pub fn write(&mut self, isa: Isa, row: usize, values: &[f32]) {
        if self.rows.columns() > 0 {
            self.rows.row(row).copy_from_slice(values);
        }
        if self.codes.columns() > 0 {
            let [sums16, sums32] = [&mut self.sums16, &mut self.sums32].map(|sums| sums.row(row));
            let (codes, scales) = (self.codes.row(row), self.scales.row(row));
            let starts = if self.starts.columns() > 0 { self.starts.row(row) } else { &mut [] };
            quantize_row(isa, values, self.span, Codes { codes, scales, sums16, sums32, starts });
        }
    }
}
