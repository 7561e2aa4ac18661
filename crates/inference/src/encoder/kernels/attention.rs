//! Scaled dot-product attention of one head over one sequence (Vaswani et al. 2017).

use super::product::{COLUMNS, Line, Pairs, ROWS, Wide, fold, multiply, narrow_row};
use super::{Level, dispatch, mul_add};

const ZERO: Wide = [0.0; COLUMNS];

/// Buffers of [`attend`], kept between calls.
#[derive(Default)]
pub struct Scratch {
    /// Keys, 32 to a panel.
    keys: Vec<Pairs>,
    /// Values, 32 elements to a panel.
    values: Vec<Pairs>,
    /// Scores of one block of rows: for each panel of keys, [`ROWS`] rows.
    scores: Vec<Wide>,
    /// Their exponentials.
    weights: Vec<Line>,
}

/// Queries, keys and values of one head over all rows of a batch. Each has the panels of the head, and in each
/// panel one line per row.
pub struct Head<'a> {
    /// Queries.
    pub queries: &'a [Line],
    /// Keys.
    pub keys: &'a [Line],
    /// Values.
    pub values: &'a [Line],
    /// Rows of the batch.
    pub rows: usize,
    /// 1/√(elements of a head).
    pub scale: f32,
}

/// softmax(q·kᵀ·scale)·v for `length` rows from `first` on, into the same rows of `out`, laid out as `head.queries`.
pub fn attend(
    level: Level,
    head: &Head<'_>,
    first: usize,
    length: usize,
    out: &mut [Line],
    scratch: &mut Scratch,
) {
    let panels = head.queries.len() / head.rows;
    let blocks = length.div_ceil(COLUMNS);
    pack_keys(level, head, first, length, &mut scratch.keys);
    pack_values(level, head, first, length, &mut scratch.values);
    scratch.scores.resize(blocks * ROWS, [0.0; COLUMNS]);
    scratch.weights.resize(blocks * ROWS, Line::default());
    let Scratch { keys, values, scores, weights } = scratch;
    for_blocks(length, |start, count| {
        let at = first + start;
        for (keys, scores) in keys.chunks_exact(panels * 16).zip(scores.chunks_exact_mut(ROWS)) {
            multiply(level, &head.queries[at..], head.rows, keys, &ZERO, &mut scores[..count]);
        }
        let mut sums = [0.0; ROWS];
        exponentiate(level, scores, length, head.scale, &mut sums[..count], weights);
        for (panel, values) in values.chunks_exact(blocks * 16).enumerate() {
            let mut context = [ZERO; ROWS];
            multiply(level, weights, ROWS, values, &ZERO, &mut context[..count]);
            let out = &mut out[panel * head.rows + at..][..count];
            divide(level, &mut context[..count], &sums[..count], out);
        }
    });
}

/// Calls `work(first, count)` for blocks of at most [`ROWS`] rows, all about as long.
pub fn for_blocks(rows: usize, mut work: impl FnMut(usize, usize)) {
    let blocks = rows.div_ceil(ROWS);
    for i in 0..blocks {
        let first = rows * i / blocks;
        work(first, rows * (i + 1) / blocks - first);
    }
}

#[inline(always)]
fn pack_keys_body<const FMA: bool>(head: &Head<'_>, first: usize, length: usize, out: &mut Vec<Pairs>) {
    let panels = head.queries.len() / head.rows;
    out.clear();
    for block in (0..length).step_by(COLUMNS) {
        let count = COLUMNS.min(length - block);
        for panel in head.keys.chunks_exact(head.rows) {
            let lines = &panel[first + block..][..count];
            for i in 0..16 {
                let mut pairs = [0; COLUMNS];
                for (pair, line) in pairs.iter_mut().zip(lines) {
                    *pair = line.0[i];
                }
                out.push(pairs);
            }
        }
    }
    debug_assert_eq!(out.len(), length.div_ceil(COLUMNS) * panels * 16);
}

#[inline(always)]
fn pack_values_body<const FMA: bool>(head: &Head<'_>, first: usize, length: usize, out: &mut Vec<Pairs>) {
    const ZERO: Line = Line([0; 16]);
    out.clear();
    for panel in head.values.chunks_exact(head.rows) {
        let lines = &panel[first..][..length];
        for block in (0..length).step_by(COLUMNS) {
            for i in block..block + 16 {
                let low = lines.get(i).unwrap_or(&ZERO);
                let high = lines.get(i + 16).unwrap_or(&ZERO);
                let mut pairs = [0; COLUMNS];
                let (left, right) = pairs.split_at_mut(16);
                for c in 0..16 {
                    left[c] = low.0[c] & 0xffff | high.0[c] << 16;
                    right[c] = low.0[c] >> 16 | high.0[c] & 0xffff_0000;
                }
                out.push(pairs);
            }
        }
    }
}

/// The polynomial of [`exp2`], the highest power first.
pub const EXP2: [f32; 4] = [0.055_171_45, 0.242_610_86, 0.693_260_97, 0.999_928_1];

/// 2^x for x ≤ 0 with a relative error below 1e-4, a twentieth of what rounding to bfloat16 may lose; 0 or less than
/// 2e-38 below -126. No branches.
///
/// x = n + f with |f| ≤ 1/2: 2^f is a cubic polynomial, fitted for the least greatest relative error, and 2^n is built
/// from its exponent bits.
#[inline(always)]
fn exp2<const FMA: bool>(x: f32) -> f32 {
    // Adding and subtracting 1.5·2^23 rounds to the nearest integer, whose low bits are then those of the sum.
    const ROUND: f32 = 12_582_912.0;
    // Not `max`, which drops NaN.
    let x = if x < -126.0 { -126.0 } else { x };
    let shifted = x + ROUND;
    let f = x - (shifted - ROUND);
    let [mut p, rest @ ..] = EXP2;
    for c in rest {
        p = mul_add::<FMA>(p, f, c);
    }
    p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23))
}

/// Weights are e^((score - greatest)·scale), not yet divided by their sums.
#[inline(always)]
fn exponentiate_body<const FMA: bool>(
    scores: &mut [Wide],
    length: usize,
    scale: f32,
    sums: &mut [f32],
    weights: &mut [Line],
) {
    let last = length.div_ceil(COLUMNS) - 1;
    let scale = scale * std::f32::consts::LOG2_E;
    for (r, sum) in sums.iter_mut().enumerate() {
        for pad in &mut scores[last * ROWS + r][length - last * COLUMNS..] {
            *pad = f32::NEG_INFINITY;
        }
        let mut top = [f32::NEG_INFINITY; COLUMNS];
        for block in 0..=last {
            for (top, &score) in top.iter_mut().zip(&scores[block * ROWS + r]) {
                *top = if score > *top { score } else { *top };
            }
        }
        let top = fold(&top, |a, b| if a > b { a } else { b }) * scale;
        let mut sums = ZERO;
        for block in 0..=last {
            let row = &mut scores[block * ROWS + r];
            for (sum, score) in sums.iter_mut().zip(row.iter_mut()) {
                *score = exp2::<FMA>(mul_add::<FMA>(*score, scale, -top));
                *sum += *score;
            }
            weights[block * ROWS + r] = narrow_row(row);
        }
        *sum = fold(&sums, |a, b| a + b);
    }
}

#[inline(always)]
fn divide_body<const FMA: bool>(context: &mut [Wide], sums: &[f32], out: &mut [Line]) {
    for ((row, sum), out) in context.iter_mut().zip(sums).zip(out) {
        let factor = 1.0 / sum;
        for x in row.iter_mut() {
            *x *= factor;
        }
        *out = narrow_row(row);
    }
}

dispatch! {
    /// Keys of one sequence as the second factor of a product, one key a column.
    pack_keys = pack_keys_body | super::avx512::pack_keys, (head: &Head<'_>, first: usize, length: usize, out: &mut Vec<Pairs>)
}
dispatch! {
    /// Values of one sequence as the second factor of a product, one element a column.
    pack_values = pack_values_body(head: &Head<'_>, first: usize, length: usize, out: &mut Vec<Pairs>)
}
dispatch! {
    /// Numerators and denominators of softmax for a block of rows.
    exponentiate = exponentiate_body | super::avx512::exponentiate, (
        scores: &mut [Wide], length: usize, scale: f32, sums: &mut [f32], weights: &mut [Line]
    )
}
dispatch! {
    /// Each row over its sum, as lines.
    divide = divide_body(context: &mut [Wide], sums: &[f32], out: &mut [Line])
}

#[cfg(test)]
mod tests {
    use super::super::product::widen;
    use super::*;

    #[test]
    fn exp2_is_near_the_exact_one() {
        for x in (0..=126_000).map(|i| i as f32 * -1e-3) {
            let want = f64::from(x).exp2();
            for got in [exp2::<false>(x), exp2::<true>(x)] {
                assert!((f64::from(got) / want - 1.0).abs() < 1e-4, "2^{x} = {got}, not {want}");
            }
        }
        assert!(exp2::<false>(f32::NEG_INFINITY) < 2e-38 && exp2::<true>(-1e30) < 2e-38);
        assert!(exp2::<false>(f32::NAN).is_nan());
    }

    #[test]
    fn agrees_with_the_oracle_at_every_level() {
        let mut scratch = Scratch::default();
        let value = |i: usize, m: usize| ((i * 7919) % m) as f32 / m as f32 - 0.5;
        for panels in [1, 2] {
            for length in [1, 2, 5, 12, 13, 16, 17, 31, 32, 33, 100] {
                let (first, rows) = (3, length + 5);
                let lines = |m: usize| -> Vec<Line> {
                    let row = |i: usize| std::array::from_fn(|c| 4.0 * value(i * 32 + c, m));
                    (0..panels * rows).map(|i| narrow_row(&row(i))).collect()
                };
                let (q, k, v) = (lines(1009), lines(613), lines(389));
                let at = |x: &[Line], r: usize, i: usize| {
                    let (low, high) = widen(x[i / 32 * rows + first + r].0[i % 16]);
                    f64::from(if i % 32 < 16 { low } else { high })
                };
                let scale = 0.2;
                let head = Head { queries: &q, keys: &k, values: &v, rows, scale };
                for level in Level::available() {
                    let mut out = vec![Line::default(); q.len()];
                    attend(level, &head, first, length, &mut out, &mut scratch);
                    for r in 0..length {
                        let weights: Vec<f64> = (0..length)
                            .map(|j| (0..panels * 32).map(|i| at(&q, r, i) * at(&k, j, i)).sum::<f64>())
                            .map(|s| (s * f64::from(scale)).exp())
                            .collect();
                        let sum: f64 = weights.iter().sum();
                        for i in 0..panels * 32 {
                            let want: f64 = (0..length).map(|j| weights[j] / sum * at(&v, j, i)).sum();
                            let got = at(&out, r, i);
                            assert!((got - want).abs() < 0.015, "{level:?} {length} tokens: {got}, {want}");
                        }
                    }
                    assert_eq!((out[0], out[rows - 1]), (Line::default(), Line::default()));
                }
            }
        }
    }
}
