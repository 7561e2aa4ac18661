//! AVX-512 with VNNI for prompts: weights are rounded to 8 bits with one scale for up to [`BLOCKS`] blocks of a row, so
//! that beside eight `vpdpbusd` only a conversion and an addition are left for each block and token.
//!
//! A step of these codes is a 127th of the largest weight, a fraction of a step of the file's own 4 to 6 bits.

use std::arch::x86_64::{
    __m512, __m512i, _mm512_abs_ps, _mm512_add_epi16, _mm512_and_si512, _mm512_castps_si512,
    _mm512_cvtepi32_ps, _mm512_cvtps_epi32, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_load_ps,
    _mm512_load_si512, _mm512_loadu_ps, _mm512_mask_div_ps, _mm512_max_ps, _mm512_mul_ps, _mm512_mullo_epi16,
    _mm512_set1_epi16, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_slli_epi32,
    _mm512_srli_epi16, _mm512_store_ps, _mm512_store_si512, _mm512_storeu_ps, _mm512_ternarylogic_epi32,
    _mm512_test_epi32_mask,
};
use std::ops::Range;

use super::super::packed::{BLOCK, Layout, Line, QUADS, bytes};
use super::super::unpack::Format;
use super::avx512_load::{Factors, OR_AND, block, prefetch};
use super::{BLOCKS, Chunk, Next};
use crate::decoder::activations::Activations;
use crate::decoder::lanes::{LANES, Lanes};
use crate::decoder::quantize::{SPAN, WIDE_SPAN};

/// Largest code.
const MOST: f32 = 127.0;
/// Codes are computed with this many bits behind the point.
const FRACTION: u32 = 8;
/// Tokens that are multiplied together.
const TOKENS: usize = 6;
/// Groups of 16 weights in a chunk.
const GROUPS: usize = BLOCKS * BLOCK / 16;

/// Whether weights of `format` are rounded: 8 bits remain what they are.
pub fn has(format: Format) -> bool {
    format.bits < 8
}

/// Rounded blocks of two panels.
pub struct Rounded {
    panels: [Panel; 2],
}

struct Panel {
    lines: Vec<Line>,
    /// Of the 16 rows: weight ≈ scale · (code - 128).
    scale: Lanes,
}

impl Rounded {
    /// For the tokens of `x`.
    pub fn new(x: &Activations) -> Self {
        let blocks = x.width / BLOCK;
        let lines = BLOCKS.min(blocks) * QUADS;
        let panels = [(); 2].map(|()| Panel { lines: vec![Line::ZERO; lines], scale: Lanes::ZERO });
        Self { panels }
    }

    /// Adds the products of a chunk; those of the first chunk of a row are put. Meanwhile `next` comes into the second cache.
    pub fn run(
        &mut self,
        layout: Layout,
        Chunk { lines, blocks: range }: Chunk<'_>,
        next: Next,
        x: &Activations,
        out: &mut [f32],
    ) {
        let panel_lines = layout.panel_lines();
        assert!(
            x.rounded && x.width == layout.width && range.len() <= BLOCKS && range.end * BLOCK <= x.width
        );
        for (lines, panel) in lines.chunks_exact(panel_lines).zip(&mut self.panels) {
            // SAFETY: this module is reached only with an `Isa` that has these instructions, and the format has that
            // many bits.
            unsafe {
                match layout.format.bits {
                    4 => round::<4>(layout, lines, range.clone(), panel),
                    5 => round::<5>(layout, lines, range.clone(), panel),
                    _ => round::<6>(layout, lines, range.clone(), panel),
                }
            }
        }
        let panels = lines.len() / panel_lines;
        let lines = layout.lines_of(next.blocks);
        let each = (2 * lines.clone().count()).div_ceil(x.tokens.div_ceil(TOKENS));
        let mut ahead = lines.clone().chain(lines.map(|i| panel_lines + i));
        let ask = || ahead.by_ref().take(each).for_each(|i| prefetch(next.lines.wrapping_add(i)));
        match x.span() {
            SPAN => self.multiply::<{ SPAN / BLOCK }>(x, range, panels, ask, out),
            _ => self.multiply::<{ WIDE_SPAN / BLOCK }>(x, range, panels, ask, out),
        }
    }

    /// `S` blocks of activations share a scale; calls `ask` every [`TOKENS`] tokens.
    fn multiply<const S: usize>(
        &self,
        x: &Activations,
        range: Range<usize>,
        panels: usize,
        mut ask: impl FnMut(),
        out: &mut [f32],
    ) {
        let mut token = 0;
        while token < x.tokens {
            ask();
            // SAFETY: this module is reached only with an `Isa` that has these instructions; `product` checks the
            // lengths that it relies on.
            token += unsafe {
                match (panels, x.tokens - token) {
                    (2, TOKENS..) => self.product::<2, TOKENS, S>(x, range.clone(), token, out),
                    (2, 4..) => self.product::<2, 4, S>(x, range.clone(), token, out),
                    (2, 2..) => self.product::<2, 2, S>(x, range.clone(), token, out),
                    (2, _) => self.product::<2, 1, S>(x, range.clone(), token, out),
                    (_, 4..) => self.product::<1, 4, S>(x, range.clone(), token, out),
                    _ => self.product::<1, 1, S>(x, range.clone(), token, out),
                }
            };
        }
    }

    /// `P` panels with `T` tokens from `token` on; returns how many.
    ///
    /// # Safety
    /// The processor has the instructions.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn product<const P: usize, const T: usize, const S: usize>(
        &self,
        x: &Activations,
        range: Range<usize>,
        token: usize,
        out: &mut [f32],
    ) -> usize {
        let (width, row_blocks, blocks) = (x.width, x.width / BLOCK, range.len());
        let row_spans = row_blocks / S;
        assert!(token + T <= x.tokens && out.len() == P * x.tokens * LANES);
        assert!(range.end <= row_blocks && self.panels.iter().all(|p| p.lines.len() >= blocks * QUADS));
        assert!(row_blocks.is_multiple_of(S) && range.start.is_multiple_of(S) && blocks.is_multiple_of(S));
        let lines: [_; P] = std::array::from_fn(|p| self.panels[p].lines.as_ptr());
        let codes = x.codes[token * width..(token + T) * width][range.start * BLOCK..].as_ptr();
        let factors = x.scales[token * row_blocks..(token + T) * row_blocks][range.start..].as_ptr();
        let starts = x.starts[token * row_spans..(token + T) * row_spans][range.start / S..].as_ptr();
        let mut acc = [[_mm512_setzero_ps(); P]; T];
        for span in 0..blocks / S {
            let mut dots: [_; T] = std::array::from_fn(|t| {
                // SAFETY: `span` is within the chunk.
                [_mm512_set1_epi32(unsafe { *starts.add(t * row_spans + span) }); P]
            });
            for at in span * S * QUADS..(span + 1) * S * QUADS {
                // SAFETY: `at` is below blocks · QUADS; lines are aligned to 64 bytes.
                let w =
                    std::array::from_fn::<_, P, _>(|p| unsafe { _mm512_load_si512(lines[p].add(at).cast()) });
                for (t, dots) in dots.iter_mut().enumerate() {
                    // SAFETY: `4 · at + 3` is within the chunk.
                    let x = unsafe { codes.add(t * width + at * 4).cast::<i32>().read_unaligned() };
                    for (dots, w) in dots.iter_mut().zip(w) {
                        *dots = _mm512_dpbusd_epi32(*dots, w, _mm512_set1_epi32(x));
                    }
                }
            }
            for (t, (acc, dots)) in acc.iter_mut().zip(dots).enumerate() {
                // SAFETY: the span is within the chunk.
                let factor = _mm512_set1_ps(unsafe { *factors.add(t * row_blocks + span * S) });
                for (acc, dots) in acc.iter_mut().zip(dots) {
                    *acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), factor, *acc);
                }
            }
        }
        for (t, acc) in acc.into_iter().enumerate() {
            for (p, acc) in acc.into_iter().enumerate() {
                let out = &mut out[(p * x.tokens + token + t) * LANES..][..LANES];
                // SAFETY: sixteen floats, the lanes aligned to 64 bytes.
                unsafe {
                    let before =
                        if range.start == 0 { _mm512_setzero_ps() } else { _mm512_loadu_ps(out.as_ptr()) };
                    let scale = _mm512_load_ps(self.panels[p].scale.0.as_ptr());
                    _mm512_storeu_ps(out.as_mut_ptr(), _mm512_fmadd_ps(acc, scale, before));
                }
            }
        }
        T
    }
}

/// Rounds the weights of some blocks of a panel.
///
/// # Safety
/// The processor has the instructions, and the format has `BITS` bits.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn round<const BITS: usize>(layout: Layout, panel: &[Line], range: Range<usize>, out: &mut Panel) {
    let format = layout.format;
    let (codes, factors) = panel.split_at(layout.code_lines());
    let (minimums, end) = layout.factors();
    let scales = Factors::new(layout, &bytes(factors)[..minimums]);
    let minimums = format.has_minimum.then(|| Factors::new(layout, &bytes(factors)[minimums..end]));
    let each = BLOCK / format.group;
    let offset = _mm512_set1_ps(-f32::from(format.offset));
    let top_code = _mm512_set1_ps(((1 << BITS) - 1) as f32);
    let mut parts = [[_mm512_setzero_ps(); 2]; GROUPS];
    let mut largest = _mm512_setzero_ps();
    for (group, part) in (range.start * each..range.end * each).zip(&mut parts) {
        let scale = scales.group(group);
        let base = match &minimums {
            Some(minimums) => minimums.group(group),
            None => _mm512_mul_ps(scale, offset),
        };
        let last = _mm512_abs_ps(_mm512_fmadd_ps(scale, top_code, base));
        largest = _mm512_max_ps(largest, _mm512_max_ps(_mm512_abs_ps(base), last));
        *part = [scale, base];
    }
    let some = _mm512_test_epi32_mask(_mm512_castps_si512(largest), _mm512_castps_si512(largest));
    let unit = _mm512_set1_ps(MOST * (1 << FRACTION) as f32);
    let inverse = _mm512_mask_div_ps(_mm512_setzero_ps(), some, unit, largest);
    // SAFETY: sixteen floats, aligned to 64 bytes.
    unsafe { _mm512_store_ps(out.scale.0.as_mut_ptr(), _mm512_mul_ps(largest, _mm512_set1_ps(1.0 / MOST))) };

    let (low, high) = (_mm512_set1_epi16(0x00FF), _mm512_set1_epi16(0xFF00_u16.cast_signed()));
    // 128 and a half.
    let middle = _mm512_set1_epi16(0x8080_u16.cast_signed());
    for (b, out) in range.clone().zip(out.lines.as_chunks_mut::<QUADS>().0) {
        // SAFETY: a block has `BITS` lines.
        let w = unsafe { block::<BITS>(codes[b * BITS..][..BITS].as_ptr()) };
        let lines = w.chunks_exact(QUADS / each).zip(out.chunks_exact_mut(QUADS / each));
        for ((w, out), [scale, base]) in lines.zip(&parts[(b - range.start) * each..]) {
            let slope = both_halves(_mm512_mul_ps(*scale, inverse));
            let start = _mm512_add_epi16(both_halves(_mm512_mul_ps(*base, inverse)), middle);
            for (&w, out) in w.iter().zip(out) {
                let (even, odd) = (_mm512_and_si512(w, low), _mm512_srli_epi16::<8>(w));
                let even = _mm512_add_epi16(_mm512_mullo_epi16(even, slope), start);
                let odd = _mm512_add_epi16(_mm512_mullo_epi16(odd, slope), start);
                let both = _mm512_ternarylogic_epi32::<OR_AND>(_mm512_srli_epi16::<8>(even), odd, high);
                // SAFETY: a line is a register, aligned to 64 bytes.
                unsafe { _mm512_store_si512(out.0.as_mut_ptr().cast(), both) };
            }
        }
    }
}

/// The nearest whole numbers as 16 bits, twice each.
#[inline]
#[target_feature(enable = "avx512f")]
fn both_halves(x: __m512) -> __m512i {
    let x = _mm512_cvtps_epi32(x);
    let low = _mm512_set1_epi32(0xFFFF);
    _mm512_ternarylogic_epi32::<OR_AND>(_mm512_slli_epi32::<16>(x), x, low)
}
