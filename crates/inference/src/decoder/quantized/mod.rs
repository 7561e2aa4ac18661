//! Matrices of 8-bit codes: [`unpack`] turns GGUF's blocks into codes, this module lays them out for [`kernel`].

pub mod kernel;
pub mod unpack;

use super::gguf::TensorType;
use super::lanes::{LANES, Lanes};
use super::parallel;
use kernel::{Line, Panels};
use unpack::{Format, Row};

/// Rows of quantised weights in panels of 16; missing rows of the last panel are zero.
pub struct Quantized {
    format: Format,
    width: usize,
    lines: Vec<Line>,
    scales: Vec<Lanes>,
    minimums: Vec<Lanes>,
}

/// Room for `n` items, or an error instead of an abort when memory is short.
pub fn room<T: Clone>(n: usize, value: T) -> crate::Result<Vec<T>> {
    let mut all = Vec::new();
    all.try_reserve_exact(n)
        .map_err(|_| crate::Error::Internal("not enough memory for the model".to_owned()))?;
    all.resize(n, value);
    Ok(all)
}

impl Quantized {
    /// A matrix of `rows` rows to be filled by [`Quantized::pack`].
    ///
    /// # Errors
    /// `Internal` when memory is short.
    pub fn new(format: Format, rows: usize, width: usize) -> crate::Result<Self> {
        let panels = rows.div_ceil(LANES);
        let groups = width / format.group;
        Ok(Self {
            format,
            width,
            lines: room(panels * (width / 4), Line([0; 64]))?,
            scales: room(panels * groups, Lanes::ZERO)?,
            minimums: room(if format.has_minimum { panels * groups } else { 0 }, Lanes::ZERO)?,
        })
    }

    /// Fills panels from panel `first` on with rows of `kind`, `row_bytes` bytes each.
    pub fn pack(&mut self, threads: usize, first: usize, kind: TensorType, bytes: &[u8], row_bytes: usize) {
        let (format, width) = (self.format, self.width);
        let (lines, groups) = (width / 4, width / format.group);
        let minimum_groups = if format.has_minimum { groups } else { 0 };
        let mut minimums = &mut self.minimums[first * minimum_groups..];
        let panels = self.lines[first * lines..]
            .chunks_exact_mut(lines)
            .zip(self.scales[first * groups..].chunks_exact_mut(groups))
            .zip(bytes.chunks(LANES * row_bytes))
            .map(|((lines, scales), bytes)| {
                let (head, tail) = std::mem::take(&mut minimums).split_at_mut(minimum_groups);
                minimums = tail;
                (lines, scales, head, bytes)
            });
        parallel::for_each(threads, panels.collect(), |(lines, scales, minimums, bytes): PanelJob| {
            let mut row = Row::new(width, format);
            for (r, bytes) in bytes.chunks_exact(row_bytes).enumerate() {
                row.unpack(kind, bytes);
                for (line, codes) in lines.iter_mut().zip(row.codes.chunks_exact(4)) {
                    line.0[r * 4..r * 4 + 4].copy_from_slice(codes);
                }
                for (lanes, scale) in scales.iter_mut().zip(&row.scales) {
                    lanes.0[r] = *scale;
                }
                for (lanes, minimum) in minimums.iter_mut().zip(&row.minimums) {
                    lanes.0[r] = *minimum;
                }
            }
        });
    }

    /// All panels.
    pub fn panels(&self) -> Panels<'_> {
        Panels {
            format: self.format,
            width: self.width,
            lines: &self.lines,
            scales: &self.scales,
            minimums: &self.minimums,
        }
    }

    /// The weights of row `row`.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let one = self.panels().range(row / LANES, 1);
        let lane = row % LANES;
        for (k, out) in out.iter_mut().enumerate() {
            let code = one.lines[k / 4].0[lane * 4 + k % 4];
            let group = k / self.format.group;
            let base = if self.format.has_minimum { one.minimums[group].0[lane] } else { 0.0 };
            *out = one.scales[group].0[lane] * (f32::from(code) - f32::from(self.format.offset)) + base;
        }
    }

    /// Bytes in memory.
    pub fn memory(&self) -> usize {
        size_of_val(&self.lines[..]) + size_of_val(&self.scales[..]) + size_of_val(&self.minimums[..])
    }
}

type PanelJob<'a> = (&'a mut [Line], &'a mut [Lanes], &'a mut [Lanes], &'a [u8]);
