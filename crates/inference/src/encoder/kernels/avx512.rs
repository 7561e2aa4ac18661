//! What stands around the products, in AVX-512 with BF16: of their portable twins the compiler makes code of narrow and
//! scalar steps, and it knows no instruction that rounds to bfloat16.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, __mmask16, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _mm512_add_ps,
    _mm512_cvtne2ps_pbh, _mm512_fmadd_ps, _mm512_fmsub_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_mask_mov_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_permutexvar_epi16,
    _mm512_reduce_add_ps, _mm512_reduce_max_ps, _mm512_roundscale_ps, _mm512_scalef_ps, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_storeu_ps, _mm512_storeu_si512,
    _mm512_sub_ps, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64,
};

use super::attention::{EXP2, Head};
use super::math::{GELU, GELU_END};
use super::norm::Norm;
use super::product::{COLUMNS, Line, Pairs, ROWS, Wide};

/// As [`pack_keys`](super::attention).
#[target_feature(enable = "avx512f")]
pub fn pack_keys(head: &Head<'_>, first: usize, length: usize, out: &mut Vec<Pairs>) {
    let panels = head.queries.len() / head.rows;
    out.resize(length.div_ceil(COLUMNS) * panels * 16, [0; COLUMNS]);
    let mut tiles = out.chunks_exact_mut(16);
    for block in (0..length).step_by(COLUMNS) {
        let count = COLUMNS.min(length - block);
        for (panel, tile) in head.keys.chunks_exact(head.rows).zip(&mut tiles) {
            let (left, right) = panel[first + block..][..count].split_at(count.min(16));
            for (half, lines) in [(0, left), (16, right)] {
                for (pairs, column) in tile.iter_mut().zip(transpose(lines)) {
                    // SAFETY: half a row of pairs is a register long.
                    unsafe { _mm512_storeu_si512(pairs[half..].as_mut_ptr().cast(), column) };
                }
            }
        }
    }
}

/// The columns of at most 16 lines; zeros for those that are missing.
#[target_feature(enable = "avx512f")]
fn transpose(lines: &[Line]) -> [__m512i; 16] {
    let mut rows = [_mm512_setzero_si512(); 16];
    for (row, line) in rows.iter_mut().zip(lines) {
        // SAFETY: a line is a register long.
        *row = unsafe { _mm512_loadu_si512(line.0.as_ptr().cast()) };
    }
    // Pairs of rows, then fours: lane l of `fours[4i + j]` has column 4l + j of rows 4i to 4i + 3.
    let (mut pairs, mut fours) = (rows, rows);
    for i in 0..8 {
        pairs[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    for i in (0..16).step_by(4) {
        fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    const EVEN: i32 = 0b10_00_10_00;
    const ODD: i32 = 0b11_01_11_01;
    let mut columns = rows;
    for j in 0..4 {
        let even_above = _mm512_shuffle_i32x4::<EVEN>(fours[j], fours[j + 4]);
        let even_below = _mm512_shuffle_i32x4::<EVEN>(fours[j + 8], fours[j + 12]);
        let odd_above = _mm512_shuffle_i32x4::<ODD>(fours[j], fours[j + 4]);
        let odd_below = _mm512_shuffle_i32x4::<ODD>(fours[j + 8], fours[j + 12]);
        columns[j] = _mm512_shuffle_i32x4::<EVEN>(even_above, even_below);
        columns[j + 4] = _mm512_shuffle_i32x4::<EVEN>(odd_above, odd_below);
        columns[j + 8] = _mm512_shuffle_i32x4::<ODD>(even_above, even_below);
        columns[j + 12] = _mm512_shuffle_i32x4::<ODD>(odd_above, odd_below);
    }
    columns
}

/// As [`exponentiate`](super::attention), but leaves the scores as they are.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub fn exponentiate(scores: &[Wide], length: usize, scale: f32, sums: &mut [f32], weights: &mut [Line]) {
    let blocks = length.div_ceil(COLUMNS);
    let scale = _mm512_set1_ps(scale * std::f32::consts::LOG2_E);
    // Which scores of the last block are those of keys.
    let keys = u32::MAX >> (blocks * COLUMNS - length);
    let load = |block: usize, r: usize| -> [__m512; 2] {
        let halves = load(&scores[block * ROWS + r]);
        if block + 1 < blocks {
            return halves;
        }
        let none = _mm512_set1_ps(f32::NEG_INFINITY);
        [
            _mm512_mask_mov_ps(none, keys as __mmask16, halves[0]),
            _mm512_mask_mov_ps(none, (keys >> 16) as __mmask16, halves[1]),
        ]
    };
    // Step by step for all rows, so that no row waits for another's.
    let mut tops = [0.0; ROWS];
    for (r, top) in tops.iter_mut().enumerate().take(sums.len()) {
        let mut most = load(0, r);
        for block in 1..blocks {
            let [low, high] = load(block, r);
            most = [_mm512_max_ps(most[0], low), _mm512_max_ps(most[1], high)];
        }
        *top = _mm512_reduce_max_ps(_mm512_max_ps(most[0], most[1]));
    }
    for (r, (sum, top)) in sums.iter_mut().zip(tops).enumerate() {
        let top = _mm512_mul_ps(_mm512_set1_ps(top), scale);
        let mut total = _mm512_setzero_ps();
        for block in 0..blocks {
            let [low, high] = load(block, r);
            let low = exp2(_mm512_fmsub_ps(low, scale, top));
            let high = exp2(_mm512_fmsub_ps(high, scale, top));
            total = _mm512_add_ps(total, _mm512_add_ps(low, high));
            narrow(low, high, &mut weights[block * ROWS + r]);
        }
        *sum = _mm512_reduce_add_ps(total);
    }
}

/// As [`exp2`](super::attention), with instructions for its whole and its power.
#[target_feature(enable = "avx512f")]
fn exp2(x: __m512) -> __m512 {
    // The second operand is the result where one is NaN.
    let x = _mm512_max_ps(_mm512_set1_ps(-126.0), x);
    let n = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
    let f = _mm512_sub_ps(x, n);
    let [first, rest @ ..] = EXP2;
    let mut p = _mm512_set1_ps(first);
    for c in rest {
        p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(c));
    }
    _mm512_scalef_ps(p, n)
}

/// As [`normalize`](super::norm).
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub fn normalize(x: &mut [Wide], lines: &mut [Line], rows: usize, norm: &Norm<'_>) {
    let width = norm.width as f32;
    // Elements beyond the width are zero: they add nothing to the sum, but their mean's square to the variance.
    let padding = (norm.weight.len() * COLUMNS) as f32 - width;
    for first in (0..rows).step_by(ROWS) {
        let count = ROWS.min(rows - first);
        let (mut means, mut scales) = ([0.0; ROWS], [0.0; ROWS]);
        for (r, mean) in means.iter_mut().enumerate().take(count) {
            let mut sums = [_mm512_setzero_ps(); 2];
            for panel in x.chunks_exact(rows) {
                let [low, high] = load(&panel[first + r]);
                sums = [_mm512_add_ps(sums[0], low), _mm512_add_ps(sums[1], high)];
            }
            *mean = _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1])) / width;
        }
        for (r, (scale, &mean)) in scales.iter_mut().zip(&means).enumerate().take(count) {
            let (mut squares, all) = ([_mm512_setzero_ps(); 2], _mm512_set1_ps(mean));
            for panel in x.chunks_exact(rows) {
                let [low, high] = load(&panel[first + r]);
                let (low, high) = (_mm512_sub_ps(low, all), _mm512_sub_ps(high, all));
                squares = [_mm512_fmadd_ps(low, low, squares[0]), _mm512_fmadd_ps(high, high, squares[1])];
            }
            let squares = _mm512_reduce_add_ps(_mm512_add_ps(squares[0], squares[1]));
            let variance = (squares - padding * mean * mean) / width;
            *scale = 1.0 / (variance.max(0.0) + norm.epsilon).sqrt();
        }
        let panels = x.chunks_exact_mut(rows).zip(lines.chunks_exact_mut(rows));
        for ((panel, lines), (weight, bias)) in panels.zip(norm.weight.iter().zip(norm.bias)) {
            let (weight, bias) = (load(weight), load(bias));
            let rows = panel[first..].iter_mut().zip(&mut lines[first..]);
            for ((row, line), (&mean, &scale)) in rows.zip(means.iter().zip(&scales)).take(count) {
                let (mean, scale) = (_mm512_set1_ps(mean), _mm512_set1_ps(scale));
                let mut halves = load(row);
                for (half, (weight, bias)) in halves.iter_mut().zip(weight.into_iter().zip(bias)) {
                    *half = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_sub_ps(*half, mean), scale), weight, bias);
                }
                let [low, high] = halves;
                // SAFETY: a row is two registers long.
                unsafe {
                    _mm512_storeu_ps(row.as_mut_ptr(), low);
                    _mm512_storeu_ps(row.as_mut_ptr().add(16), high);
                }
                narrow(low, high, line);
            }
        }
    }
}

/// As [`lines`](super::math).
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub fn lines(product: &[Wide], out: &mut [Line]) {
    for (row, line) in product.iter().zip(out) {
        let [low, high] = load(row);
        narrow(low, high, line);
    }
}

/// As [`gelu_lines`](super::math).
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub fn gelu_lines(product: &[Wide], out: &mut [Line]) {
    for (row, line) in product.iter().zip(out) {
        let [low, high] = load(row);
        narrow(gelu(low), gelu(high), line);
    }
}

#[target_feature(enable = "avx512f")]
fn gelu(x: __m512) -> __m512 {
    let end = _mm512_set1_ps(GELU_END);
    let t = _mm512_max_ps(_mm512_sub_ps(_mm512_setzero_ps(), end), _mm512_min_ps(end, x));
    let z = _mm512_mul_ps(t, t);
    let [first, rest @ ..] = GELU;
    let mut p = _mm512_set1_ps(first);
    for c in rest {
        p = _mm512_fmadd_ps(p, z, _mm512_set1_ps(c));
    }
    _mm512_mul_ps(x, _mm512_fmadd_ps(t, p, _mm512_set1_ps(0.5)))
}

#[target_feature(enable = "avx512f")]
fn load(row: &Wide) -> [__m512; 2] {
    // SAFETY: a row is two registers long.
    unsafe { [_mm512_loadu_ps(row.as_ptr()), _mm512_loadu_ps(row.as_ptr().add(16))] }
}

/// A row as a line: pair `i` is `low[i]` and `high[i]`, rounded to the nearest; numbers below 2^-126 become 0.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn narrow(low: __m512, high: __m512, line: &mut Line) {
    const ORDER: [u16; 32] = {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 16 {
            (order[2 * i], order[2 * i + 1]) = (i as u16, i as u16 + 16);
            i += 1;
        }
        order
    };
    // SAFETY: both types are 64 bytes of plain bits; order and line are a register long.
    unsafe {
        let numbers = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
        let order = _mm512_loadu_si512(ORDER.as_ptr().cast());
        _mm512_storeu_si512(line.0.as_mut_ptr().cast(), _mm512_permutexvar_epi16(order, numbers));
    }
}
