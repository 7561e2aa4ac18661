//! Products of packed 8-bit codes: a scalar oracle, and kernels for the instruction sets of [`Isa`].
//!
//! A panel holds 16 rows. Its codes lie in lines of 64 bytes: four consecutive weights of each of the 16 rows,
//! so that one instruction adds four products to each row's sum. Each group of 16 or 32 weights has its integer
//! sums, which become floats with the group's scales. The order of additions for one row and one token depends
//! neither on how many rows and tokens go together nor on the number of threads.

use crate::decoder::activations::Activations;
use crate::decoder::isa::{Isa, Kind};
use crate::decoder::lanes::{LANES, Lanes};

use super::unpack::Format;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

/// Codes of four consecutive weights of 16 rows: byte `4 · row + weight`.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Line(pub [u8; 64]);

/// Some panels of a matrix, one after the other.
#[derive(Clone, Copy)]
pub struct Panels<'a> {
    /// What the codes mean.
    pub format: Format,
    /// Weights of a row.
    pub width: usize,
    /// `width / 4` lines for each panel.
    pub lines: &'a [Line],
    /// `width / group` for each panel.
    pub scales: &'a [Lanes],
    /// As `scales`, or empty where the format has no minimum.
    pub minimums: &'a [Lanes],
}

impl<'a> Panels<'a> {
    /// Number of panels.
    pub fn count(&self) -> usize {
        self.lines.len() / (self.width / 4)
    }

    /// `count` panels from panel `first` on.
    pub fn range(&self, first: usize, count: usize) -> Self {
        let (lines, groups) = (self.width / 4, self.width / self.format.group);
        let minimums =
            if self.format.has_minimum { &self.minimums[first * groups..][..count * groups] } else { &[] };
        Self {
            lines: &self.lines[first * lines..][..count * lines],
            scales: &self.scales[first * groups..][..count * groups],
            minimums,
            ..*self
        }
    }
}

/// What a kernel works on: some panels, and some tokens with a result for each panel and token.
struct Tile<'a> {
    panels: Panels<'a>,
    x: &'a Activations,
    first_token: usize,
}

impl Tile<'_> {
    /// Sums of the codes of each group, for one token.
    fn sums(&self, token: usize) -> &[i32] {
        let groups = self.x.width / self.panels.format.group;
        let sums = if self.panels.format.group == 16 { &self.x.sums16 } else { &self.x.sums32 };
        &sums[(self.first_token + token) * groups..][..groups]
    }

    /// Scales of each 32 codes, for one token.
    fn scales(&self, token: usize) -> &[f32] {
        let blocks = self.x.width / 32;
        &self.x.scales[(self.first_token + token) * blocks..][..blocks]
    }

    /// Codes of one token.
    fn codes(&self, token: usize) -> &[i8] {
        &self.x.codes[(self.first_token + token) * self.x.width..][..self.x.width]
    }
}

/// `out[panel][token][row] = Σ_k weight[row][k] · x[token][k]` for the rows of `panels` and all tokens of `x`.
///
/// # Panics
/// When `x` has another width than the panels, or was not quantised, or `out` another length.
pub fn multiply(isa: Isa, panels: Panels<'_>, x: &Activations, out: &mut [f32]) {
    let (count, tokens) = (panels.count(), x.tokens);
    assert_eq!(x.width, panels.width);
    assert_eq!(x.codes.len(), tokens * x.width);
    assert_eq!(out.len(), count * tokens * LANES);
    let mut first = 0;
    while first < count {
        let together = (count - first).min(2);
        let out = &mut out[first * tokens * LANES..][..together * tokens * LANES];
        let mut token = 0;
        while token < tokens {
            let tile = Tile { panels: panels.range(first, together), x, first_token: token };
            token += match isa.kind() {
                Kind::Baseline => scalar::run(&tile, out),
                #[cfg(target_arch = "x86_64")]
                Kind::Avx2 => avx2::run(&tile, out),
                #[cfg(target_arch = "x86_64")]
                Kind::Avx512 => avx512::run(&tile, out),
                #[cfg(target_arch = "aarch64")]
                Kind::NeonDot => neon::run(&tile, out),
            };
        }
        first += together;
    }
}

#[cfg(test)]
mod tests;
