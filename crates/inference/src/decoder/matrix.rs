//! Weight matrices: packed codes ([`quantized`](super::quantized)), and floats for files that hold floats.

use std::ops::Range;
use std::sync::Arc;

use half::{bf16, f16};

use super::activations::{Activations, Form, Part};
use super::gguf::{Gguf, TensorType};
use super::isa::{Isa, dispatch};
use super::lanes::{LANES, Lanes, multiply_tile, swiglu};
use super::parallel::{self, Grid};
use super::quantize::WIDE_SPAN;
use super::quantized::kernel::Multiplier;
use super::quantized::packed::{BLOCK, Expanded, Layout, Line, expand};
use super::quantized::split::Split;
use super::quantized::unpack::{Format, Row};
use crate::prepared::{Draft, Image, Plan, View};
use crate::{Check, Pool, Result};

/// About how many bytes of a tensor are read at once.
const CHUNK_BYTES: usize = 4 << 20;

/// Weights of a linear layer: `rows` outputs from `width` inputs.
pub struct Matrix {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub width: usize,
    weights: Weights,
}

enum Weights {
    Packed(Layout, View<Line>),
    Split(Planes),
    /// The high plane of such a matrix by itself.
    High(Split, View<Line>),
    /// Panels of 16 rows, `width` lanes each.
    Dense(View<Lanes>),
}

/// A matrix whose high and low bits lie apart.
pub struct Planes {
    /// How they do.
    pub split: Split,
    /// Panels of 16 rows with the high bits.
    pub high: View<Line>,
    /// The same with the low bits.
    pub low: View<Line>,
}

impl Planes {
    /// Panels of both planes together.
    fn merge(&self, isa: Isa, panels: Range<usize>, out: &mut Vec<Line>) {
        let (whole, high, low) =
            (self.split.whole().panel_lines(), self.split.high().panel_lines(), self.split.low_lines());
        out.resize(panels.len() * whole, Line::ZERO);
        for (panel, out) in panels.zip(out.chunks_exact_mut(whole)) {
            let [high, low] =
                [(&self.high, high), (&self.low, low)].map(|(lines, each)| &lines[panel * each..][..each]);
            self.split.merge(isa, high, low, out);
        }
    }
}

/// How the file holds the matrix `name`, which must have `rows` rows of `width` values.
///
/// # Errors
/// `Damaged` for a missing tensor or another shape.
pub fn kind(gguf: &Gguf, name: &str, (rows, width): (usize, usize)) -> Result<TensorType> {
    let tensor = gguf.tensor(name)?;
    if (tensor.rows, tensor.width) == (rows, width) {
        return Ok(tensor.kind);
    }
    let found = format!("{} × {}", tensor.rows, tensor.width);
    Err(gguf.damaged(format!("tensor \"{name}\" is {found} instead of {rows} × {width}")))
}

fn lanes_of(rows: usize, width: usize) -> usize {
    rows.div_ceil(LANES).saturating_mul(width)
}

impl Matrix {
    /// Adds the section of a matrix to `plan`.
    pub fn plan(plan: &mut Plan, section: &str, kind: TensorType, (rows, width): (usize, usize)) {
        match Format::of(kind) {
            Some(format) => plan.section::<Line>(section, Layout { format, width }.lines(rows)),
            None => plan.section::<Lanes>(section, lanes_of(rows, width)),
        }
    }

    /// Fills the planned section with the tensor `name`.
    ///
    /// # Errors
    /// `Io` when the file cannot be read; whatever `check` returns.
    pub fn fill(
        gguf: &Gguf,
        name: &str,
        section: &str,
        draft: &mut Draft,
        pool: &Pool,
        check: Check<'_>,
    ) -> Result<()> {
        let tensor = gguf.tensor(name)?;
        let (rows, width) = (tensor.rows, tensor.width);
        let rows_at_once = (CHUNK_BYTES / tensor.row_bytes).max(1).next_multiple_of(LANES);
        let mut bytes = Vec::new();
        for first in (0..rows).step_by(rows_at_once) {
            check()?;
            bytes.resize(rows_at_once.min(rows - first) * tensor.row_bytes, 0);
            gguf.read_rows(&tensor, first, &mut bytes)?;
            if let Some(format) = Format::of(tensor.kind) {
                let layout = Layout { format, width };
                let panels = draft.fill::<Line>(section)?.chunks_exact_mut(layout.panel_lines());
                let jobs = panels.skip(first / LANES).zip(bytes.chunks(LANES * tensor.row_bytes));
                parallel::for_each(pool, &mut jobs.collect::<Vec<_>>(), |(panel, bytes)| {
                    let mut row = Row::new(width, format);
                    for (lane, bytes) in bytes.chunks_exact(tensor.row_bytes).enumerate() {
                        row.unpack(tensor.kind, bytes);
                        layout.pack(&row, lane, panel);
                    }
                })?;
            } else {
                let lanes = draft.fill::<Lanes>(section)?;
                let mut row = vec![0.0; width];
                for (i, bytes) in bytes.chunks_exact(tensor.row_bytes).enumerate() {
                    floats(tensor.kind, bytes, &mut row);
                    let panel = &mut lanes[(first + i) / LANES * width..][..width];
                    for (lanes, value) in panel.iter_mut().zip(&row) {
                        lanes.0[i % LANES] = *value;
                    }
                }
            }
        }
        Ok(())
    }

    /// The matrix in section `section` of `image`.
    ///
    /// # Errors
    /// `Damaged` when there is no such section of this size.
    pub fn open(
        image: &Arc<Image>,
        section: &str,
        kind: TensorType,
        (rows, width): (usize, usize),
    ) -> Result<Self> {
        let weights = match Format::of(kind) {
            Some(format) if width.is_multiple_of(kind.block().0) => {
                let layout = Layout { format, width };
                Weights::Packed(layout, image.view(section, layout.lines(rows))?)
            }
            Some(_) => return Err(image.damaged(format!("{width} values are no whole blocks of {kind:?}"))),
            None => Weights::Dense(image.view(section, lanes_of(rows, width))?),
        };
        Ok(Self { rows, width, weights })
    }

    /// Whether its weights are floats.
    pub fn is_dense(&self) -> bool {
        matches!(self.weights, Weights::Dense(_))
    }

    /// Number of panels of 16 rows.
    pub fn panels(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    /// The weights of row `row`.
    pub fn row(&self, isa: Isa, row: usize, out: &mut [f32]) {
        match &self.weights {
            Weights::Packed(layout, lines) => row_of_panels(isa, *layout, lines, row, out),
            Weights::High(split, lines) => row_of_panels(isa, split.high(), lines, row, out),
            Weights::Split(planes) => {
                let (panel, mut lines) = (row / LANES, Vec::new());
                planes.merge(isa, panel..panel + 1, &mut lines);
                row_of_panels(isa, planes.split.whole(), &lines, row % LANES, out);
            }
            Weights::Dense(lanes) => {
                let panel = &lanes[row / LANES * self.width..][..self.width];
                for (out, lanes) in out.iter_mut().zip(panel) {
                    *out = lanes.0[row % LANES];
                }
            }
        }
    }

    /// A matrix in two planes, and its high plane by itself.
    pub fn of_planes(rows: usize, planes: Planes) -> [Self; 2] {
        let (width, high) = (planes.split.whole().width, planes.high.clone());
        let split = planes.split;
        [Weights::Split(planes), Weights::High(split, high)].map(|weights| Self { rows, width, weights })
    }

    /// Its planes, if it has two.
    pub fn planes(&self) -> Option<&Planes> {
        if let Weights::Split(planes) = &self.weights { Some(planes) } else { None }
    }

    /// Ready to multiply its panels with `x`.
    pub fn with<'a>(&'a self, isa: Isa, x: &'a Activations) -> Product<'a> {
        match &self.weights {
            Weights::Packed(layout, lines) => {
                Product::Packed(Multiplier::new(isa, *layout, x), *layout, lines)
            }
            Weights::Split(planes) => {
                let multiplier = Multiplier::new(isa, planes.split.whole(), x);
                Product::Split(multiplier, isa, planes, Vec::new())
            }
            Weights::High(split, lines) => {
                Product::Packed(Multiplier::of_high_plane(isa, *split, x), split.high(), lines)
            }
            Weights::Dense(lanes) => Product::Dense(isa, x, lanes),
        }
    }
}

/// The weights of row `row` of some panels.
fn row_of_panels(isa: Isa, layout: Layout, lines: &[Line], row: usize, out: &mut [f32]) {
    let (panel_lines, lane) = (layout.panel_lines(), row % LANES);
    let panel = &lines[row / LANES * panel_lines..][..panel_lines];
    let mut all = Expanded::new(layout.format, layout.width / BLOCK);
    expand(isa, layout, panel, 0, &mut all);
    let Format { group, offset, has_minimum, .. } = layout.format;
    for (k, out) in out.iter_mut().enumerate() {
        let code = all.lines[k / 4].0[lane * 4 + k % 4];
        let base = if has_minimum { all.minimums[k / group].0[lane] } else { 0.0 };
        *out = all.scales[k / group].0[lane] * (f32::from(code) - f32::from(offset)) + base;
    }
}

/// In which form the matrices read their activations.
pub fn form(matrices: &[&Matrix]) -> Form {
    Form {
        floats: matrices.iter().any(|m| m.is_dense()),
        codes: !matrices.iter().all(|m| m.is_dense()),
        rounds: matrices
            .iter()
            .any(|m| matches!(m.weights, Weights::Packed(layout, _) if layout.format.bits < 8)),
    }
}

/// A matrix and the activations that it is multiplied with. One is made for each product, so that boxes would cost more than
/// the difference of the sizes.
#[allow(clippy::large_enum_variant)]
pub enum Product<'a> {
    /// Panels as they lie.
    Packed(Multiplier<'a>, Layout, &'a [Line]),
    /// Panels that are put together, in the last.
    Split(Multiplier<'a>, Isa, &'a Planes, Vec<Line>),
    /// Floats.
    Dense(Isa, &'a Activations, &'a [Lanes]),
}

impl Product<'_> {
    /// Results of some panels: `out[panel][token][row of the panel]`.
    pub fn panels(&mut self, panels: Range<usize>, out: &mut [f32]) {
        match self {
            Self::Packed(multiplier, layout, lines) => {
                let each = layout.panel_lines();
                multiplier.run(&lines[panels.start * each..panels.end * each], out);
            }
            Self::Split(multiplier, isa, planes, lines) => {
                planes.merge(*isa, panels, lines);
                multiplier.run(lines, out);
            }
            Self::Dense(isa, x, lanes) => {
                multiply_dense(*isa, &lanes[panels.start * x.width..panels.end * x.width], x, out);
            }
        }
    }
}

/// Panels whose results are made and passed on together, a multiple of `least`: these stay in a fast cache, and so do the
/// activations where they fit; where they do not, more panels read them.
fn step(x: &Activations, least: usize) -> usize {
    const CACHE: usize = 512 << 10;
    let most = if x.codes.len() > CACHE { 4096 } else { 512 };
    (most / x.tokens.max(1)).clamp(least, 16) / least * least
}

/// Calls `f` with the panels of each step.
fn steps(panels: Range<usize>, step: usize, mut f: impl FnMut(Range<usize>)) {
    panels.clone().step_by(step).for_each(|first| f(first..panels.end.min(first + step)));
}

/// What becomes of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// They replace what was there.
    Put,
    /// They are added to it.
    Add,
}

dispatch! {
    /// Passes on sixteen results at every `stride`, as far as `to` goes.
    fn finish_row(results: &[[f32; LANES]], stride: usize, finish: Finish, to: &mut [f32]) = finish_row_body
}

#[inline(always)]
fn finish_row_body<const FMA: bool>(results: &[[f32; LANES]], stride: usize, finish: Finish, to: &mut [f32]) {
    let (whole, rest) = to.as_chunks_mut::<LANES>();
    let mut results = results.iter().step_by(stride);
    for (to, from) in whole.iter_mut().zip(&mut results) {
        match finish {
            Finish::Put => *to = *from,
            Finish::Add => to.iter_mut().zip(from).for_each(|(to, from)| *to += from),
        }
    }
    for (to, from) in rest.iter_mut().zip(results.next().into_iter().flatten()) {
        *to = if finish == Finish::Add { *to + from } else { *from };
    }
}

/// Multiplies several matrices with the same activations. `out` has a row for each token, with the results of the
/// matrices side by side.
///
/// # Errors
/// As [`parallel::for_each`].
pub fn multiply<const N: usize>(
    isa: Isa,
    pool: &Pool,
    matrices: [&Matrix; N],
    x: &Activations,
    mut out: Grid<'_, f32>,
    finish: Finish,
) -> Result<()> {
    let each = parallel::share(matrices.iter().map(|m| m.panels()).sum(), pool.threads(), 2);
    let mut jobs = Vec::new();
    for matrix in matrices {
        let mut out = out.take_left(matrix.rows);
        for first in (0..matrix.panels()).step_by(each) {
            jobs.push((matrix, first..matrix.panels().min(first + each), out.take_left(each * LANES)));
        }
    }
    parallel::for_each(pool, &mut jobs, |(matrix, panels, out)| {
        let mut product = matrix.with(isa, x);
        let step = step(x, 2);
        let mut results = vec![[0.0; LANES]; step.min(panels.len()) * x.tokens];
        steps(panels.clone(), step, |panels| {
            let results = &mut results[..panels.len() * x.tokens];
            product.panels(panels.clone(), results.as_flattened_mut());
            let mut out = out.take_left(panels.len() * LANES);
            for token in 0..x.tokens {
                finish_row(isa, &results[token..], x.tokens, finish, out.row(token));
            }
        });
    })
}

/// Writes SwiGLU of the results of two matrices of the same size.
///
/// # Errors
/// As [`parallel::for_each`].
pub fn multiply_gated(
    isa: Isa,
    pool: &Pool,
    [gate, up]: [&Matrix; 2],
    x: &Activations,
    mut out: Part<'_>,
) -> Result<()> {
    let (panels, rows) = (gate.panels(), gate.rows);
    let each = parallel::share(panels, pool.threads(), WIDE_SPAN / LANES);
    let step = step(x, WIDE_SPAN / LANES);
    let jobs = (0..panels).step_by(each);
    let jobs = jobs.map(|first| (first..panels.min(first + each), out.take_left(each * LANES)));
    parallel::for_each(pool, &mut jobs.collect::<Vec<_>>(), |(panels, out)| {
        let (mut gates, mut ups) = (gate.with(isa, x), up.with(isa, x));
        let size = step.min(panels.len()) * x.tokens * LANES;
        let [mut a, mut b] = [(); 2].map(|()| vec![0.0; size]);
        let mut row = vec![0.0; step * LANES];
        steps(panels.clone(), step, |panels| {
            let size = panels.len() * x.tokens * LANES;
            gates.panels(panels.clone(), &mut a[..size]);
            ups.panels(panels.clone(), &mut b[..size]);
            let columns = (panels.len() * LANES).min(rows - panels.start * LANES);
            let mut out = out.take_left(columns);
            for token in 0..x.tokens {
                let [a, b] = [&a[..size], &b[..size]].map(|results| &results[token * LANES..]);
                swiglu(isa, a, b, x.tokens * LANES, &mut row);
                out.write(isa, token, &row[..columns]);
            }
        });
    })
}

dispatch! {
    fn multiply_dense(panels: &[Lanes], x: &Activations, out: &mut [f32]) = multiply_dense_body
}

#[inline(always)]
fn multiply_dense_body<const FMA: bool>(panels: &[Lanes], x: &Activations, out: &mut [f32]) {
    let width = x.width;
    for (panel, out) in panels.chunks_exact(width).zip(out.chunks_exact_mut(x.tokens * LANES)) {
        let (fours, rest) = x.rows.split_at(x.tokens / 4 * 4 * width);
        let (out_fours, out_rest) = out.split_at_mut(x.tokens / 4 * 4 * LANES);
        for (rows, out) in fours.chunks_exact(4 * width).zip(out_fours.chunks_exact_mut(4 * LANES)) {
            let mut sums = [[Lanes::ZERO]; 4];
            let rows = std::array::from_fn(|r| &rows[r * width..][..width]);
            multiply_tile::<FMA, 4, 1>(rows, |k, _| &panel[k], &mut sums);
            for (out, [sums]) in out.chunks_exact_mut(LANES).zip(&sums) {
                out.copy_from_slice(&sums.0);
            }
        }
        for (row, out) in rest.chunks_exact(width).zip(out_rest.chunks_exact_mut(LANES)) {
            let mut sums = [[Lanes::ZERO]];
            multiply_tile::<FMA, 1, 1>([row], |k, _| &panel[k], &mut sums);
            out.copy_from_slice(&sums[0][0].0);
        }
    }
}

/// Reads values of a float type.
pub fn floats(kind: TensorType, bytes: &[u8], out: &mut [f32]) {
    match kind {
        TensorType::F16 => {
            for (out, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *out = f16::from_le_bytes([b[0], b[1]]).to_f32();
            }
        }
        TensorType::BF16 => {
            for (out, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *out = bf16::from_le_bytes([b[0], b[1]]).to_f32();
            }
        }
        _ => {
            for (out, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                *out = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            }
        }
    }
}

/// Reads the vector `name` of `length` floats.
///
/// # Errors
/// `Damaged` for a missing tensor, another length, or a quantised type.
pub fn load_vector(gguf: &Gguf, name: &str, length: usize) -> Result<Vec<f32>> {
    let tensor = gguf.tensor(name)?;
    if (tensor.rows, tensor.width) != (1, length) || Format::of(tensor.kind).is_some() {
        return Err(gguf.damaged(format!("tensor \"{name}\" is not a vector of {length} floats")));
    }
    let mut bytes = vec![0; tensor.row_bytes];
    gguf.read_rows(&tensor, 0, &mut bytes)?;
    let mut out = vec![0.0; length];
    floats(tensor.kind, &bytes, &mut out);
    Ok(out)
}
