//! Rounding activations to 8 bits.

use super::isa::{Isa, dispatch};

/// Values that share a scale.
pub const SPAN: usize = 32;

/// The codes of a row: x ≈ scale · code.
pub struct Codes<'a> {
    /// A code for each value.
    pub codes: &'a mut [i8],
    /// A scale for each [`SPAN`] values.
    pub scales: &'a mut [f32],
    /// Sums of the codes of each 16 values.
    pub sums16: &'a mut [i32],
    /// Sums of the codes of each 32 values.
    pub sums32: &'a mut [i32],
}

/// Rounds `x`, which has a multiple of 32 values, to half a step. A NaN makes its scale NaN.
pub fn quantize_row(isa: Isa, x: &[f32], mut out: Codes<'_>) {
    let blocks = x.len() / 32;
    assert!(x.len() == blocks * 32 && out.codes.len() == x.len() && out.scales.len() == blocks);
    assert!(out.sums16.len() == 2 * blocks && out.sums32.len() == blocks);
    #[cfg(target_arch = "x86_64")]
    if isa.kind() == super::isa::Kind::Avx512 {
        // SAFETY: an `Isa` of this kind exists only where the processor has these instructions.
        unsafe { avx512::quantize(x, &mut out) };
        return;
    }
    quantize(isa, x, &mut out);
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
    fn quantize(x: &[f32], out: &mut Codes<'_>) = quantize_body
}

#[inline(always)]
fn quantize_body<const FMA: bool>(x: &[f32], out: &mut Codes<'_>) {
    const ROUND: f32 = 12_582_912.0;
    for (span, x) in x.chunks(SPAN).enumerate() {
        // Sizes are compared as integers, among which NaN is the largest.
        let top = x.iter().fold(0, |top, v| u32::max(top, v.to_bits() & 0x7FFF_FFFF));
        let (scale, inverse) = scale_of(top);
        let codes = &mut out.codes[span * SPAN..][..x.len()];
        for (code, x) in codes.iter_mut().zip(x) {
            *code = (x * inverse + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i32 as i8;
        }
        out.scales[span] = scale;
    }
    for (codes, sum) in out.codes.chunks_exact(16).zip(&mut *out.sums16) {
        *sum = codes.iter().map(|&code| i32::from(code)).sum();
    }
    for (halves, sum) in out.sums16.as_chunks::<2>().0.iter().zip(&mut *out.sums32) {
        *sum = halves[0] + halves[1];
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        _mm_storeu_si128, _mm512_and_si512, _mm512_castps_si512, _mm512_cvtepi32_epi8, _mm512_cvtps_epi32,
        _mm512_loadu_ps, _mm512_maskz_mul_ps, _mm512_max_epu32, _mm512_reduce_add_epi32,
        _mm512_reduce_max_epu32, _mm512_set1_epi32, _mm512_set1_ps,
    };

    use super::{Codes, SPAN, scale_of};

    /// As [`super::quantize_row`].
    ///
    /// # Safety
    /// The processor has the instructions.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub unsafe fn quantize(x: &[f32], out: &mut Codes<'_>) {
        let size = _mm512_set1_epi32(0x7FFF_FFFF);
        for (span, x) in x.as_chunks::<SPAN>().0.iter().enumerate() {
            // SAFETY: 32 floats are two registers, their codes half of one.
            unsafe {
                let x = [0, 16].map(|at| _mm512_loadu_ps(x.as_ptr().add(at)));
                let bits = x.map(|x| _mm512_and_si512(_mm512_castps_si512(x), size));
                let (scale, inverse) = scale_of(_mm512_reduce_max_epu32(_mm512_max_epu32(bits[0], bits[1])));
                // The product of NaN and 0 is no code.
                let mask = if inverse > 0.0 { 0xFFFF } else { 0 };
                let codes =
                    x.map(|x| _mm512_cvtps_epi32(_mm512_maskz_mul_ps(mask, x, _mm512_set1_ps(inverse))));
                let sums = codes.map(|x| _mm512_reduce_add_epi32(x));
                for (codes, out) in
                    codes.into_iter().zip(out.codes[span * SPAN..][..SPAN].as_chunks_mut::<16>().0)
                {
                    _mm_storeu_si128(out.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(codes));
                }
                out.sums16[2 * span..][..2].copy_from_slice(&sums);
                out.sums32[span] = sums[0] + sums[1];
                out.scales[span] = scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(isa: Isa, x: &[f32]) -> (Vec<i8>, Vec<f32>, Vec<i32>, Vec<i32>) {
        let n = x.len();
        let mut all = (vec![0; n], vec![0.0; n / 32], vec![0; n / 16], vec![0; n / 32]);
        let (codes, scales, sums16, sums32) = &mut all;
        quantize_row(isa, x, Codes { codes, scales, sums16, sums32 });
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
