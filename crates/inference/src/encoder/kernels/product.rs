//! Matrix products of bfloat16 numbers, summed in f32.
//!
//! Both factors lie in panels of 32 columns. A row of a panel is a [`Line`]: sixteen pairs, where pair `i` holds
//! elements `i` (low half) and `i + 16` (high half), so that packing needs no shuffles. The layout is the same for
//! all instruction sets, and each sum is taken in the order of the pairs whatever rows are computed together: a
//! text's vector does not depend on the batch it is in.

use super::{Isa, Level, mul_add};

/// Columns of a panel.
pub const COLUMNS: usize = 32;
/// Most rows that are computed together.
pub const ROWS: usize = 12;

/// 32 bfloat16 numbers of a row, in sixteen pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Line(pub [u32; 16]);

/// Pair `k` of 32 columns of the second factor.
pub type Pairs = [u32; COLUMNS];

/// 32 numbers of a row in f32.
pub type Wide = [f32; COLUMNS];

/// out[r] = start + Σ_k a[k·stride + r]·b, for each row r of `out`, at most [`ROWS`]; `b` has 16 pairs for each line of a
/// row.
pub fn multiply(level: Level, a: &[Line], stride: usize, b: &[Pairs], start: &Wide, out: &mut [Wide]) {
    product::<false>(level, a, stride, b, start, out);
}

/// As [`multiply`], added to what is in `out`.
pub fn multiply_add(level: Level, a: &[Line], stride: usize, b: &[Pairs], start: &Wide, out: &mut [Wide]) {
    product::<true>(level, a, stride, b, start, out);
}

fn product<const ADD: bool>(
    level: Level,
    a: &[Line],
    stride: usize,
    b: &[Pairs],
    start: &Wide,
    out: &mut [Wide],
) {
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! rows {
            ($($n:literal)*) => {
                match (level.0, out.len()) {
                    $(
                        // SAFETY: a `Level` is only made after the processor was asked for these features.
                        (Isa::Bf16, $n) => return unsafe { x86::bf16::<$n, ADD>(a, stride, b, start, out) },
                    )*
                    // SAFETY: as above.
                    (Isa::Avx512, _) => return unsafe { x86::avx512::<ADD>(a, stride, b, start, out) },
                    // SAFETY: as above.
                    (Isa::Avx2, _) => return unsafe { x86::avx2::<ADD>(a, stride, b, start, out) },
                    _ => {}
                }
            };
        }
        rows!(1 2 3 4 5 6 7 8 9 10 11 12);
    }
    let _ = (level, Isa::Baseline);
    widened::<{ super::BASELINE_FMA }, ADD>(a, stride, b, start, out);
}

/// For processors without bfloat16 products: numbers are widened to f32.
#[inline(always)]
fn widened<const FMA: bool, const ADD: bool>(
    a: &[Line],
    stride: usize,
    b: &[Pairs],
    start: &Wide,
    out: &mut [Wide],
) {
    let mut first = 0;
    while first < out.len() {
        let rest = out.len() - first;
        let (a, out) = (&a[first..], &mut out[first..]);
        if rest >= 4 {
            widened_rows::<FMA, ADD, 4>(a, stride, b, start, out);
            first += 4;
        } else {
            widened_rows::<FMA, ADD, 1>(a, stride, b, start, out);
            first += 1;
        }
    }
}

#[inline(always)]
fn widened_rows<const FMA: bool, const ADD: bool, const R: usize>(
    a: &[Line],
    stride: usize,
    b: &[Pairs],
    start: &Wide,
    out: &mut [Wide],
) {
    const HALF: usize = 16;
    for half in [0, HALF] {
        let mut sums = [[0.0f32; HALF]; R];
        for (sum, out) in sums.iter_mut().zip(out.iter()) {
            sum.copy_from_slice(&start[half..][..HALF]);
            if ADD {
                sum.iter_mut().zip(&out[half..]).for_each(|(sum, &x)| *sum += x);
            }
        }
        for (k, pairs) in b.chunks_exact(HALF).enumerate() {
            let rows: [&Line; R] = std::array::from_fn(|r| &a[k * stride + r]);
            for (i, pair) in pairs.iter().enumerate() {
                let Some(pair) = pair[half..].first_chunk::<HALF>() else { break };
                for (sum, row) in sums.iter_mut().zip(rows) {
                    let (low, high) = widen(row.0[i]);
                    for (sum, &b) in sum.iter_mut().zip(pair) {
                        let (b_low, b_high) = widen(b);
                        *sum = mul_add::<FMA>(high, b_high, mul_add::<FMA>(low, b_low, *sum));
                    }
                }
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            out[half..][..HALF].copy_from_slice(&sum);
        }
    }
}

/// Both numbers of a pair.
#[inline(always)]
pub fn widen(pair: u32) -> (f32, f32) {
    (f32::from_bits(pair << 16), f32::from_bits(pair & 0xffff_0000))
}

/// The pair of two numbers, each rounded to the nearest bfloat16, ties to even.
#[inline(always)]
pub fn narrow(low: f32, high: f32) -> u32 {
    round(low) >> 16 | round(high) & 0xffff_0000
}

/// The bits of the nearest bfloat16, in the upper half.
#[inline(always)]
fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    // A carry out of a NaN's last bits must not make a number of it.
    if x.is_nan() { 0x7fc0_0000 } else { rounded }
}

/// A row of f32 as a line.
#[inline(always)]
pub fn narrow_row(row: &Wide) -> Line {
    // A closure would not be compiled for the instruction set of the caller.
    let (low, high) = row.split_at(16);
    let mut line = Line::default();
    for ((pair, &low), &high) in line.0.iter_mut().zip(low).zip(high) {
        *pair = narrow(low, high);
    }
    line
}

/// The numbers of a row as one, half by half: in a chain each step would wait for the one before.
#[inline(always)]
pub fn fold(row: &Wide, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut joined = *row;
    let mut length = COLUMNS / 2;
    while length > 0 {
        let (low, high) = joined.split_at_mut(length);
        for (low, &high) in low.iter_mut().zip(&high[..length]) {
            *low = join(*low, high);
        }
        length /= 2;
    }
    joined[0]
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m512bh, __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_add_ps, _mm512_dpbf16_ps, _mm512_loadu_ps,
        _mm512_loadu_si512, _mm512_set1_epi32, _mm512_storeu_ps,
    };

    use super::{Line, Pairs, Wide, widened};

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub fn avx512<const ADD: bool>(a: &[Line], stride: usize, b: &[Pairs], start: &Wide, out: &mut [Wide]) {
        widened::<true, ADD>(a, stride, b, start, out);
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn avx2<const ADD: bool>(a: &[Line], stride: usize, b: &[Pairs], start: &Wide, out: &mut [Wide]) {
        widened::<true, ADD>(a, stride, b, start, out);
    }

    /// Pairs of the second factor that are asked for ahead: the processor itself asks too late for a few rows, and stops at
    /// the end of a page.
    const AHEAD: usize = 32;

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn bf16<const R: usize, const ADD: bool>(
        a: &[Line],
        stride: usize,
        b: &[Pairs],
        start: &Wide,
        out: &mut [Wide],
    ) {
        // SAFETY: both types are 64 bytes of plain bits.
        let number = |bits: __m512i| unsafe { std::mem::transmute::<__m512i, __m512bh>(bits) };
        // SAFETY: a row is two registers long.
        let load =
            |row: &Wide| unsafe { [_mm512_loadu_ps(row.as_ptr()), _mm512_loadu_ps(row.as_ptr().add(16))] };
        let mut sums = [load(start); R];
        if ADD {
            for (sum, out) in sums.iter_mut().zip(out.iter()) {
                let [low, high] = load(out);
                *sum = [_mm512_add_ps(sum[0], low), _mm512_add_ps(sum[1], high)];
            }
        }
        for (k, pairs) in b.chunks_exact(16).enumerate() {
            let rows: [&Line; R] = std::array::from_fn(|r| &a[k * stride + r]);
            for (i, pair) in pairs.iter().enumerate() {
                let pair = pair.as_ptr();
                for half in [0, 16] {
                    _mm_prefetch::<_MM_HINT_T0>(pair.wrapping_add(AHEAD * super::COLUMNS + half).cast());
                }
                // SAFETY: a pair row is two registers long.
                let b = unsafe {
                    [_mm512_loadu_si512(pair.cast()), _mm512_loadu_si512(pair.add(16).cast())].map(number)
                };
                for (sum, row) in sums.iter_mut().zip(rows) {
                    let a = number(_mm512_set1_epi32(row.0[i].cast_signed()));
                    sum[0] = _mm512_dpbf16_ps(sum[0], a, b[0]);
                    sum[1] = _mm512_dpbf16_ps(sum[1], a, b[1]);
                }
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            // SAFETY: a row of `out` is two registers long.
            unsafe {
                _mm512_storeu_ps(out.as_mut_ptr(), sum[0]);
                _mm512_storeu_ps(out.as_mut_ptr().add(16), sum[1]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_nearest_even_and_keeps_what_is_no_number() {
        for x in [0.0, -0.0, 1.0, 1.003_906_3, 1.011_718_8, -3.3, 1e30, f32::INFINITY, 1e-40] {
            let (low, high) = widen(narrow(x, -x));
            assert_eq!(low, half::bf16::from_f32(x).to_f32(), "{x}");
            assert_eq!(high, half::bf16::from_f32(-x).to_f32(), "{x}");
        }
        let nan = f32::from_bits(0xffff_ffff);
        assert!(widen(narrow(nan, 1.0)).0.is_nan() && widen(narrow(1.0, nan)).1.is_nan());
    }

    #[test]
    fn agrees_with_the_oracle_at_every_level() {
        let value = |i: usize, m: usize| ((i * 7919) % m) as f32 / m as f32 - 0.5;
        for lines in [1, 3, 12] {
            for rows in 1..=ROWS {
                let stride = rows + 2;
                let row = |k: usize, r: usize| -> Wide {
                    std::array::from_fn(|i| value((k * stride + r) * 32 + i, 1009))
                };
                let a: Vec<Line> =
                    (0..lines * stride).map(|i| narrow_row(&row(i / stride, i % stride))).collect();
                let b: Vec<Pairs> = (0..lines * 16)
                    .map(|k| {
                        std::array::from_fn(|c| narrow(value(k * 64 + c, 613), value(k * 64 + 32 + c, 613)))
                    })
                    .collect();
                for level in Level::available() {
                    let mut out = [[f32::NAN; COLUMNS]; ROWS];
                    let start: Wide = std::array::from_fn(|c| c as f32 * 0.01);
                    multiply(level, &a, stride, &b, &start, &mut out[..rows]);
                    let mut twice = out;
                    multiply_add(level, &a, stride, &b, &start, &mut twice[..rows]);
                    for r in 0..rows {
                        for c in 0..COLUMNS {
                            let want: f64 = (0..lines * 16)
                                .map(|k| {
                                    let (x, y) = (widen(a[k / 16 * stride + r].0[k % 16]), widen(b[k][c]));
                                    f64::from(x.0) * f64::from(y.0) + f64::from(x.1) * f64::from(y.1)
                                })
                                .sum::<f64>()
                                + f64::from(start[c]);
                            assert!((f64::from(out[r][c]) - want).abs() < 1e-5, "{level:?} {rows}×{lines}");
                            assert!((f64::from(twice[r][c]) - 2.0 * want).abs() < 2e-5, "{level:?}");
                        }
                    }
                    // Rows do not depend on their neighbours.
                    let mut alone = [[0.0; COLUMNS]];
                    multiply(level, &a[rows - 1..], stride, &b, &start, &mut alone);
                    assert_eq!(alone[0], out[rows - 1]);
                }
            }
        }
    }
}
