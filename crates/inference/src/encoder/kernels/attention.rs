//! Scaled dot-product attention of one head over one sequence (Vaswani et al. 2017).

use super::math::softmax_body;
use super::{dispatch, mul_add};

/// Query rows that are computed together.
const ROWS: usize = 6;
/// Columns that are computed together.
const COLUMNS: usize = 16;

/// Buffers of [`attend_head`], kept between calls.
#[derive(Default)]
pub struct Scratch {
    /// Keys with one row per element: head_dim × padded length.
    keys: Vec<f32>,
    /// Values: length × padded head_dim.
    values: Vec<f32>,
    /// Scaled queries of one block: ROWS × head_dim.
    queries: Vec<f32>,
    /// Scores, then probabilities of one block: ROWS × padded length.
    scores: Vec<f32>,
    /// What one block attends to: ROWS × padded head_dim.
    context: Vec<f32>,
}

/// c = a·b: `a` is [`ROWS`] rows of `k`, `a_stride` apart; `b` is `k` rows and `c` [`ROWS`] rows of `columns`, a
/// multiple of [`COLUMNS`].
#[inline(always)]
fn multiply<const FMA: bool>(a: &[f32], a_stride: usize, k: usize, b: &[f32], columns: usize, c: &mut [f32]) {
    let rows: [&[f32]; ROWS] = std::array::from_fn(|r| &a[r * a_stride..][..k]);
    for column in (0..columns).step_by(COLUMNS) {
        let mut sums = [[0.0f32; COLUMNS]; ROWS];
        for (i, b) in b.chunks_exact(columns).take(k).enumerate() {
            let Some(b) = b[column..].first_chunk::<COLUMNS>() else { break };
            for (sum, row) in sums.iter_mut().zip(&rows) {
                let a = row[i];
                for (sum, &b) in sum.iter_mut().zip(b) {
                    *sum = mul_add::<FMA>(a, b, *sum);
                }
            }
        }
        for (r, sum) in sums.iter().enumerate() {
            c[r * columns + column..][..COLUMNS].copy_from_slice(sum);
        }
    }
}

#[inline(always)]
fn attend_head_body<const FMA: bool>(
    qkv: &[f32],
    bias: &[f32],
    head: usize,
    head_dim: usize,
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    let stride = bias.len();
    let first = head * head_dim;
    let (key_first, value_first) = (stride / 3 + first, 2 * (stride / 3) + first);
    let length = qkv.len() / stride;
    let columns = length.next_multiple_of(COLUMNS);
    let padded_dim = head_dim.next_multiple_of(COLUMNS);
    let Scratch { keys, values, queries, scores, context } = scratch;
    // Whatever stands in the padding is never read as a result.
    keys.resize(head_dim * columns, 0.0);
    values.resize(length * padded_dim, 0.0);
    queries.resize(ROWS * head_dim, 0.0);
    scores.resize(ROWS * columns, 0.0);
    context.resize(ROWS * padded_dim, 0.0);

    let key_bias = &bias[key_first..][..head_dim];
    let value_bias = &bias[value_first..][..head_dim];
    for (j, (row, to)) in qkv.chunks_exact(stride).zip(values.chunks_exact_mut(padded_dim)).enumerate() {
        for (i, (&k, &b)) in row[key_first..].iter().zip(key_bias).enumerate() {
            keys[i * columns + j] = k + b;
        }
        for ((to, &v), &b) in to.iter_mut().zip(&row[value_first..]).zip(value_bias) {
            *to = v + b;
        }
    }

    let scale = 1.0 / (head_dim as f32).sqrt();
    let query_bias = &bias[first..][..head_dim];
    for (rows, out) in qkv.chunks(ROWS * stride).zip(out.chunks_mut(ROWS * head_dim)) {
        for (row, to) in rows.chunks_exact(stride).zip(queries.chunks_exact_mut(head_dim)) {
            for ((to, &q), &b) in to.iter_mut().zip(&row[first..]).zip(query_bias) {
                *to = (q + b) * scale;
            }
        }
        multiply::<FMA>(queries, head_dim, head_dim, keys, columns, scores);
        for row in scores.chunks_exact_mut(columns) {
            softmax_body::<FMA>(&mut row[..length]);
        }
        multiply::<FMA>(scores, columns, length, values, padded_dim, context);
        for (out, row) in out.chunks_exact_mut(head_dim).zip(context.chunks_exact(padded_dim)) {
            out.copy_from_slice(&row[..head_dim]);
        }
    }
}

dispatch! {
    /// out = softmax(q·kᵀ/√head_dim)·v for head number `head` of one sequence.
    ///
    /// `qkv` has one row per token: queries, keys and values of all heads, each a third of the row and without
    /// their `bias`, which is as long as a row. `out` has one row of `head_dim` per token.
    attend_head = attend_head_body(
        qkv: &[f32], bias: &[f32], head: usize, head_dim: usize, out: &mut [f32], scratch: &mut Scratch
    )
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn agrees_with_the_oracle_at_every_level() {
        let mut scratch = Scratch::default();
        for (heads, head_dim) in [(1, 1), (4, 12), (3, 32), (2, 64), (1, 80)] {
            for length in [1, 2, 5, 6, 7, 12, 16, 17, 33, 100] {
                let stride = 3 * heads * head_dim;
                let value = |i: usize, m: usize| ((i * 7919) % m) as f32 / m as f32 - 0.5;
                let qkv: Vec<f32> = (0..length * stride).map(|i| 2.0 * value(i, 1009)).collect();
                let bias: Vec<f32> = (0..stride).map(|i| value(i, 37)).collect();
                let at = |token: usize, which: usize, head: usize, i: usize| {
                    let column = which * heads * head_dim + head * head_dim + i;
                    f64::from(qkv[token * stride + column]) + f64::from(bias[column])
                };
                for head in 0..heads {
                    let want = |q: usize| -> Vec<f64> {
                        let scores: Vec<f64> = (0..length)
                            .map(|k| {
                                (0..head_dim).map(|i| at(q, 0, head, i) * at(k, 1, head, i)).sum::<f64>()
                            })
                            .map(|s| (s / (head_dim as f64).sqrt()).exp())
                            .collect();
                        let sum: f64 = scores.iter().sum();
                        (0..head_dim)
                            .map(|i| (0..length).map(|k| scores[k] / sum * at(k, 2, head, i)).sum())
                            .collect()
                    };
                    for level in Level::available() {
                        let mut got = vec![f32::NAN; length * head_dim];
                        attend_head(level, &qkv, &bias, head, head_dim, &mut got, &mut scratch);
                        for (q, row) in got.chunks(head_dim).enumerate() {
                            for (got, want) in row.iter().zip(want(q)) {
                                let difference = (f64::from(*got) - want).abs();
                                assert!(
                                    difference < 2e-6,
                                    "{level:?}, {heads}×{head_dim}, {length} tokens: {got}, {want}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}
