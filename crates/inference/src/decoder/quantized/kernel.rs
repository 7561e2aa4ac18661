//! Products of packed weights: a scalar oracle, and kernels for the instruction sets of [`Isa`].
//!
//! Codes are multiplied as integers, one instruction for four products of each of a panel's 16 rows. Each group of 16
//! or 32 weights has its integer sums, which become floats with the group's scales. The order of additions for one row
//! and one token depends neither on how many rows and tokens go together nor on the number of threads.

use crate::decoder::activations::Activations;
use crate::decoder::isa::{Isa, Kind};
use crate::decoder::lanes::{LANES, Lanes};

use super::packed::{BLOCK, Expanded, Layout, Line, QUADS, expand};
use super::unpack::Format;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_few;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

/// Blocks that are expanded at a time: two panels of them fit into the first-level cache.
const BLOCKS: usize = 16;

/// Some blocks of one panel, a code a byte.
#[derive(Clone, Copy)]
struct Panel<'a> {
    lines: &'a [Line],
    scales: &'a [Lanes],
    /// Empty where the format has no minimum.
    minimums: &'a [Lanes],
}

/// What a kernel works on: the same blocks of some panels, and some tokens with a result for each panel and token.
struct Tile<'a> {
    format: Format,
    panels: &'a [Panel<'a>],
    /// The blocks within their rows.
    first_block: usize,
    blocks: usize,
    x: &'a Activations,
    first_token: usize,
}

impl Tile<'_> {
    fn groups(&self) -> usize {
        self.blocks * BLOCK / self.format.group
    }

    /// Sums of the codes of each group, for one token.
    fn sums(&self, token: usize) -> &[i32] {
        let each = BLOCK / self.format.group;
        let sums = if each == 2 { &self.x.sums16 } else { &self.x.sums32 };
        let first = (self.first_token + token) * self.x.width / BLOCK + self.first_block;
        &sums[first * each..][..self.blocks * each]
    }

    /// Scales of each 32 codes, for one token.
    fn scales(&self, token: usize) -> &[f32] {
        let first = (self.first_token + token) * self.x.width / BLOCK + self.first_block;
        &self.x.scales[first..][..self.blocks]
    }

    /// Codes of one token.
    fn codes(&self, token: usize) -> &[i8] {
        let first = (self.first_token + token) * self.x.width + self.first_block * BLOCK;
        &self.x.codes[first..][..self.blocks * BLOCK]
    }

    /// Whether these are the first blocks of their rows, whose sums begin at zero.
    fn begins(&self) -> bool {
        self.first_block == 0
    }

    /// Where the results of a panel and token are.
    fn at(&self, panel: usize, token: usize) -> usize {
        (panel * self.x.tokens + self.first_token + token) * LANES
    }
}

/// `out[panel][token][row] = Σ_k weight[row][k] · x[token][k]` for the rows of `lines`, some whole panels, and all
/// tokens of `x`.
///
/// # Panics
/// When `x` has another width than the panels, or was not quantised, or `out` another length.
pub fn multiply(isa: Isa, layout: Layout, lines: &[Line], x: &Activations, out: &mut [f32]) {
    let panel_lines = layout.panel_lines();
    assert_eq!(x.width, layout.width);
    assert_eq!(x.codes.len(), x.tokens * x.width);
    assert_eq!(out.len(), lines.len() / panel_lines * x.tokens * LANES);
    #[cfg(target_arch = "x86_64")]
    if isa.kind() == Kind::Avx512 && x.tokens <= avx512_few::MOST {
        avx512_few::run(layout, lines, x, out);
        return;
    }
    let blocks = layout.width / BLOCK;
    let mut expanded = [(); 2].map(|()| Expanded::new(layout.format, BLOCKS.min(blocks)));
    for (lines, out) in lines.chunks(2 * panel_lines).zip(out.chunks_mut(2 * x.tokens * LANES)) {
        for first_block in (0..blocks).step_by(BLOCKS) {
            let count = BLOCKS.min(blocks - first_block);
            let groups = count * BLOCK / layout.format.group;
            let minimums = if layout.format.has_minimum { groups } else { 0 };
            for (lines, expanded) in lines.chunks_exact(panel_lines).zip(&mut expanded) {
                expand(isa, layout, lines, first_block, expanded);
            }
            let panels = expanded.each_ref().map(|one| Panel {
                lines: &one.lines[..count * QUADS],
                scales: &one.scales[..groups],
                minimums: &one.minimums[..minimums],
            });
            let panels = &panels[..lines.len() / panel_lines];
            let (format, blocks) = (layout.format, count);
            let mut tile = Tile { format, panels, first_block, blocks, x, first_token: 0 };
            while tile.first_token < x.tokens {
                tile.first_token += match isa.kind() {
                    Kind::Baseline => scalar::run(&tile, out),
                    #[cfg(target_arch = "x86_64")]
                    Kind::Avx2 => avx2::run(&tile, out),
                    #[cfg(target_arch = "x86_64")]
                    Kind::Avx512 => avx512::run(&tile, out),
                    #[cfg(target_arch = "aarch64")]
                    Kind::NeonDot => neon::run(&tile, out),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests;
