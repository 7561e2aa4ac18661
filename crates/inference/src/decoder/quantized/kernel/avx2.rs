//! AVX2: a line of codes is two registers; `vpmaddubsw` and `vpmaddwd` add four products to each of 8 sums.

use std::arch::x86_64::{
    __m256i, _mm256_abs_epi8, _mm256_add_epi16, _mm256_add_epi32, _mm256_cvtepi32_ps, _mm256_fmadd_ps,
    _mm256_load_ps, _mm256_load_si256, _mm256_loadu_ps, _mm256_madd_epi16, _mm256_maddubs_epi16,
    _mm256_mul_ps, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps,
    _mm256_setzero_si256, _mm256_sign_epi8, _mm256_storeu_ps, _mm256_sub_epi8,
};

use super::super::unpack::Format;
use super::Tile;
use crate::decoder::lanes::LANES;

/// Adds the products of the panels with up to two tokens; returns how many.
pub fn run(tile: &Tile<'_>, out: &mut [f32]) -> usize {
    let format = tile.format;
    let together = (tile.x.tokens - tile.first_token).min(2);
    assert!(together > 0 && out.len() == tile.panels.len() * tile.x.tokens * LANES);
    let half_panel = if together == 2 { of_format::<2>(format) } else { of_format::<1>(format) };
    for panel in 0..tile.panels.len() {
        for half in 0..2 {
            // SAFETY: this module is reached only with an `Isa` that has these instructions; `product` checks
            // the lengths that it relies on.
            unsafe { half_panel(tile, out, panel, half) };
        }
    }
    together
}

type HalfPanel = unsafe fn(&Tile<'_>, &mut [f32], usize, usize);

/// The product of a format: a sum of 16 bits holds 8, 4 or 2 times two products of 4, 5 or 6 bits.
fn of_format<const T: usize>(format: Format) -> HalfPanel {
    match (format.bits, format.group, format.has_minimum) {
        (4, 32, false) => product::<T, 8, false, 8>,
        (4, 32, true) => product::<T, 8, true, 8>,
        (4, _, false) => product::<T, 4, false, 4>,
        (4, _, true) => product::<T, 4, true, 4>,
        (5, _, false) => product::<T, 8, false, 4>,
        (5, _, true) => product::<T, 8, true, 4>,
        (6, ..) => product::<T, 4, false, 2>,
        _ => product::<T, 8, false, 0>,
    }
}

/// Eight rows (the lower or upper `half` of a panel) with `T` tokens. Groups have `QUADS` times four weights, and sums of
/// 16 bits hold `SHORTS` times two products; with 0, codes are made signed first, since products of unsigned ones do not
/// fit.
///
/// # Safety
/// The processor has AVX2 and FMA; the format is as the parameters say.
#[target_feature(enable = "avx2,fma")]
unsafe fn product<const T: usize, const QUADS: usize, const MINIMUM: bool, const SHORTS: usize>(
    tile: &Tile<'_>,
    out: &mut [f32],
    panel: usize,
    half: usize,
) {
    let (one, groups) = (tile.panels[panel], tile.groups());
    assert!(one.lines.len() == groups * QUADS && one.scales.len() == groups);
    let codes: [&[i8]; T] = std::array::from_fn(|t| tile.codes(t));
    let factors: [&[f32]; T] = std::array::from_fn(|t| tile.scales(t));
    let sums: [&[i32]; T] = std::array::from_fn(|t| tile.sums(t));
    assert!(codes.iter().all(|c| c.len() == groups * QUADS * 4));
    let offset = i32::from(tile.format.offset);
    let signed_offset = _mm256_set1_epi8(tile.format.offset.cast_signed());
    let ones = _mm256_set1_epi16(1);
    let at: [usize; T] = std::array::from_fn(|t| tile.at(panel, t) + half * 8);
    let mut acc = [_mm256_setzero_ps(); T];
    if !tile.begins() {
        // SAFETY: slices of eight floats.
        acc = at.map(|at| unsafe { _mm256_loadu_ps(out[at..at + 8].as_ptr()) });
    }
    for group in 0..groups {
        let lines = &one.lines[group * QUADS..][..QUADS];
        let mut dots = [_mm256_setzero_si256(); T];
        if SHORTS > 0 && !MINIMUM {
            for t in 0..T {
                dots[t] = _mm256_set1_epi32(-offset * sums[t][group]);
            }
        }
        for (some, lines) in lines.chunks_exact(SHORTS.max(1)).enumerate() {
            let mut shorts = [_mm256_setzero_si256(); T];
            for (quad, line) in lines.iter().enumerate() {
                let at = (group * QUADS + some * SHORTS.max(1) + quad) * 4;
                // SAFETY: a line has two halves of 32 bytes, aligned to 32.
                let w = unsafe { _mm256_load_si256(line.0.as_ptr().add(half * 32).cast::<__m256i>()) };
                for t in 0..T {
                    // SAFETY: `at + 3` is below the width, the checked length of the codes.
                    let x = unsafe { codes[t].as_ptr().add(at).cast::<i32>().read_unaligned() };
                    let x = _mm256_set1_epi32(x);
                    if SHORTS > 0 {
                        shorts[t] = _mm256_add_epi16(shorts[t], _mm256_maddubs_epi16(w, x));
                    } else {
                        // |w| is at most 128 and |x| at most 127: two products fit into 16 bits.
                        let w = _mm256_sub_epi8(w, signed_offset);
                        let products = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
                        dots[t] = _mm256_add_epi32(dots[t], _mm256_madd_epi16(products, ones));
                    }
                }
            }
            if SHORTS > 0 {
                for t in 0..T {
                    dots[t] = _mm256_add_epi32(dots[t], _mm256_madd_epi16(shorts[t], ones));
                }
            }
        }
        // SAFETY: sixteen floats aligned to 64 bytes.
        let scale = unsafe { _mm256_load_ps(one.scales[group].0.as_ptr().add(half * 8)) };
        for t in 0..T {
            let factor = factors[t][group * QUADS / 8];
            let both = _mm256_mul_ps(scale, _mm256_set1_ps(factor));
            acc[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[t]), both, acc[t]);
            if MINIMUM {
                // SAFETY: as above.
                let minimum = unsafe { _mm256_load_ps(one.minimums[group].0.as_ptr().add(half * 8)) };
                let sum = _mm256_set1_ps(factor * sums[t][group] as f32);
                acc[t] = _mm256_fmadd_ps(minimum, sum, acc[t]);
            }
        }
    }
    for (at, acc) in at.into_iter().zip(acc) {
        let out = &mut out[at..at + 8];
        // SAFETY: `out` has eight floats.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), acc) };
    }
}
