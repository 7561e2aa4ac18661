//! From packed panels into registers of AVX-512.

use std::arch::x86_64::{
    __m512, __m512i, _MM_HINT_T1, _mm_loadu_si128, _mm_prefetch, _mm256_loadu_si256, _mm512_and_si512,
    _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps, _mm512_cvtph_ps, _mm512_load_si512, _mm512_mul_ps,
    _mm512_set1_epi8, _mm512_setzero_si512, _mm512_slli_epi16, _mm512_srli_epi16, _mm512_store_ps,
    _mm512_store_si512, _mm512_ternarylogic_epi32,
};

use super::super::packed::{BLOCK, Expanded, Layout, Line, QUADS, bytes};
use crate::decoder::lanes::{LANES, Lanes};

/// How far ahead memory is asked for, in lines: into the second cache, whose requests do not hold up those of the first.
const AHEAD: usize = 256;
/// `a | b & c` as the table of a ternary operation.
pub const OR_AND: i32 = 0xF8;

/// Asks for a line into the second cache.
#[inline(always)]
pub fn prefetch(line: *const Line) {
    // SAFETY: every processor of this architecture has the instruction, and it reads nothing that there is not.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) };
}

/// Asks for `count` lines that are read some time after those at `lines`.
#[inline(always)]
pub fn prefetch_behind(lines: *const Line, count: usize) {
    (0..count).for_each(|i| prefetch(lines.wrapping_add(AHEAD + i)));
}

/// The lines of a block, a code a byte.
///
/// # Safety
/// The processor has the instructions; `lines` points at `BITS` lines.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub unsafe fn block<const BITS: usize>(lines: *const Line) -> [__m512i; QUADS] {
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
pub struct Factors<'a> {
    halves: &'a [u8],
    steps: &'a [u8],
    groups_of_half: usize,
}

impl<'a> Factors<'a> {
    /// Those in `bytes`.
    pub fn new(layout: Layout, bytes: &'a [u8]) -> Self {
        let (halves, steps) = bytes.split_at(layout.width / layout.format.span * LANES * 2);
        Self { halves, steps, groups_of_half: layout.format.span / layout.format.group }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    /// Those of a group.
    pub fn group(&self, group: usize) -> __m512 {
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

/// As [`expand`](super::super::packed::expand).
///
/// # Safety
/// The processor has the instructions.
#[target_feature(enable = "avx512f,avx512bw")]
pub unsafe fn expand(layout: Layout, panel: &[Line], first: usize, out: &mut Expanded) {
    match layout.format.bits {
        // SAFETY: the processor has the instructions, and the format has that many bits.
        4 => unsafe { expand_bits::<4>(layout, panel, first, out) },
        // SAFETY: as above.
        5 => unsafe { expand_bits::<5>(layout, panel, first, out) },
        // SAFETY: as above.
        6 => unsafe { expand_bits::<6>(layout, panel, first, out) },
        // SAFETY: as above.
        _ => unsafe { expand_bits::<8>(layout, panel, first, out) },
    }
}

/// # Safety
/// The processor has the instructions, and the format has `BITS` bits.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn expand_bits<const BITS: usize>(layout: Layout, panel: &[Line], first: usize, out: &mut Expanded) {
    let Layout { format, width } = layout;
    let (codes, factors) = panel.split_at(layout.code_lines());
    let count = (out.lines.len() / QUADS).min(width / BLOCK - first);
    let lines_of_block = panel.len().div_ceil(width / BLOCK);
    for (b, out) in out.lines.as_chunks_mut::<QUADS>().0[..count].iter_mut().enumerate() {
        prefetch_behind(panel.as_ptr().wrapping_add((first + b) * lines_of_block), lines_of_block);
        let lines = &codes[(first + b) * BITS..][..BITS];
        // SAFETY: a block has `BITS` lines; lines are aligned to 64 bytes.
        unsafe {
            for (out, codes) in out.iter_mut().zip(block::<BITS>(lines.as_ptr())) {
                _mm512_store_si512(out.0.as_mut_ptr().cast(), codes);
            }
        }
    }
    let (minimums, end) = layout.factors();
    let groups = BLOCK / format.group;
    let spread = |factors: Factors<'_>, out: &mut [Lanes]| {
        for (i, out) in out[..count * groups].iter_mut().enumerate() {
            // SAFETY: sixteen floats, aligned to 64 bytes.
            unsafe { _mm512_store_ps(out.0.as_mut_ptr(), factors.group(first * groups + i)) };
        }
    };
    spread(Factors::new(layout, &bytes(factors)[..minimums]), &mut out.scales);
    if format.has_minimum {
        spread(Factors::new(layout, &bytes(factors)[minimums..end]), &mut out.minimums);
    }
}
