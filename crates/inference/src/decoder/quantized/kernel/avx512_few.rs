//! AVX-512 for few tokens: weights go from memory through registers into the products, without a stop in between, so
//! that the speed of memory decides.

use std::arch::x86_64::{
    __m512, __m512i, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm256_loadu_si256, _mm512_and_si512,
    _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps, _mm512_cvtph_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps,
    _mm512_load_si512, _mm512_mul_ps, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_slli_epi16, _mm512_srli_epi16, _mm512_storeu_ps, _mm512_ternarylogic_epi32,
};

use super::super::packed::{BLOCK, Layout, Line, QUADS, bytes};
use crate::decoder::activations::Activations;
use crate::decoder::lanes::LANES;

/// Most tokens.
pub const MOST: usize = 8;
/// How far ahead memory is asked for, in lines.
const AHEAD: usize = 64;
/// `a | b & c` as the table of a ternary operation.
const OR_AND: i32 = 0xF8;

/// As [`super::multiply`], for at most [`MOST`] tokens.
pub fn run(layout: Layout, lines: &[Line], x: &Activations, out: &mut [f32]) {
    match x.tokens {
        0 => {}
        1 => with_format::<1>(layout, lines, x, out),
        2 => with_format::<2>(layout, lines, x, out),
        3..=4 => with_format::<4>(layout, lines, x, out),
        _ => with_format::<MOST>(layout, lines, x, out),
    }
}

fn with_format<const T: usize>(layout: Layout, lines: &[Line], x: &Activations, out: &mut [f32]) {
    let one = match (layout.format.bits, layout.format.group) {
        (4, 32) => product::<T, 4, 32>,
        (4, _) => product::<T, 4, 16>,
        (5, _) => product::<T, 5, 32>,
        (6, _) => product::<T, 6, 16>,
        _ => product::<T, 8, 32>,
    };
    assert!(x.tokens <= T && x.width == layout.width && x.codes.len() == x.tokens * x.width);
    let panels = lines.chunks_exact(layout.panel_lines()).zip(out.chunks_exact_mut(x.tokens * LANES));
    for (panel, out) in panels {
        // SAFETY: this module is reached only with an `Isa` that has these instructions; the format has that many bits
        // and that group.
        unsafe { one(layout, panel, x, out) };
    }
}

/// The lines of a block, a code a byte.
///
/// # Safety
/// The processor has the instructions; `lines` points at `BITS` lines.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn block<const BITS: usize>(lines: *const Line) -> [__m512i; QUADS] {
    // SAFETY: there are `BITS` lines, each aligned to 64 bytes.
    let line = |i: usize| unsafe { _mm512_load_si512(lines.add(i).cast()) };
    if BITS == 8 {
        return std::array::from_fn(line);
    }
    let low = _mm512_set1_epi8(15);
    let mut codes = [_mm512_setzero_si512(); QUADS];
    for i in 0..4 {
        let both = line(i);
        codes[2 * i] = _mm512_and_si512(both, low);
        codes[2 * i + 1] = _mm512_and_si512(_mm512_srli_epi16::<4>(both), low);
    }
    // The higher bits of line `q` are moved to bit 4 on; what the shift brings from a neighbouring byte is masked.
    if BITS == 5 {
        let (bits, mask) = (line(4), _mm512_set1_epi8(16));
        let moved = [
            _mm512_slli_epi16::<4>(bits),
            _mm512_slli_epi16::<3>(bits),
            _mm512_slli_epi16::<2>(bits),
            _mm512_slli_epi16::<1>(bits),
            bits,
            _mm512_srli_epi16::<1>(bits),
            _mm512_srli_epi16::<2>(bits),
            _mm512_srli_epi16::<3>(bits),
        ];
        for (code, bits) in codes.iter_mut().zip(moved) {
            *code = _mm512_ternarylogic_epi32::<OR_AND>(*code, bits, mask);
        }
    }
    if BITS == 6 {
        let mask = _mm512_set1_epi8(48);
        for (i, codes) in codes.chunks_exact_mut(4).enumerate() {
            let bits = line(4 + i);
            let moved = [
                _mm512_slli_epi16::<4>(bits),
                _mm512_slli_epi16::<2>(bits),
                bits,
                _mm512_srli_epi16::<2>(bits),
            ];
            for (code, bits) in codes.iter_mut().zip(moved) {
                *code = _mm512_ternarylogic_epi32::<OR_AND>(*code, bits, mask);
            }
        }
    }
    codes
}

/// Scales or minimums of the 16 rows.
struct Factors<'a> {
    halves: &'a [u8],
    steps: &'a [u8],
    groups_of_half: usize,
}

impl<'a> Factors<'a> {
    fn new(layout: Layout, bytes: &'a [u8]) -> Self {
        let (halves, steps) = bytes.split_at(layout.width / layout.format.span * LANES * 2);
        Self { halves, steps, groups_of_half: layout.format.span / layout.format.group }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn group(&self, group: usize) -> __m512 {
        let half = &self.halves[group / self.groups_of_half * LANES * 2..][..LANES * 2];
        // SAFETY: `half` has 32 bytes.
        let half = _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(half.as_ptr().cast()) });
        if self.steps.is_empty() {
            return half;
        }
        let steps = &self.steps[group * LANES..][..LANES];
        // SAFETY: `steps` has 16 bytes.
        let steps = _mm512_cvtepi8_epi32(unsafe { _mm_loadu_si128(steps.as_ptr().cast()) });
        _mm512_mul_ps(half, _mm512_cvtepi32_ps(steps))
    }
}

/// One panel with at most `T` tokens.
///
/// # Safety
/// The processor has the instructions, and the format has `BITS` bits and groups of `GROUP`.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn product<const T: usize, const BITS: usize, const GROUP: usize>(
    layout: Layout,
    panel: &[Line],
    x: &Activations,
    out: &mut [f32],
) {
    let Layout { format, width } = layout;
    let (codes, factors) = panel.split_at(layout.code_lines());
    let (minimums, end) = layout.factors();
    let scales = Factors::new(layout, &bytes(factors)[..minimums]);
    let minimums = format.has_minimum.then(|| Factors::new(layout, &bytes(factors)[minimums..end]));
    let each = BLOCK / GROUP;
    let (blocks, sums) = (width / BLOCK, if each == 2 { &x.sums16 } else { &x.sums32 });
    assert!(codes.len() == blocks * BITS && width.is_multiple_of(BLOCK));
    // Places behind the last token repeat it; their results are dropped.
    let rows: [&[i8]; T] = std::array::from_fn(|t| &x.codes[t.min(x.tokens - 1) * width..][..width]);
    let x_scales: [&[f32]; T] = std::array::from_fn(|t| &x.scales[t.min(x.tokens - 1) * blocks..][..blocks]);
    let sums: [&[i32]; T] =
        std::array::from_fn(|t| &sums[t.min(x.tokens - 1) * blocks * each..][..blocks * each]);
    let offset = -i32::from(format.offset);
    let mut acc = [_mm512_setzero_ps(); T];
    for b in 0..blocks {
        let lines = codes[b * BITS..].as_ptr();
        for i in 0..BITS {
            _mm_prefetch::<_MM_HINT_T0>(lines.wrapping_add(AHEAD + i).cast());
        }
        // SAFETY: block `b` has `BITS` lines.
        let w = unsafe { block::<BITS>(lines) };
        for (part, w) in w.chunks_exact(GROUP / 4).enumerate() {
            let group = b * each + part;
            let scale = scales.group(group);
            let minimum = minimums.as_ref().map(|m| m.group(group));
            for t in 0..T {
                let sum = sums[t][group];
                let mut dots = _mm512_set1_epi32(if format.has_minimum { 0 } else { offset * sum });
                let row = &rows[t][group * GROUP..][..GROUP];
                for (w, x) in w.iter().zip(row.as_chunks::<4>().0) {
                    let x = i32::from_le_bytes(x.map(i8::cast_unsigned));
                    dots = _mm512_dpbusd_epi32(dots, *w, _mm512_set1_epi32(x));
                }
                let factor = x_scales[t][b];
                let both = _mm512_mul_ps(scale, _mm512_set1_ps(factor));
                acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), both, acc[t]);
                if let Some(minimum) = minimum {
                    acc[t] = _mm512_fmadd_ps(minimum, _mm512_set1_ps(factor * sum as f32), acc[t]);
                }
            }
        }
    }
    for (out, acc) in out.chunks_exact_mut(LANES).zip(acc) {
        // SAFETY: `out` has 16 floats.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), acc) };
    }
}
