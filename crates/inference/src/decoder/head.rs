//! The head: from the last layer's result to a logit for each entry of the vocabulary.
//!
//! It is a large part of what a token reads. Where only the best token is wanted, its high bits tell which rows can have
//! the largest logit, and the low bits of the others are not read.

use std::sync::Arc;

use super::activations::{Activations, Form};
use super::gguf::{Gguf, TensorType};
use super::isa::{Isa, dispatch};
use super::lanes::LANES;
use super::matrix::{Finish, Matrix, Planes, form, multiply};
use super::parallel::{self, Grid};
use super::quantized::kernel::takes_high_planes;
use super::quantized::packed::{Layout, Line};
use super::quantized::split::Split;
use super::quantized::unpack::{Format, Row};
use crate::prepared::{Draft, Image, Plan, View};
use crate::{Check, Pool, Result};

/// Section of the matrix, or of its high plane.
pub const OUTPUT: &str = "output.weight";
/// Section of its low plane.
const LOW: &str = "output.weight.low";
/// Section of what the low plane has beside its mean, for each row.
const NOISE: &str = "output.weight.noise";

/// How far, in standard deviations of what the low plane adds, a logit may be from what the high plane says; 5.7 is the most
/// that was seen of 63 million, as many as of normally distributed ones. Of the best tokens' panels 7 of 9,496 are left.
const DEVIATIONS: f32 = 10.0;

/// For how many tokens logits are wanted, the last ones, and what for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Tokens.
    pub tokens: usize,
    /// Which of each token's; None: all. Others may be off by what the low bits add, some hundredths.
    pub near: Option<Near>,
}

/// Logits of a token: those that are at most `span` below the `top`th largest, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Near {
    /// How many tokens are at least as good.
    pub top: usize,
    /// How much worse the others may be.
    pub span: f32,
}

impl Wanted {
    /// All logits of the last `tokens` tokens.
    pub fn all(tokens: usize) -> Self {
        Self { tokens, near: None }
    }
}

/// The matrix that gives the logits.
pub struct Head {
    matrix: Matrix,
    /// Its high plane, if it has two, and what the low plane has beside its mean, for each row.
    high: Option<(Matrix, View<f32>)>,
}

fn split_of(kind: TensorType, width: usize) -> Option<Split> {
    Split::of(Layout { format: Format::of(kind)?, width })
}

impl Head {
    /// Adds its sections to `plan`.
    pub fn plan(plan: &mut Plan, kind: TensorType, (rows, width): (usize, usize)) {
        let Some(split) = split_of(kind, width) else {
            return Matrix::plan(plan, OUTPUT, kind, (rows, width));
        };
        plan.section::<Line>(OUTPUT, split.high().lines(rows));
        plan.section::<Line>(LOW, rows.div_ceil(LANES).saturating_mul(split.low_lines()));
        plan.section::<f32>(NOISE, rows);
    }

    /// Fills them with the tensor `name`.
    ///
    /// # Errors
    /// As [`Matrix::fill`].
    pub fn fill(gguf: &Gguf, name: &str, draft: &mut Draft, pool: &Pool, check: Check<'_>) -> Result<()> {
        let tensor = gguf.tensor(name)?;
        let Some(split) = split_of(tensor.kind, tensor.width) else {
            return Matrix::fill(gguf, name, OUTPUT, draft, pool, check);
        };
        let [high, low, noise] = draft.fill_together([OUTPUT, LOW, NOISE])?;
        let mut high: &mut [Line] = bytemuck::cast_slice_mut(high);
        let mut low: &mut [Line] = bytemuck::cast_slice_mut(low);
        let mut noise: &mut [f32] = bytemuck::cast_slice_mut(noise);
        const ROWS: usize = 256 * LANES;
        for first in (0..tensor.rows).step_by(ROWS) {
            check()?;
            let rows = ROWS.min(tensor.rows - first);
            let mut bytes = vec![0; rows * tensor.row_bytes];
            gguf.read_rows(&tensor, first, &mut bytes)?;
            let mut jobs = Vec::new();
            for bytes in bytes.chunks(LANES * tensor.row_bytes) {
                let high = high.split_off_mut(..split.high().panel_lines()).unwrap_or_default();
                let low = low.split_off_mut(..split.low_lines()).unwrap_or_default();
                let noise = noise.split_off_mut(..bytes.len() / tensor.row_bytes).unwrap_or_default();
                jobs.push((bytes, high, low, noise));
            }
            parallel::for_each(pool, &mut jobs, |(bytes, high, low, noise)| {
                let mut row = Row::new(tensor.width, split.whole().format);
                for ((lane, bytes), noise) in
                    bytes.chunks_exact(tensor.row_bytes).enumerate().zip(noise.iter_mut())
                {
                    row.unpack(tensor.kind, bytes);
                    *noise = split.noise(&row);
                    split.pack(&mut row, lane, high, low);
                }
            })?;
        }
        Ok(())
    }

    /// The head in `image`.
    ///
    /// # Errors
    /// `Damaged` when a section is missing or has another size.
    pub fn open(image: &Arc<Image>, kind: TensorType, (rows, width): (usize, usize)) -> Result<Self> {
        let whole = width.is_multiple_of(kind.block().0);
        let Some(split) = split_of(kind, width).filter(|_| whole) else {
            return Ok(Self { matrix: Matrix::open(image, OUTPUT, kind, (rows, width))?, high: None });
        };
        let high = image.view(OUTPUT, split.high().lines(rows))?;
        let low = image.view(LOW, rows.div_ceil(LANES).saturating_mul(split.low_lines()))?;
        let [matrix, high] = Matrix::of_planes(rows, Planes { split, high, low });
        Ok(Self { matrix, high: Some((high, image.view(NOISE, rows)?)) })
    }

    /// The matrix.
    pub fn matrix(&self) -> &Matrix {
        &self.matrix
    }

    /// `logits[token][row]` for the rows of `x`. Where they may be `rough` they may be those of the high plane: true, and each
    /// token's are to be [settled](Head::settle).
    ///
    /// # Errors
    /// As [`parallel::for_each`].
    pub fn run(
        &self,
        isa: Isa,
        pool: &Pool,
        x: &Activations,
        rough: bool,
        logits: &mut [f32],
    ) -> Result<bool> {
        let rows = Grid::new(logits, self.matrix.rows);
        let high = self.high.as_ref().filter(|_| rough && takes_high_planes(isa, x.tokens));
        multiply(isa, pool, [high.map_or(&self.matrix, |(high, _)| high)], x, rows, Finish::Put)?;
        Ok(high.is_some())
    }

    /// In which form it reads its activations.
    pub fn form(&self) -> Form {
        form(&[&self.matrix])
    }

    /// Replaces those of `logits`, which the high plane made of the row `token` of `x`, that may be `near` the best by the
    /// whole matrix's. Logits that are -∞ cannot come and stay so.
    ///
    /// # Errors
    /// As [`parallel::for_each`].
    pub fn settle(
        &self,
        isa: Isa,
        pool: &Pool,
        x: &Activations,
        token: usize,
        near: Near,
        logits: &mut [f32],
    ) -> Result<()> {
        let Some((_, noise)) = &self.high else { return Ok(()) };
        let factor = self.matrix.planes().map_or(1.0, |planes| (1 << planes.split.low_bits()) as f32);
        let reach = DEVIATIONS * norm(x, token);
        let panels = self.matrix.panels();
        let mut bounds = vec![f32::NEG_INFINITY; panels];
        scale(isa, logits, factor, noise, reach, &mut bounds);
        // The best of as many panels are as many tokens.
        let least = match near.top.checked_sub(1) {
            Some(n) if n < panels => *bounds.select_nth_unstable_by(n, |a, b| b.total_cmp(a)).1 - near.span,
            _ => f32::NEG_INFINITY,
        };
        let mut is_near = vec![false; panels];
        mark(isa, logits, noise, reach, least, &mut is_near);
        let jobs = logits.chunks_mut(LANES).enumerate().zip(is_near);
        let mut jobs: Vec<_> = jobs.filter_map(|(job, is_near)| is_near.then_some(job)).collect();
        let each = parallel::share(jobs.len(), pool.threads(), 1);
        let tokens = x.tokens;
        let state = || (self.matrix.with(isa, x), vec![0.0; tokens * LANES]);
        pool.for_each(&mut jobs, each, &mut || Ok(()), state, |(product, results), _, jobs, _| {
            for (panel, logits) in jobs {
                product.panels(*panel..*panel + 1, results);
                for (logit, &result) in logits.iter_mut().zip(&results[token * LANES..]) {
                    if *logit > f32::NEG_INFINITY {
                        *logit = result;
                    }
                }
            }
            Ok(())
        })
    }
}

/// Norm of a token's activations as they are multiplied.
fn norm(x: &Activations, token: usize) -> f32 {
    let codes = x.codes[token * x.width..][..x.width].chunks_exact(32);
    let scales = &x.scales[token * x.width / 32..];
    let square = |codes: &[i8]| codes.iter().map(|&code| i32::from(code) * i32::from(code)).sum::<i32>();
    codes.zip(scales).map(|(codes, scale)| scale * scale * square(codes) as f32).sum::<f32>().sqrt()
}

dispatch! {
    /// Multiplies `logits` with `factor`; gives for each panel what its best logit is at least, if none is farther off than
    /// `reach` times its noise.
    fn scale(logits: &mut [f32], factor: f32, noise: &[f32], reach: f32, bounds: &mut [f32]) = scale_body
}

#[inline(always)]
fn scale_body<const FMA: bool>(
    logits: &mut [f32],
    factor: f32,
    noise: &[f32],
    reach: f32,
    bounds: &mut [f32],
) {
    for ((logits, noise), bound) in logits.chunks_mut(LANES).zip(noise.chunks(LANES)).zip(bounds) {
        let mut lower = [f32::NEG_INFINITY; LANES];
        for ((logit, noise), lower) in logits.iter_mut().zip(noise).zip(&mut lower) {
            *logit *= factor;
            *lower = *logit - reach * noise;
        }
        for half in [8, 4, 2, 1] {
            let (low, high) = lower.split_at_mut(half);
            for (low, &high) in low.iter_mut().zip(&high[..half]) {
                // No `max`: what NaN is to become there keeps it from one instruction.
                *low = if high > *low { high } else { *low };
            }
        }
        *bound = lower[0];
    }
}

dispatch! {
    /// Marks the panels that have a logit of at least `least`, if it is off by `reach` times its noise.
    fn mark(logits: &[f32], noise: &[f32], reach: f32, least: f32, panels: &mut [bool]) = mark_body
}

#[inline(always)]
fn mark_body<const FMA: bool>(logits: &[f32], noise: &[f32], reach: f32, least: f32, panels: &mut [bool]) {
    for ((logits, noise), panel) in logits.chunks(LANES).zip(noise.chunks(LANES)).zip(panels) {
        let is_near = |x: f32, noise: f32| (x + reach * noise >= least) & (x > f32::NEG_INFINITY);
        *panel = logits.iter().zip(noise).fold(false, |any, (&x, &noise)| any | is_near(x, noise));
    }
}
