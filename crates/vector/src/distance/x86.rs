//! AVX2 with FMA and F16C, and AVX-512 (F, BW, VL, DQ).

use std::arch::x86_64::*;

use half::f16;

use super::generic::{Simd, kernel_set};

/// Registers of 8 lanes.
struct Avx2;
/// Registers of 16 lanes, with masks for the last elements.
struct Avx512;

kernel_set! {
    /// For processors since Haswell and Zen.
    pub(super) static AVX2 = "avx2", Avx2, target_feature(enable = "avx2,fma,f16c")
}
kernel_set! {
    /// For processors since Skylake-X and Zen 4.
    pub(super) static AVX512 = "avx512", Avx512,
    target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")
}

/// `MASKS[8 - n..][..8]`: n lanes set, the others not.
static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

/// Rounding of the conversion to f16, whatever the mode of the processor.
const ROUND: i32 = _MM_FROUND_TO_NEAREST_INT;

impl Simd for Avx2 {
    const LANES: usize = 8;
    type V = __m256;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn zero() -> Self::V {
        _mm256_setzero_ps()
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        _mm256_add_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        _mm256_sub_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn abs(a: Self::V) -> Self::V {
        _mm256_andnot_ps(_mm256_set1_ps(-0.0), a)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        _mm256_fmadd_ps(a, b, c)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn sum(a: Self::V) -> f32 {
        let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn sum3([a, b, c]: [Self::V; 3]) -> [f32; 3] {
        // Partial sums of a and b, then of all three, move into one register, so that one tree of additions serves
        // them.
        let ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let cc = _mm256_add_ps(c, _mm256_permute_ps::<0b11_10_11_10>(c));
        let abc = _mm256_add_ps(
            _mm256_shuffle_ps::<0b00_00_01_00>(ab, cc),
            _mm256_shuffle_ps::<0b01_01_11_10>(ab, cc),
        );
        let sums = _mm_add_ps(_mm256_castps256_ps128(abc), _mm256_extractf128_ps::<1>(abc));
        let mut out = [0.0; 4];
        // SAFETY: there is room for four elements.
        unsafe { _mm_storeu_ps(out.as_mut_ptr(), sums) };
        [out[0], out[1], out[2]]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load_f32(p: *const f32) -> Self::V {
        // SAFETY: the caller vouches for 8 elements.
        unsafe { _mm256_loadu_ps(p) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load_f32_part(p: *const f32, n: usize) -> Self::V {
        // SAFETY: n < 8, so the mask lies within MASKS; only the n lanes that it names are read.
        unsafe {
            let mask = _mm256_loadu_si256(MASKS.as_ptr().add(8 - n).cast());
            _mm256_maskload_ps(p, mask)
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load_f16(p: *const f16) -> Self::V {
        // SAFETY: the caller vouches for 8 elements.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load_f16_part(p: *const f16, n: usize) -> Self::V {
        let mut halves = [f16::ZERO; 8];
        // SAFETY: the caller vouches for n elements, and n < 8.
        unsafe {
            std::ptr::copy_nonoverlapping(p, halves.as_mut_ptr(), n);
            Self::load_f16(halves.as_ptr())
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn store_f32(p: *mut f32, a: Self::V) {
        // SAFETY: the caller vouches for room for 8 elements.
        unsafe { _mm256_storeu_ps(p, a) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn store_f16(p: *mut f16, a: Self::V) {
        // SAFETY: the caller vouches for room for 8 elements.
        unsafe { _mm_storeu_si128(p.cast(), _mm256_cvtps_ph::<ROUND>(a)) }
    }
}

impl Simd for Avx512 {
    const LANES: usize = 16;
    type V = __m512;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn zero() -> Self::V {
        _mm512_setzero_ps()
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        _mm512_add_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        _mm512_sub_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn abs(a: Self::V) -> Self::V {
        _mm512_abs_ps(a)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        _mm512_fmadd_ps(a, b, c)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn sum(a: Self::V) -> f32 {
        let eight = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
        // SAFETY: this processor has AVX2 too.
        unsafe { Avx2::sum(eight) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn sum3([a, b, c]: [Self::V; 3]) -> [f32; 3] {
        // SAFETY: this processor has AVX2 too.
        unsafe {
            Avx2::sum3(
                [a, b, c].map(|x| _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x))),
            )
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn load_f32(p: *const f32) -> Self::V {
        // SAFETY: the caller vouches for 16 elements.
        unsafe { _mm512_loadu_ps(p) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn load_f32_part(p: *const f32, n: usize) -> Self::V {
        // SAFETY: n < 16, and only the n lanes of the mask are read.
        unsafe { _mm512_maskz_loadu_ps((1 << n) - 1, p) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn load_f16(p: *const f16) -> Self::V {
        // SAFETY: the caller vouches for 16 elements.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn load_f16_part(p: *const f16, n: usize) -> Self::V {
        // SAFETY: n < 16, and only the n lanes of the mask are read.
        unsafe { _mm512_cvtph_ps(_mm256_maskz_loadu_epi16((1 << n) - 1, p.cast())) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn store_f32(p: *mut f32, a: Self::V) {
        // SAFETY: the caller vouches for room for 16 elements.
        unsafe { _mm512_storeu_ps(p, a) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn store_f16(p: *mut f16, a: Self::V) {
        // SAFETY: the caller vouches for room for 16 elements.
        unsafe { _mm256_storeu_si256(p.cast(), _mm512_cvtps_ph::<ROUND>(a)) }
    }
}
