//! Rounding activations to 8 bits.

use super::isa::{Isa, dispatch};

/// Values that share a scale.
pub const SPAN: usize = 32;
/// The same where weights are rounded, too, if a row has a multiple of as many.
pub const WIDE_SPAN: usize = 64;
/// What is added to rounded weights: the instruction takes one of its factors without a sign.
pub const OFFSET: i32 = 128;

/// The codes of a row: x ≈ scale · code.
pub struct Codes<'a> {
    /// A code for each value.
    pub codes: &'a mut [i8],
    /// A scale for each 32 values; wider spans have it several times.
    pub scales: &'a mut [f32],
    /// Sums of the codes of each 16 values.
    pub sums16: &'a mut [i32],
    /// Sums of the codes of each 32 values.
    pub sums32: &'a mut [i32],
    /// Sums of the codes of each span times -[`OFFSET`], or empty.
    pub starts: &'a mut [i32],
}

/// Rounds `x`, which has a multiple of `span` values, to half a step. A NaN makes its scale NaN.
pub fn quantize_row(isa: Isa, x: &[f32], span: usize, mut out: Codes<'_>) {
    let blocks = x.len() / SPAN;
    assert!(x.len() == blocks * SPAN && out.codes.len() == x.len() && out.scales.len() == blocks);
    assert!(out.sums16.len() == 2 * blocks && out.sums32.len() == blocks);
    assert!(x.len().is_multiple_of(span) && (span == SPAN || span == WIDE_SPAN));
    match isa.kind() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` of this kind exists only where the processor has these instructions.
        super::isa::Kind::Avx512 => unsafe { avx512::quantize(x, span, &mut out) },
        _ => quantize(isa, x, span, &mut out),
    }
}

/// The scale of values whose largest has the bits `top` without its sign, and what they are multiplied with: 0 where no
/// code can tell them, for NaN, infinity and the smallest numbers.
#[inline(always)]
fn scale_of(top: u32) -> (f32, f32) {
    let top = f32::from_bits(top);
    let inverse = 127.0 / top;
    (top / 127.0, if inverse.is_finite() { inverse } else { 0.0 })
}

dispatch! {
    fn quantize(x: &[f32], span: usize, out: &mut Codes<'_>) = quantize_body
}

#[inline(always)]
fn quantize_body<const FMA: bool>(x: &[f32], span: usize, out: &mut Codes<'_>) {
    const ROUND: f32 = 12_582_912.0;
    let spans = x.chunks(span).zip(out.codes.chunks_mut(span)).zip(out.scales.chunks_mut(span / SPAN));
    for ((x, codes), scales) in spans {
        // Sizes are compared as integers, among which NaN is the largest.
        let top = x.iter().fold(0, |top, v| u32::max(top, v.to_bits() & 0x7FFF_FFFF));
        let (scale, inverse) = scale_of(top);
        for (code, x) in codes.iter_mut().zip(x) {
            *code = (x * inverse + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i32 as i8;
        }
        scales.fill(scale);
    }
    for (codes, sum) in out.codes.chunks_exact(16).zip(&mut *out.sums16) {
        *sum = codes.iter().map(|&code| i32::from(code)).sum();
    }
    for (halves, sum) in out.sums16.as_chunks::<2>().0.iter().zip(&mut *out.sums32) {
        *sum = halves[0] + halves[1];
    }
    for (sums, start) in out.sums32.chunks_exact(span / SPAN).zip(&mut *out.starts) {
        *start = -OFFSET * sums.iter().sum::<i32>();
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512, __m512i, _mm_storeu_si128, _mm256_loadu_ps, _mm512_add_epi32, _mm512_and_si512,
        _mm512_castps_si512, _mm512_castps256_ps512, _mm512_castsi512_si128, _mm512_cvtps_epi32,
        _mm512_dpbusd_epi32, _mm512_insertf32x8, _mm512_mask_storeu_epi8, _mm512_maskz_mul_ps,
        _mm512_max_epu32, _mm512_packs_epi16, _mm512_packs_epi32, _mm512_permutexvar_epi32,
        _mm512_reduce_max_epu32, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setr_epi32,
        _mm512_setzero_ps, _mm512_setzero_si512, _mm512_shuffle_epi32,
    };

    use super::{Codes, OFFSET, SPAN, scale_of};

    /// As [`super::quantize_row`].
    ///
    /// # Safety
    /// The processor has the instructions.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vnni")]
    pub unsafe fn quantize(x: &[f32], span: usize, out: &mut Codes<'_>) {
        let whole = x.len() / 64;
        // SAFETY: as this function; spans of 64 leave no rest.
        unsafe {
            match span {
                SPAN => (0..whole).for_each(|i| quantize_some::<4, 2>(x, i * 64, out)),
                _ => (0..whole).for_each(|i| quantize_some::<4, 4>(x, i * 64, out)),
            }
            if x.len() > whole * 64 {
                quantize_some::<2, 2>(x, whole * 64, out);
            }
        }
    }

    /// `N` times sixteen values from `at` on, of which each `EACH` share a scale.
    ///
    /// # Safety
    /// The processor has the instructions.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vnni")]
    unsafe fn quantize_some<const N: usize, const EACH: usize>(x: &[f32], at: usize, out: &mut Codes<'_>) {
        // Packing takes four codes of each register in turn; and every fourth lane of sums has what others have, too.
        let in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        let firsts = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
        let mut codes = [_mm512_setzero_si512(); 4];
        for (i, x) in x[at..][..N * 16].chunks_exact(EACH * 16).enumerate() {
            let mut values = [_mm512_setzero_ps(); EACH];
            for (value, x) in values.iter_mut().zip(x.as_chunks::<16>().0) {
                // Halves: so whoever wrote them need not have come as far as the cache.
                // SAFETY: sixteen floats.
                let [low, high] = [0, 8].map(|half| unsafe { _mm256_loadu_ps(x.as_ptr().add(half)) });
                *value = _mm512_insertf32x8::<1>(_mm512_castps256_ps512(low), high);
            }
            let (rounded, scale) = round(values);
            codes[i * EACH..][..EACH].copy_from_slice(&rounded);
            out.scales[at / SPAN + i * EACH / 2..][..EACH / 2].fill(scale);
        }
        let [a, b, c, d] = codes;
        let packed = _mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
        let packed = _mm512_permutexvar_epi32(in_order, packed);
        let codes = &mut out.codes[at..][..N * 16];
        // SAFETY: as many bytes as `codes` has.
        unsafe { _mm512_mask_storeu_epi8(codes.as_mut_ptr(), u64::MAX >> (64 - N * 16), packed) };
        let mut sums = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), packed);
        sums = _mm512_add_epi32(sums, _mm512_shuffle_epi32::<0b01_00_11_10>(sums));
        sums = _mm512_add_epi32(sums, _mm512_shuffle_epi32::<0b10_11_00_01>(sums));
        let mut sums16 = [0; 4];
        let sums = _mm512_castsi512_si128(_mm512_permutexvar_epi32(firsts, sums));
        // SAFETY: four integers.
        unsafe { _mm_storeu_si128(sums16.as_mut_ptr().cast(), sums) };
        out.sums16[at / 16..][..N].copy_from_slice(&sums16[..N]);
        let sums32 = [sums16[0] + sums16[1], sums16[2] + sums16[3]];
        out.sums32[at / SPAN..][..N / 2].copy_from_slice(&sums32[..N / 2]);
        if !out.starts.is_empty() {
            let starts = &mut out.starts[at / (EACH * 16)..][..N / EACH];
            for (start, sums) in starts.iter_mut().zip(sums32.chunks_exact(EACH / 2)) {
                *start = -OFFSET * sums.iter().sum::<i32>();
            }
        }
    }

    /// Codes of values that share a scale, and the scale.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn round<const N: usize>(x: [__m512; N]) -> ([__m512i; N], f32) {
        let size = _mm512_set1_epi32(0x7FFF_FFFF);
        let sizes = x.map(|x| _mm512_and_si512(_mm512_castps_si512(x), size));
        let top = sizes.into_iter().reduce(|a, b| _mm512_max_epu32(a, b)).unwrap_or(size);
        let (scale, inverse) = scale_of(_mm512_reduce_max_epu32(top));
        // The product of NaN and 0 is no code.
        let mask = if inverse > 0.0 { 0xFFFF } else { 0 };
        (x.map(|x| _mm512_cvtps_epi32(_mm512_maskz_mul_ps(mask, x, _mm512_set1_ps(inverse)))), scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(isa: Isa, x: &[f32]) -> (Vec<i8>, Vec<f32>, Vec<i32>, Vec<i32>) {
        let n = x.len();
        let mut all = (vec![0; n], vec![0.0; n / 32], vec![0; n / 16], vec![0; n / 32]);
        let (codes, scales, sums16, sums32) = &mut all;
        quantize_row(isa, x, SPAN, Codes { codes, scales, sums16, sums32, starts: &mut [] });
        all
    }

    #[test]
    fn rows_are_rounded_to_half_a_step() {
        let x: Vec<f32> = (0..160).map(|i| ((i * 29 % 83) as f32 - 41.0) / (3 + i / 32) as f32).collect();
        for isa in Isa::available() {
            for n in [32, 64, 96, 160] {
                let (codes, scales, sums16, sums32) = codes(isa, &x[..n]);
                for i in 0..n {
                    let back = f32::from(codes[i]) * scales[i / 32];
                    assert!((back - x[i]).abs() <= scales[i / 32] * 0.501, "{isa:?} {i}");
                }
                for (i, sum) in sums16.iter().enumerate() {
                    assert_eq!(*sum, codes[i * 16..][..16].iter().map(|&c| i32::from(c)).sum::<i32>());
                }
                for (i, sum) in sums32.iter().enumerate() {
                    assert_eq!(*sum, sums16[2 * i] + sums16[2 * i + 1]);
                }
            }
        }
    }

    #[test]
    fn zeros_stay_and_nan_is_not_lost() {
        for isa in Isa::available() {
            assert_eq!(codes(isa, &[0.0; 32]).0, [0; 32]);
            let mut x = [1.0; 64];
            x[40] = f32::NAN;
            assert!(codes(isa, &x).1[40 / SPAN].is_nan(), "{isa:?}");
        }
    }

    /// A damaged model's activations can be anything.
    #[test]
    fn sums_are_those_of_the_codes_whatever_the_values() {
        for isa in Isa::available() {
            for odd in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-38, -1e-45] {
                for rest in [0.0, odd] {
                    let mut x = [rest; 32];
                    x[7] = odd;
                    let (codes, _, sums16, sums32) = codes(isa, &x);
                    let sum = |codes: &[i8]| codes.iter().map(|&c| i32::from(c)).sum::<i32>();
                    assert_eq!(sums16, [sum(&codes[..16]), sum(&codes[16..])], "{isa:?} {odd} {rest}");
                    assert_eq!(sums32, [sum(&codes)], "{isa:?} {odd} {rest}");
                }
            }
        }
    }
}
