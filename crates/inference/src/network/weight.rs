//! A matrix as its file holds it, and its product with rows of floats.

use std::sync::Arc;

use memmap2::Mmap;

use super::{Rows, Run};
use crate::Result;
use crate::decoder::gguf::TensorType;
use crate::decoder::isa::dispatch;
use crate::decoder::lanes::{LANES, Lanes, fma, multiply_tile};
use crate::decoder::matrix::floats;
use crate::decoder::quantized::unpack::{Format, Row};

/// Outputs that are computed together: two registers of AVX-512.
const PANEL: usize = 2 * LANES;
/// Tokens that are computed together.
const TILE: usize = 4;

/// Weights, row after row, in the mapped file or owned.
#[derive(Clone)]
enum Store {
    Mapped(Arc<Mmap>, usize),
    Owned(Arc<Vec<f32>>),
}

/// A matrix of `rows` rows of `width` weights.
#[derive(Clone)]
pub struct Weight {
    store: Store,
    kind: TensorType,
    rows: usize,
    width: usize,
    row_bytes: usize,
}

impl Weight {
    /// The matrix at `offset` in `pages`, which hold all of it.
    pub(super) fn mapped(
        pages: Arc<Mmap>,
        kind: TensorType,
        rows: usize,
        width: usize,
        offset: usize,
    ) -> Self {
        let (values, bytes) = kind.block();
        Self { store: Store::Mapped(pages, offset), kind, rows, width, row_bytes: width / values * bytes }
    }

    /// A matrix of `width` columns with these values.
    pub fn owned(values: Vec<f32>, width: usize) -> Self {
        let rows = values.len() / width.max(1);
        Self {
            store: Store::Owned(Arc::new(values)),
            kind: TensorType::F32,
            rows,
            width,
            row_bytes: width * 4,
        }
    }

    /// The `count` rows from `first` on.
    pub fn part(&self, first: usize, count: usize) -> Self {
        let store = match &self.store {
            Store::Mapped(pages, offset) => Store::Mapped(Arc::clone(pages), offset + first * self.row_bytes),
            Store::Owned(values) => {
                Store::Owned(Arc::new(values[first * self.width..][..count * self.width].to_vec()))
            }
        };
        Self { store, rows: count, ..*self }
    }

    /// Rows and columns exchanged, in f32.
    pub fn transposed(&self) -> Self {
        let mut values = vec![0.0; self.rows * self.width];
        let mut row = vec![0.0; self.width];
        for r in 0..self.rows {
            self.row(r, &mut row);
            row.iter().enumerate().for_each(|(c, &v)| values[c * self.rows + r] = v);
        }
        Self::owned(values, self.rows)
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Weights of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How the weights are stored.
    pub fn kind(&self) -> TensorType {
        self.kind
    }

    /// Bytes in the file or in memory.
    pub fn memory(&self) -> usize {
        self.rows * self.row_bytes
    }

    pub(super) fn bytes(&self, first: usize, count: usize) -> &[u8] {
        let (start, length) = (first * self.row_bytes, count * self.row_bytes);
        match &self.store {
            Store::Mapped(pages, offset) => &pages[offset + start..][..length],
            Store::Owned(values) => &bytemuck::cast_slice(values)[start..][..length],
        }
    }

    /// Widens row `i`, which must exist, into `out`.
    pub fn row(&self, i: usize, out: &mut [f32]) {
        widen(self.kind, self.bytes(i, 1), out);
    }

    /// The rows `ids`, all of which must exist.
    pub fn gather(&self, ids: &[u32]) -> Rows {
        let mut rows = Rows::zeros(ids.len(), self.width);
        rows.rows_mut().zip(ids).for_each(|(row, &id)| self.row(id as usize, row));
        rows
    }

    /// The rows `ids`, and the last one for those beyond it.
    pub fn gather_within(&self, ids: &[u32]) -> Rows {
        let last = self.rows as u32 - 1;
        self.gather(&ids.iter().map(|&id| id.min(last)).collect::<Vec<_>>())
    }

    /// x·Wᵀ + b: a row of `self.rows()` floats for each row of `x`.
    ///
    /// # Errors
    /// What the check of `run` says.
    pub fn product(&self, x: &Rows, bias: Option<&[f32]>, run: &mut Run<'_>) -> Result<Rows> {
        let (isa, tokens) = (run.isa, x.count());
        // Panel after panel of outputs; in each, token after token.
        let mut panels = vec![[Lanes::ZERO; 2]; self.rows.div_ceil(PANEL) * tokens];
        let init =
            || (vec![[Lanes::ZERO; 2]; if tokens < TILE { 0 } else { self.width }], vec![0.0; self.width]);
        run.pool.for_each(&mut panels, tokens, &mut *run.check, init, |(panel, row), i, out, check| {
            check()?;
            let first = i * PANEL;
            let count = PANEL.min(self.rows - first);
            let mut unpacked = Format::of(self.kind).map(|format| Row::new(self.width, format));
            for r in 0..count {
                widen_with(&mut unpacked, self.kind, self.bytes(first + r, 1), row);
                if tokens < TILE {
                    for (t, out) in out.iter_mut().enumerate() {
                        out[r / LANES].0[r % LANES] = dot(isa, x.row(t), row);
                    }
                } else {
                    panel.iter_mut().zip(&*row).for_each(|(p, &w)| p[r / LANES].0[r % LANES] = w);
                }
            }
            if tokens >= TILE {
                multiply(isa, panel, x, out);
            }
            Ok(())
        })?;
        let mut rows = Rows::zeros(tokens, self.rows);
        for (t, row) in rows.rows_mut().enumerate() {
            for (part, panel) in row.chunks_mut(PANEL).zip(panels.iter().skip(t).step_by(tokens)) {
                part.iter_mut().zip(panel.iter().flat_map(|lanes| &lanes.0)).for_each(|(out, v)| *out = *v);
            }
            if let Some(bias) = bias {
                row.iter_mut().zip(bias).for_each(|(out, b)| *out += b);
            }
        }
        Ok(rows)
    }
}

/// Widens the weights of one row.
pub(super) fn widen(kind: TensorType, bytes: &[u8], out: &mut [f32]) {
    widen_with(&mut Format::of(kind).map(|format| Row::new(out.len(), format)), kind, bytes, out);
}

fn widen_with(space: &mut Option<Row>, kind: TensorType, bytes: &[u8], out: &mut [f32]) {
    match space {
        None => floats(kind, bytes, out),
        Some(row) => {
            row.unpack(kind, bytes);
            row.weights(out);
        }
    }
}

dispatch! {
    /// Σ a·b, in one order.
    pub fn dot(a: &[f32], b: &[f32]) -> f32 = dot_body
}

#[inline(always)]
fn dot_body<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [[0.0_f32; LANES]; 4];
    let (a_fours, a_rest) = a.as_chunks::<{ 4 * LANES }>();
    let (b_fours, b_rest) = b.as_chunks::<{ 4 * LANES }>();
    for (a, b) in a_fours.iter().zip(b_fours) {
        for part in 0..4 {
            for lane in 0..LANES {
                let i = part * LANES + lane;
                sums[part][lane] = fma::<FMA>(a[i], b[i], sums[part][lane]);
            }
        }
    }
    let mut rest = 0.0;
    for (&a, &b) in a_rest.iter().zip(b_rest) {
        rest = fma::<FMA>(a, b, rest);
    }
    let lanes = (0..LANES).map(|i| (sums[0][i] + sums[1][i]) + (sums[2][i] + sums[3][i]));
    lanes.sum::<f32>() + rest
}

dispatch! {
    fn multiply(panel: &[[Lanes; 2]], x: &Rows, out: &mut [[Lanes; 2]]) = multiply_body
}

#[inline(always)]
fn multiply_body<const FMA: bool>(panel: &[[Lanes; 2]], x: &Rows, out: &mut [[Lanes; 2]]) {
    let width = panel.len();
    let mut tiles = out.chunks_exact_mut(TILE);
    let mut rows = x.data.chunks_exact(TILE * width);
    for (out, rows) in tiles.by_ref().zip(rows.by_ref()) {
        let mut sums = [[Lanes::ZERO; 2]; TILE];
        multiply_tile::<FMA, TILE, 2>(
            std::array::from_fn(|r| &rows[r * width..][..width]),
            |k, c| &panel[k][c],
            &mut sums,
        );
        out.copy_from_slice(&sums);
    }
    for (out, row) in tiles.into_remainder().iter_mut().zip(rows.remainder().chunks_exact(width)) {
        let mut sums = [[Lanes::ZERO; 2]];
        multiply_tile::<FMA, 1, 2>([row], |k, c| &panel[k][c], &mut sums);
        *out = sums[0];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pool;

    #[test]
    fn products_are_those_of_the_plain_sum_at_awkward_sizes() {
        let value = |i: usize| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0;
        for (tokens, width, rows) in [(1, 1, 1), (3, 48, 33), (4, 7, 32), (5, 130, 65), (11, 64, 96)] {
            let weight = Weight::owned((0..rows * width).map(value).collect(), width);
            let x = Rows { width, data: (0..tokens * width).map(|i| value(i + 5)).collect() };
            let bias: Vec<f32> = (0..rows).map(|i| value(i + 9)).collect();
            let mut seen: Option<Rows> = None;
            for threads in [1, 3] {
                let pool = Pool::new(threads).unwrap();
                let got = weight.product(&x, Some(&bias), &mut Run::new(&pool, &mut || Ok(()))).unwrap();
                for t in 0..tokens {
                    for r in 0..rows {
                        let products = (0..width).map(|k| x.row(t)[k] * value(r * width + k));
                        let want = products.sum::<f32>() + bias[r];
                        assert!((got.row(t)[r] - want).abs() < 1e-4, "{tokens} {width} {rows}");
                    }
                }
                assert_eq!(*seen.get_or_insert_with(|| got.clone()), got);
            }
        }
    }
}
