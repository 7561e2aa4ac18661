//! Panels of 16 rows at 4, 5, 6 or 8 bits a weight, and the way back to codes and floats.
//!
//! A panel is a run of 64-byte lines: first the codes, then scales and minimums.
//! - Codes of 32 weights of each row are `bits` lines. With 8 bits, byte `4 · row + i` of line `q` is weight `4 · q + i`
//!   of `row`. With fewer bits, four lines hold the low four bits of weights `4 · q + i` in the half bytes of line
//!   `q / 2`, and the next lines the higher bits, a bit (5) or two bits (6) of every byte for each `q`.
//! - Factors are the floats of all spans (16 halves each), then the steps of all groups (16 bytes each).

#[cfg(target_arch = "x86_64")]
use std::ops::Range;

use half::f16;

use super::unpack::{Factors, Format, Row};
use crate::decoder::isa::dispatch;
use crate::decoder::lanes::{LANES, Lanes};

/// Weights of a row whose codes lie together.
pub const BLOCK: usize = 32;
/// Lines that a block's codes fill when they are bytes: four weights of each of the 16 rows in a line.
pub const QUADS: usize = BLOCK / 4;

/// 64 bytes, a register of AVX-512.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub struct Line(pub [u8; 64]);

impl Line {
    /// All zero.
    pub const ZERO: Self = Self([0; 64]);
}

/// How long the parts of a panel are.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// What the codes mean.
    pub format: Format,
    /// Weights of a row.
    pub width: usize,
}

impl Layout {
    /// Lines of codes.
    pub fn code_lines(self) -> usize {
        self.width / BLOCK * self.format.bits
    }

    fn factor_bytes(self) -> usize {
        let steps = if self.format.has_steps() { self.width / self.format.group * LANES } else { 0 };
        self.width / self.format.span * LANES * size_of::<f16>() + steps
    }

    /// Where scales and minimums (if there are any) begin after the codes, and where the panel ends, in bytes.
    pub fn factors(self) -> (usize, usize) {
        (self.factor_bytes(), self.factor_bytes() * if self.format.has_minimum { 2 } else { 1 })
    }

    /// Lines of a panel that hold some blocks: their codes, and what their scales and minimums are made of.
    #[cfg(target_arch = "x86_64")]
    pub fn lines_of(self, blocks: Range<usize>) -> impl Iterator<Item = usize> + Clone {
        let (Format { bits, span, group, has_minimum, .. }, codes) = (self.format, self.code_lines());
        let (halves, kind) = (self.width / span * LANES * size_of::<f16>(), self.factor_bytes());
        let (from, to) = (blocks.start * BLOCK, blocks.end * BLOCK);
        // Of the factors from a byte on, of which there are `size` bytes for `each` weights.
        let part = move |byte: usize, each: usize, size: usize| {
            codes + (byte + from / each * size) / 64..codes + (byte + to.div_ceil(each) * size).div_ceil(64)
        };
        let factors = (0..=usize::from(has_minimum)).flat_map(move |i| {
            let steps = self.format.has_steps().then(|| part(i * kind + halves, group, LANES));
            part(i * kind, span, LANES * size_of::<f16>()).chain(steps.into_iter().flatten())
        });
        (blocks.start * bits..blocks.end * bits).chain(factors)
    }

    /// Lines of a panel.
    pub fn panel_lines(self) -> usize {
        self.code_lines() + self.factors().1.div_ceil(64)
    }

    /// Lines of a matrix of `rows` rows.
    pub fn lines(self, rows: usize) -> usize {
        rows.div_ceil(LANES).saturating_mul(self.panel_lines())
    }

    /// Writes `row` into lane `lane` of an empty panel.
    pub fn pack(self, row: &Row, lane: usize, panel: &mut [Line]) {
        let (codes, factors) = panel.split_at_mut(self.code_lines());
        let bits = self.format.bits;
        for (lines, block) in codes.chunks_exact_mut(bits).zip(row.codes.chunks_exact(BLOCK)) {
            for (k, &code) in block.iter().enumerate() {
                let (q, at) = (k / 4, lane * 4 + k % 4);
                match bits {
                    8 => lines[q].0[at] = code,
                    _ => lines[q / 2].0[at] |= (code & 15) << (4 * (q % 2)),
                }
                match bits {
                    5 => lines[4].0[at] |= (code >> 4) << q,
                    6 => lines[4 + q / 4].0[at] |= (code >> 4) << (2 * (q % 4)),
                    _ => {}
                }
            }
        }
        let (minimums, _) = self.factors();
        let factors: &mut [u8] = bytemuck::cast_slice_mut(factors);
        let mut write = |from: usize, values: &Factors| {
            let steps = from + values.halves.len() * LANES * 2;
            for (i, half) in values.halves.iter().enumerate() {
                let at = from + (i * LANES + lane) * 2;
                factors[at..at + 2].copy_from_slice(&half.to_le_bytes());
            }
            for (i, step) in values.steps.iter().enumerate() {
                factors[steps + i * LANES + lane] = step.cast_unsigned();
            }
        };
        write(0, &row.scales);
        write(minimums, &row.minimums);
    }
}

/// The bytes of some lines.
pub fn bytes(lines: &[Line]) -> &[u8] {
    bytemuck::cast_slice(lines)
}

/// Codes, scales and minimums of some blocks of a panel, a code a byte.
pub struct Expanded {
    /// [`QUADS`] lines for each block.
    pub lines: Vec<Line>,
    /// For each group the scales of 16 rows.
    pub scales: Vec<Lanes>,
    /// For each group the minimums of 16 rows; empty where the format has none.
    pub minimums: Vec<Lanes>,
}

impl Expanded {
    /// Room for `blocks` blocks.
    pub fn new(format: Format, blocks: usize) -> Self {
        let groups = blocks * BLOCK / format.group;
        Self {
            lines: vec![Line::ZERO; blocks * QUADS],
            scales: vec![Lanes::ZERO; groups],
            minimums: vec![Lanes::ZERO; if format.has_minimum { groups } else { 0 }],
        }
    }
}

dispatch! {
    /// Expands the blocks from `first` on that `out` has room for; `panel` has the lines of one panel.
    pub fn expand(layout: Layout, panel: &[Line], first: usize, out: &mut Expanded) = expand_body
}

#[inline(always)]
fn expand_body<const FMA: bool>(layout: Layout, panel: &[Line], first: usize, out: &mut Expanded) {
    let Layout { format, width } = layout;
    let (codes, factors) = panel.split_at(layout.code_lines());
    let lines = codes[first * format.bits..].chunks_exact(format.bits).zip(out.lines.chunks_exact_mut(QUADS));
    match format.bits {
        4 => lines.for_each(|(packed, out)| low_bits(packed, out)),
        5 => lines.for_each(|(packed, out)| {
            low_bits(packed, out);
            for (q, out) in out.iter_mut().enumerate() {
                for i in 0..64 {
                    out.0[i] |= (packed[4].0[i] >> q & 1) << 4;
                }
            }
        }),
        6 => lines.for_each(|(packed, out)| {
            low_bits(packed, out);
            for q in 0..QUADS {
                for i in 0..64 {
                    out[q].0[i] |= (packed[4 + q / 4].0[i] >> (2 * (q % 4)) & 3) << 4;
                }
            }
        }),
        _ => lines.for_each(|(packed, out)| out.copy_from_slice(packed)),
    }
    let (factors, (minimums, end)) = (bytes(factors), layout.factors());
    let groups = first * BLOCK / format.group..(width / format.group);
    let spread = |bytes: &[u8], out: &mut [Lanes]| {
        let steps = &bytes[width / format.span * LANES * 2..];
        for (group, out) in groups.clone().zip(out) {
            let halves = &bytes[group * format.group / format.span * LANES * 2..][..LANES * 2];
            for lane in 0..LANES {
                out.0[lane] = widen(u16::from_le_bytes([halves[2 * lane], halves[2 * lane + 1]]));
            }
            if format.has_steps() {
                let steps = &steps[group * LANES..][..LANES];
                for (out, step) in out.0.iter_mut().zip(steps) {
                    *out *= f32::from(step.cast_signed());
                }
            }
        }
    };
    spread(&factors[..minimums], &mut out.scales);
    if format.has_minimum {
        spread(&factors[minimums..end], &mut out.minimums);
    }
}

#[inline(always)]
fn low_bits(packed: &[Line], out: &mut [Line]) {
    for (packed, out) in packed[..4].iter().zip(out.chunks_exact_mut(2)) {
        for i in 0..64 {
            out[0].0[i] = packed.0[i] & 15;
            out[1].0[i] = packed.0[i] >> 4;
        }
    }
}

/// A finite 16-bit float as 32 bits, in operations that the compiler vectorises.
#[inline(always)]
fn widen(half: u16) -> f32 {
    const TWO_TO_112: f32 = f32::from_bits((112 + 127) << 23);
    let size = f32::from_bits(u32::from(half & 0x7FFF) << 13) * TWO_TO_112;
    f32::from_bits(size.to_bits() | u32::from(half & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn all_blocks_take_all_lines() {
        use crate::decoder::gguf::TensorType;
        for kind in [TensorType::Q4_0, TensorType::Q5_0, TensorType::Q8_0, TensorType::Q4_K, TensorType::Q6_K]
        {
            let layout = Layout { format: Format::of(kind).unwrap(), width: 1024 };
            for step in [8, 16, 32] {
                let parts = (0..32).step_by(step).flat_map(|first| layout.lines_of(first..first + step));
                let mut lines: Vec<_> = parts.collect();
                lines.sort_unstable();
                lines.dedup();
                assert_eq!(lines, (0..layout.panel_lines()).collect::<Vec<_>>(), "{kind:?} {step}");
            }
        }
    }

    #[test]
    fn widening_is_exact() {
        for half in (0..=u16::MAX).map(f16::from_bits).filter(|half| half.is_finite()) {
            assert_eq!(widen(half.to_bits()).to_bits(), half.to_f32().to_bits());
        }
    }
}
