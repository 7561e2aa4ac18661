//! AVX2 and AVX-512 (F, BW, VL, DQ).

use std::arch::x86_64::*;

use super::{Groups, KernelSet, LANES, Scale, Tables, generic};

/// Compiles the generic bodies for one instruction set.
macro_rules! compiled_for {
    ($module:ident, $features:literal, $sums:ident) => {
        mod $module {
            use super::{Groups, Scale, generic};

            #[target_feature(enable = $features)]
            pub(super) unsafe fn hadamard(x: &mut [f32]) {
                generic::hadamard(x)
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn dot_bytes(q: &[f32], code: &[i8]) -> f32 {
                generic::dot_bytes(q, code)
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn dot_nibbles(q: &[f32], code: &[u8]) -> f32 {
                generic::dot_nibbles(q, code)
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn squared_bytes(code: &[i8]) -> u32 {
                generic::squared_bytes(code)
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn quantize(x: &[f32], factor: f32, most: f32, out: &mut [i8]) {
                generic::quantize(x, factor, most, out)
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn tables(query: &[f32], factor: f32, low: &mut [u8], high: &mut [u8]) {
                generic::tables(query, factor, low, high)
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn score(
                groups: Groups<'_>,
                scale: Scale<'_>,
                masks: &[u16],
                estimates: &mut [f32],
            ) -> usize {
                // SAFETY: the features are those of this function; the caller has checked the lengths.
                generic::score(groups, scale, masks, estimates, |codes, tables| unsafe {
                    super::$sums(codes, tables)
                })
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn within(keys: &[u8], least: i64, most: i64, masks: &mut [u16]) {
                generic::within(keys, least, most, masks)
            }
        }
    };
}

compiled_for!(avx2, "avx2,fma", sums_avx2);
compiled_for!(avx512, "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq", sums_avx512);

pub(super) static AVX2: KernelSet = KernelSet {
    name: "avx2",
    hadamard: avx2::hadamard,
    dot_bytes: avx2::dot_bytes,
    dot_nibbles: avx2::dot_nibbles,
    squared_bytes: avx2::squared_bytes,
    quantize: avx2::quantize,
    tables: avx2::tables,
    score: avx2::score,
    within: avx2::within,
};

pub(super) static AVX512: KernelSet = KernelSet {
    name: "avx512",
    hadamard: avx512::hadamard,
    dot_bytes: avx512::dot_bytes,
    dot_nibbles: avx512::dot_nibbles,
    squared_bytes: avx512::squared_bytes,
    quantize: avx512::quantize,
    tables: avx512::tables,
    score: avx512::score,
    within: avx512::within,
};

// Both kernels look up 16 bytes a 128-bit lane with one shuffle and add pairs of bytes as 16-bit numbers. `all` sums
// the pairs as they are, `odd` only the upper bytes: the sum of the lower ones is all − 256·odd, modulo 2^16. A lane
// sees at most 224 bytes of 255, which does not overflow.

#[inline]
#[target_feature(enable = "avx2")]
unsafe fn sums_avx2(codes: &[u8], tables: Tables<'_>) -> [u32; LANES] {
    let nibble = _mm256_set1_epi8(15);
    let (mut all, mut odd) = (_mm256_setzero_si256(), _mm256_setzero_si256());
    for at in (0..codes.len()).step_by(32) {
        // SAFETY: the caller has checked that the three slices are equally long, a multiple of 128 bytes.
        let (code, low, high) = unsafe {
            (
                _mm256_loadu_si256(codes.as_ptr().add(at).cast()),
                _mm256_loadu_si256(tables.low.as_ptr().add(at).cast()),
                _mm256_loadu_si256(tables.high.as_ptr().add(at).cast()),
            )
        };
        let low = _mm256_shuffle_epi8(low, _mm256_and_si256(code, nibble));
        let high = _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi16::<4>(code), nibble));
        all = _mm256_add_epi16(all, _mm256_add_epi16(low, high));
        odd = _mm256_add_epi16(
            odd,
            _mm256_add_epi16(_mm256_srli_epi16::<8>(low), _mm256_srli_epi16::<8>(high)),
        );
    }
    let even = _mm256_sub_epi16(all, _mm256_slli_epi16::<8>(odd));
    let lanes = |x| {
        let first = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(x));
        _mm256_add_epi32(first, _mm256_cvtepu16_epi32(_mm256_extracti128_si256::<1>(x)))
    };
    let (first, second) = interleave(lanes(even), lanes(odd));
    // SAFETY: all are 16 numbers of 32 bits.
    unsafe { std::mem::transmute([first, second]) }
}

#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
unsafe fn sums_avx512(codes: &[u8], tables: Tables<'_>) -> [u32; LANES] {
    let nibble = _mm512_set1_epi8(15);
    let (mut all, mut odd) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    for at in (0..codes.len()).step_by(64) {
        // SAFETY: as in `sums_avx2`.
        let (code, low, high) = unsafe {
            (
                _mm512_loadu_si512(codes.as_ptr().add(at).cast()),
                _mm512_loadu_si512(tables.low.as_ptr().add(at).cast()),
                _mm512_loadu_si512(tables.high.as_ptr().add(at).cast()),
            )
        };
        let low = _mm512_shuffle_epi8(low, _mm512_and_si512(code, nibble));
        let high = _mm512_shuffle_epi8(high, _mm512_and_si512(_mm512_srli_epi16::<4>(code), nibble));
        all = _mm512_add_epi16(all, _mm512_add_epi16(low, high));
        odd = _mm512_add_epi16(
            odd,
            _mm512_add_epi16(_mm512_srli_epi16::<8>(low), _mm512_srli_epi16::<8>(high)),
        );
    }
    let even = _mm512_sub_epi16(all, _mm512_slli_epi16::<8>(odd));
    let lanes = |x| {
        let first = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(x));
        let sum = _mm512_add_epi32(first, _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64::<1>(x)));
        _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum))
    };
    let (first, second) = interleave(lanes(even), lanes(odd));
    // One register, since two would have to be stored to be read as one.
    let sums = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second);
    // SAFETY: both are 16 numbers of 32 bits.
    unsafe { std::mem::transmute(sums) }
}

/// Even and odd elements in turn.
#[inline]
#[target_feature(enable = "avx2")]
fn interleave(even: __m256i, odd: __m256i) -> (__m256i, __m256i) {
    let (low, high) = (_mm256_unpacklo_epi32(even, odd), _mm256_unpackhi_epi32(even, odd));
    (_mm256_permute2x128_si256::<0x20>(low, high), _mm256_permute2x128_si256::<0x31>(low, high))
}
