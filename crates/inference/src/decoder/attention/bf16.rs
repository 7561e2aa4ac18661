//! Attention with AVX-512's products of bfloat16 pairs, straight from the cache: queries and probabilities are rounded
//! to what the cache holds.

use std::arch::x86_64::{
    __m256bh, __m256i, __m512, __m512bh, __m512i, _CMP_NLE_UQ, _mm256_storeu_si256, _mm512_add_ps,
    _mm512_cmp_ps_mask, _mm512_cmplt_epi32_mask, _mm512_cvtneps_pbh, _mm512_dpbf16_ps, _mm512_fmadd_ps,
    _mm512_load_si512, _mm512_loadu_ps, _mm512_mask_mov_ps, _mm512_max_ps, _mm512_mul_ps,
    _mm512_reduce_add_ps, _mm512_reduce_max_ps, _mm512_roundscale_ps, _mm512_scalef_ps, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setr_epi32, _mm512_setzero_ps, _mm512_storeu_ps, _mm512_sub_ps,
};

use super::{BLOCK, PANELS, ROWS, Task};
use crate::decoder::cache::Pairs;
use crate::decoder::lanes::LANES;

/// How much larger than the maximum that is kept a logarithm may be before another is taken.
const SLACK: f32 = 8.0;

/// Registers of a row of scores, and of the outputs that are summed together.
type Tile = [[__m512; PANELS]; ROWS];

/// Whether [`run`] can compute `task`: it wants pairs, and whole registers of outputs.
pub fn fits(task: &Task<'_>) -> bool {
    task.size.is_multiple_of(LANES * PANELS) && task.head.pairs().is_some()
}

/// Computes `task.out`.
///
/// # Safety
/// The processor has the instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub unsafe fn run(task: &mut Task<'_>) {
    let Task { size, group, position, .. } = *task;
    let Some([keys, values]) = task.head.pairs() else { return };
    let tokens = task.out.len() / (group * size);
    let (rows, half, columns) = (tokens * group, size / 2, size / LANES);
    let padded = rows.next_multiple_of(ROWS);
    let end = position + tokens;
    let blocks = end.div_ceil(BLOCK);
    assert!(size.is_multiple_of(LANES * PANELS));
    assert!(keys.len() >= blocks * PANELS * half && values.len() >= blocks * BLOCK / 2 * columns);

    // Pairs of elements; scores are logarithms to the base of 2.
    let mut queries = vec![0_u32; padded * half];
    for (row, query) in queries.chunks_exact_mut(half).take(rows).enumerate() {
        let from = &task.queries[row / group * task.stride + row % group * size..][..size];
        for (query, from) in query.chunks_exact_mut(LANES / 2).zip(from.as_chunks::<LANES>().0) {
            // SAFETY: sixteen floats become eight pairs.
            unsafe {
                let x =
                    _mm512_mul_ps(_mm512_loadu_ps(from.as_ptr()), _mm512_set1_ps(std::f32::consts::LOG2_E));
                store_halves(x, query.as_mut_ptr());
            }
        }
    }
    let mut sums = vec![0.0_f32; padded * size];
    let mut maxima = vec![f32::NEG_INFINITY; padded];
    let mut totals = vec![[0.0_f32; LANES]; padded];
    for start in (0..end).step_by(BLOCK) {
        let keys = &keys[start / LANES * half..][..PANELS * half];
        let values = &values[start / 2 * columns..][..BLOCK / 2 * columns];
        for first in (0..rows).step_by(ROWS) {
            let limits: [usize; ROWS] = std::array::from_fn(|r| {
                (position + (first + r).min(rows - 1) / group + 1).saturating_sub(start).min(BLOCK)
            });
            let seen = limits[ROWS - 1];
            if seen == 0 {
                continue;
            }
            let mut scores: Tile = [[_mm512_setzero_ps(); PANELS]; ROWS];
            let query = std::array::from_fn(|r| &queries[(first + r) * half..][..half]);
            multiply(query, &mut scores, |k, c| &keys[c * half + k]);

            let mut shares = [[0_u32; BLOCK / 2]; ROWS];
            for r in 0..ROWS {
                let row = first + r;
                let kept = softmax(&mut scores[r], limits[r], &mut maxima[row], &mut totals[row]);
                for (x, share) in scores[r].iter().zip(shares[r].chunks_exact_mut(LANES / 2)) {
                    // SAFETY: sixteen floats become eight pairs.
                    unsafe { store_halves(*x, share.as_mut_ptr()) };
                }
                if kept != 1.0 {
                    for sums in sums[row * size..][..size].as_chunks_mut::<LANES>().0 {
                        // SAFETY: sixteen floats.
                        unsafe {
                            let x = _mm512_mul_ps(_mm512_loadu_ps(sums.as_ptr()), _mm512_set1_ps(kept));
                            _mm512_storeu_ps(sums.as_mut_ptr(), x);
                        }
                    }
                }
            }
            // Positions that no row sees hold nothing, or something of another text.
            let shares = shares.each_ref().map(|row| &row[..seen.div_ceil(2)]);
            for column in (0..columns).step_by(PANELS) {
                let at = |r: usize, c: usize| (first + r) * size + (column + c) * LANES;
                let mut acc: Tile = [[_mm512_setzero_ps(); PANELS]; ROWS];
                for (r, acc) in acc.iter_mut().enumerate() {
                    for (c, acc) in acc.iter_mut().enumerate() {
                        // SAFETY: a slice of sixteen floats.
                        *acc = unsafe { _mm512_loadu_ps(sums[at(r, c)..][..LANES].as_ptr()) };
                    }
                }
                multiply(shares, &mut acc, |k, c| &values[k * columns + column + c]);
                for (r, acc) in acc.iter().enumerate() {
                    for (c, acc) in acc.iter().enumerate() {
                        // SAFETY: a slice of sixteen floats.
                        unsafe { _mm512_storeu_ps(sums[at(r, c)..][..LANES].as_mut_ptr(), *acc) };
                    }
                }
            }
        }
    }
    for ((out, sums), total) in task.out.chunks_exact_mut(size).zip(sums.chunks_exact(size)).zip(&totals) {
        // SAFETY: sixteen floats.
        let total = _mm512_reduce_add_ps(unsafe { _mm512_loadu_ps(total.as_ptr()) });
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum / total);
    }
}

/// `acc[r][c] += Σ_k a[r][k] · b(k, c)`, two products for each pair.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn multiply<'a>(a: [&[u32]; ROWS], acc: &mut Tile, b: impl Fn(usize, usize) -> &'a Pairs) {
    let n = a[0].len();
    let a = a.map(|row| &row[..n]);
    let mut sums = *acc;
    for k in 0..n {
        // SAFETY: 64 aligned bytes.
        let b: [__m512i; PANELS] =
            std::array::from_fn(|c| unsafe { _mm512_load_si512(std::ptr::from_ref(b(k, c)).cast()) });
        for r in 0..ROWS {
            let x = halves(_mm512_set1_epi32(a[r][k].cast_signed()));
            for c in 0..PANELS {
                sums[r][c] = _mm512_dpbf16_ps(sums[r][c], x, halves(b[c]));
            }
        }
    }
    *acc = sums;
}

/// Scores become what their powers of 2 are to that of about the row's largest so far, `maximum`; returns what older
/// sums are to be multiplied with.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn softmax(scores: &mut [__m512; PANELS], seen: usize, maximum: &mut f32, total: &mut [f32; LANES]) -> f32 {
    let lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    if seen < BLOCK {
        for (c, x) in scores.iter_mut().enumerate() {
            let left = _mm512_set1_epi32(seen as i32 - (c * LANES) as i32);
            let mask = _mm512_cmplt_epi32_mask(lane, left);
            *x = _mm512_mask_mov_ps(_mm512_set1_ps(f32::NEG_INFINITY), mask, *x);
        }
    }
    let largest = scores.iter().skip(1).fold(scores[0], |a, &b| _mm512_max_ps(a, b));
    let mut kept = 1.0;
    if _mm512_cmp_ps_mask::<_CMP_NLE_UQ>(largest, _mm512_set1_ps(*maximum + SLACK)) != 0 {
        let old = *maximum;
        *maximum = old.max(_mm512_reduce_max_ps(largest));
        kept = (old - *maximum).exp2();
    }
    if *maximum == f32::NEG_INFINITY {
        // This row sees nothing yet.
        *scores = [_mm512_setzero_ps(); PANELS];
        return 1.0;
    }
    let mut sum = _mm512_setzero_ps();
    for x in scores.iter_mut() {
        *x = exp2(_mm512_sub_ps(*x, _mm512_set1_ps(*maximum)));
        sum = _mm512_add_ps(sum, *x);
    }
    // SAFETY: sixteen floats.
    unsafe {
        let before = _mm512_loadu_ps(total.as_ptr());
        _mm512_storeu_ps(total.as_mut_ptr(), _mm512_fmadd_ps(before, _mm512_set1_ps(kept), sum));
    }
    kept
}

/// 2^x for x ≤ 0 with a relative error below 3e-6, a hundredth of what rounding to bfloat16 costs.
#[inline]
#[target_feature(enable = "avx512f")]
fn exp2(x: __m512) -> __m512 {
    // In this order NaN stays NaN.
    let x = _mm512_max_ps(_mm512_set1_ps(-200.0), x);
    let whole = _mm512_roundscale_ps::<0>(x);
    let rest = _mm512_sub_ps(x, whole);
    // Taylor's series of e^(rest · ln 2), |rest| ≤ 1/2.
    let mut p = _mm512_set1_ps(1.333_355_8e-3);
    for factor in [9.618_129e-3, 5.550_411e-2, 2.402_265e-1, 6.931_472e-1, 1.0] {
        p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(factor));
    }
    _mm512_scalef_ps(p, whole)
}

fn halves(x: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes without invalid values.
    unsafe { std::mem::transmute(x) }
}

/// Rounds to bfloat16 and stores the numbers as eight pairs.
///
/// # Safety
/// `to` has room for eight pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn store_halves(x: __m512, to: *mut u32) {
    // SAFETY: both are 32 bytes without invalid values; there is room.
    unsafe {
        _mm256_storeu_si256(to.cast(), std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x)))
    };
}
