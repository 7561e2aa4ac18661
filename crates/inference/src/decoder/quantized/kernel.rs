//! Products of packed weights: a scalar oracle, and kernels for the instruction sets of [`Isa`].
//!
//! Codes are multiplied as integers, one instruction for four products of each of a panel's 16 rows. Each group of 16
//! or 32 weights has its integer sums, which become floats with the group's scales. The order of additions for one row
//! and one token depends neither on how many rows and tokens go together nor on the number of threads.

use std::ops::Range;

use crate::decoder::activations::Activations;
use crate::decoder::isa::{Isa, Kind};
use crate::decoder::lanes::{LANES, Lanes};

use super::packed::{BLOCK, Expanded, Layout, Line, QUADS, expand};
use super::split::Split;
use super::unpack::Format;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_few;
#[cfg(target_arch = "x86_64")]
mod avx512_load;
#[cfg(target_arch = "x86_64")]
mod avx512_rounded;
#[cfg(target_arch = "x86_64")]
pub use avx512_load::prefetch_behind;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

/// Blocks that are expanded at a time: two panels of them about fill the first-level cache.
const BLOCKS: usize = 28;

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
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code))]
    sums: &'a Sums,
}

/// What the sums of the activations' codes contribute, for each token and group of a row.
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code))]
struct Sums {
    /// What an integer sum begins with, the products with the offset; empty where there are minimums.
    starts: Vec<i32>,
    /// What a minimum is multiplied with; empty where there are none.
    shares: Vec<f32>,
}

impl Sums {
    fn new(format: Format, x: &Activations) -> Self {
        let sums = if format.group == BLOCK { &x.sums32 } else { &x.sums16 };
        if format.has_minimum {
            return Self { starts: Vec::new(), shares: sums.iter().map(|&sum| sum as f32).collect() };
        }
        Self { starts: sums.iter().map(|sum| -i32::from(format.offset) * sum).collect(), shares: Vec::new() }
    }

    /// For the high plane of `split` by itself.
    #[cfg(target_arch = "x86_64")]
    fn of_high_plane(split: Split, x: &Activations) -> Self {
        let sums = if split.high().format.group == BLOCK { &x.sums32 } else { &x.sums16 };
        Self { starts: sums.iter().map(|&sum| split.start(sum)).collect(), shares: Vec::new() }
    }
}

impl Tile<'_> {
    fn groups(&self) -> usize {
        self.blocks * BLOCK / self.format.group
    }

    /// Sums of the codes of each group, for one token.
    fn sums(&self, token: usize) -> &[i32] {
        let sums = if self.format.group == BLOCK { &self.x.sums32 } else { &self.x.sums16 };
        self.of_groups(sums, token)
    }

    /// Of a table with a value for each token and group of a row, those of one token.
    fn of_groups<'t, T>(&self, table: &'t [T], token: usize) -> &'t [T] {
        let each = BLOCK / self.format.group;
        let first = (self.first_token + token) * self.x.width / BLOCK + self.first_block;
        &table[first * each..][..self.blocks * each]
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

/// Multiplies panels of one layout with the same activations.
pub struct Multiplier<'a> {
    isa: Isa,
    layout: Layout,
    x: &'a Activations,
    way: Way,
}

/// How it is done.
enum Way {
    /// Weights go straight through registers.
    #[cfg(target_arch = "x86_64")]
    Few(Sums),
    /// Some blocks of two panels are expanded for all tokens.
    Many(Sums, [Expanded; 2]),
    /// The same, rounded to 8 bits.
    #[cfg(target_arch = "x86_64")]
    Rounded(avx512_rounded::Rounded),
}

impl<'a> Multiplier<'a> {
    /// Ready to multiply panels of `layout` with all tokens of `x`.
    ///
    /// # Panics
    /// When `x` has another width than the panels, or no codes.
    pub fn new(isa: Isa, layout: Layout, x: &'a Activations) -> Self {
        assert_eq!(x.width, layout.width);
        assert_eq!(x.codes.len(), x.tokens * x.width);
        Self { isa, layout, x, way: Way::of(isa, layout, x) }
    }

    /// Ready to multiply panels of the high plane of `split` by themselves.
    ///
    /// # Panics
    /// Unless [`takes_high_planes`].
    pub fn of_high_plane(isa: Isa, split: Split, x: &'a Activations) -> Self {
        assert!(takes_high_planes(isa, x.tokens));
        let multiplier = Self::new(isa, split.high(), x);
        #[cfg(target_arch = "x86_64")]
        return Self { way: Way::Few(Sums::of_high_plane(split, x)), ..multiplier };
        #[cfg(not(target_arch = "x86_64"))]
        multiplier
    }

    /// `out[panel][token][row] = Σ_k weight[row][k] · x[token][k]` for the rows of `lines`, some whole panels.
    ///
    /// # Panics
    /// When `out` has another length.
    pub fn run(&mut self, lines: &[Line], out: &mut [f32]) {
        let Self { isa, layout, x, ref mut way } = *self;
        assert_eq!(out.len(), lines.len() / layout.panel_lines() * x.tokens * LANES);
        match way {
            #[cfg(target_arch = "x86_64")]
            Way::Few(sums) => avx512_few::run(layout, lines, x, sums, out),
            Way::Many(sums, expanded) => in_chunks(layout, lines, x.tokens, out, |chunk, _, out| {
                run_expanded(isa, layout, chunk, (x, &*sums), expanded, out);
            }),
            #[cfg(target_arch = "x86_64")]
            Way::Rounded(rounded) => in_chunks(layout, lines, x.tokens, out, |chunk, next, out| {
                rounded.run(layout, chunk, next, x, out);
            }),
        }
    }
}

/// Whether there is a kernel for `isa` that multiplies activations of prompts with rounded weights.
pub fn rounds(isa: Isa) -> bool {
    #[cfg(target_arch = "x86_64")]
    if isa.kind() == Kind::Avx512 {
        return true;
    }
    let _ = isa;
    false
}

/// Whether there is a kernel for `isa` that multiplies high planes with so many tokens.
pub fn takes_high_planes(isa: Isa, tokens: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    if isa.kind() == Kind::Avx512 {
        return tokens <= avx512_few::MOST;
    }
    let _ = (isa, tokens);
    false
}

/// Some blocks of one or two panels.
struct Chunk<'a> {
    /// Whole panels.
    lines: &'a [Line],
    blocks: Range<usize>,
}

/// The chunk after one, which the caches may be asked for: where its panels begin, and its blocks.
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code))]
struct Next {
    lines: *const Line,
    blocks: Range<usize>,
}

/// Calls `f` with one or two panels at a time, at most [`BLOCKS`] blocks of their rows, and the panels' results; behind the last
/// chunk comes the first of the panels that follow in memory.
fn in_chunks(
    layout: Layout,
    lines: &[Line],
    tokens: usize,
    out: &mut [f32],
    mut f: impl FnMut(Chunk<'_>, Next, &mut [f32]),
) {
    let blocks = layout.width / BLOCK;
    let start = lines.as_ptr();
    let stretch = |first: usize| first..blocks.min(first + BLOCKS);
    // The activations of a stretch stay in the second cache for all panels.
    for first in (0..blocks).step_by(BLOCKS) {
        let mut rest = lines;
        for (lines, out) in lines.chunks(2 * layout.panel_lines()).zip(out.chunks_mut(2 * tokens * LANES)) {
            rest = &rest[lines.len()..];
            let next = match (rest.is_empty(), first + BLOCKS < blocks) {
                (false, _) => Next { lines: rest.as_ptr(), blocks: stretch(first) },
                (true, true) => Next { lines: start, blocks: stretch(first + BLOCKS) },
                (true, false) => Next { lines: rest.as_ptr(), blocks: stretch(0) },
            };
            f(Chunk { lines, blocks: stretch(first) }, next, out);
        }
    }
}

impl Way {
    fn of(isa: Isa, layout: Layout, x: &Activations) -> Self {
        #[cfg(target_arch = "x86_64")]
        if isa.kind() == Kind::Avx512 {
            if x.rounded && avx512_rounded::has(layout.format) {
                return Self::Rounded(avx512_rounded::Rounded::new(x));
            }
            if x.tokens <= avx512_few::MOST {
                return Self::Few(Sums::new(layout.format, x));
            }
        }
        let _ = isa;
        let blocks = BLOCKS.min(layout.width / BLOCK);
        Self::Many(Sums::new(layout.format, x), [(); 2].map(|()| Expanded::new(layout.format, blocks)))
    }
}

/// Adds the products of some blocks of one or two panels.
fn run_expanded(
    isa: Isa,
    layout: Layout,
    Chunk { lines, blocks }: Chunk<'_>,
    (x, sums): (&Activations, &Sums),
    expanded: &mut [Expanded; 2],
    out: &mut [f32],
) {
    let (format, panel_lines) = (layout.format, layout.panel_lines());
    let (first_block, blocks) = (blocks.start, blocks.len());
    for (lines, expanded) in lines.chunks_exact(panel_lines).zip(&mut *expanded) {
        expand_panel(isa, layout, lines, first_block, expanded);
    }
    let groups = blocks * BLOCK / format.group;
    let minimums = if format.has_minimum { groups } else { 0 };
    let panels = expanded.each_ref().map(|one| Panel {
        lines: &one.lines[..blocks * QUADS],
        scales: &one.scales[..groups],
        minimums: &one.minimums[..minimums],
    });
    let panels = &panels[..lines.len() / panel_lines];
    let mut tile = Tile { format, panels, first_block, blocks, x, first_token: 0, sums };
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

fn expand_panel(isa: Isa, layout: Layout, panel: &[Line], first: usize, out: &mut Expanded) {
    #[cfg(target_arch = "x86_64")]
    if isa.kind() == Kind::Avx512 {
        // SAFETY: an `Isa` of this kind exists only where the processor has these instructions.
        unsafe { avx512_load::expand(layout, panel, first, out) };
        return;
    }
    expand(isa, layout, panel, first, out);
}

#[cfg(test)]
mod tests;
