//! Causal attention of grouped query heads over the cache, in blocks with a running maximum (Milakov and
//! Gimelshein 2018), so that no row of scores is ever whole in memory.

use super::cache::Head;
use super::isa::{Isa, dispatch};
use super::lanes::{LANES, Lanes, exp, multiply_tile};

#[cfg(target_arch = "x86_64")]
mod bf16;

/// Positions of a block. Blocks begin at multiples of it, so a token's result does not depend on how many tokens
/// are computed together.
const BLOCK: usize = 64;
const PANELS: usize = BLOCK / LANES;
/// Rows that go through the innermost loop together.
const ROWS: usize = 4;

/// Some consecutive tokens and the query heads that share one key and value head.
pub struct Task<'a> {
    /// The first token's queries on; already divided by the square root of the head size.
    pub queries: &'a [f32],
    /// From one token's queries to the next one's.
    pub stride: usize,
    /// Query heads.
    pub group: usize,
    /// Elements of a head.
    pub size: usize,
    /// Position of the first token.
    pub position: usize,
    /// Keys and values; those of the tokens are stored already.
    pub head: &'a Head,
    /// `[token][query head][element]`.
    pub out: &'a mut [f32],
}

/// Computes `task.out`.
pub fn attend(isa: Isa, task: &mut Task<'_>) {
    #[cfg(target_arch = "x86_64")]
    if isa.bf16() && bf16::fits(task) {
        // SAFETY: an `Isa` says so only where the processor has these instructions.
        unsafe { bf16::run(task) };
        return;
    }
    attend_floats(isa, task);
}

dispatch! {
    fn attend_floats(task: &mut Task<'_>) = attend_body
}

#[inline(always)]
fn attend_body<const FMA: bool>(task: &mut Task<'_>) {
    let Task { size, group, .. } = *task;
    let tokens = task.out.len() / (group * size);
    let rows = tokens * group;
    let padded_rows = rows.next_multiple_of(ROWS);
    let columns = size.div_ceil(LANES);
    let mut queries = vec![0.0; padded_rows * size];
    for (token, queries) in queries.chunks_mut(group * size).take(tokens).enumerate() {
        queries.copy_from_slice(&task.queries[token * task.stride..][..group * size]);
    }
    let mut keys = vec![Lanes::ZERO; PANELS * size];
    let mut values = vec![Lanes::ZERO; BLOCK * columns];
    let mut scores = vec![0.0; padded_rows * BLOCK];
    let mut sums = vec![Lanes::ZERO; padded_rows * columns];
    let mut maxima = vec![f32::NEG_INFINITY; rows];
    let mut totals = vec![0.0; rows];
    let end = task.position + tokens;
    for start in (0..end).step_by(BLOCK) {
        let panels = (end - start).min(BLOCK).div_ceil(LANES);
        let positions = panels * LANES;
        let (keys, values) = (&mut keys[..panels * size], &mut values[..positions * columns]);
        task.head.keys(start, keys);
        task.head.values(start, values);
        for (queries, scores) in queries.chunks_exact(ROWS * size).zip(scores.chunks_exact_mut(ROWS * BLOCK))
        {
            let queries = std::array::from_fn(|r| &queries[r * size..][..size]);
            if panels == PANELS {
                score::<FMA, PANELS>(queries, keys, scores);
            } else {
                for panel in 0..panels {
                    score::<FMA, 1>(queries, &keys[panel * size..], &mut scores[panel * LANES..]);
                }
            }
        }
        for row in 0..rows {
            let limit = task.position + row / group + 1;
            let scores = &mut scores[row * BLOCK..][..positions];
            let seen = limit.saturating_sub(start).min(positions);
            scores[seen..].fill(f32::NEG_INFINITY);
            if seen == 0 {
                scores.fill(0.0);
                continue;
            }
            let old = maxima[row];
            let new = scores.iter().fold(old, |a, &b| a.max(b));
            let kept = exp::<FMA>(old - new);
            let mut total = [0.0; LANES];
            for scores in scores.chunks_exact_mut(LANES) {
                for lane in 0..LANES {
                    scores[lane] = exp::<FMA>(scores[lane] - new);
                    total[lane] += scores[lane];
                }
            }
            maxima[row] = new;
            totals[row] = totals[row] * kept + total.iter().sum::<f32>();
            if kept != 1.0 {
                for lanes in &mut sums[row * columns..][..columns] {
                    lanes.0.iter_mut().for_each(|x| *x *= kept);
                }
            }
        }
        for (scores, sums) in scores.chunks_exact(ROWS * BLOCK).zip(sums.chunks_exact_mut(ROWS * columns)) {
            let scores = std::array::from_fn(|r| &scores[r * BLOCK..][..positions]);
            let wide = columns / PANELS * PANELS;
            for column in (0..wide).step_by(PANELS) {
                accumulate::<FMA, PANELS>(scores, values, (column, columns), sums);
            }
            for column in wide..columns {
                accumulate::<FMA, 1>(scores, values, (column, columns), sums);
            }
        }
    }
    for ((out, sums), total) in task.out.chunks_exact_mut(size).zip(sums.chunks_exact(columns)).zip(&totals) {
        for (out, sums) in out.chunks_mut(LANES).zip(sums) {
            for (out, sum) in out.iter_mut().zip(&sums.0) {
                *out = sum / total;
            }
        }
    }
}

/// Products of the queries with the keys of `C` panels, into rows of [`BLOCK`] scores.
#[inline(always)]
fn score<const FMA: bool, const C: usize>(queries: [&[f32]; ROWS], keys: &[Lanes], scores: &mut [f32]) {
    let size = queries[0].len();
    let panels: [&[Lanes]; C] = std::array::from_fn(|c| &keys[c * size..][..size]);
    let mut sums = [[Lanes::ZERO; C]; ROWS];
    multiply_tile::<FMA, ROWS, C>(queries, |k, c| &panels[c][k], &mut sums);
    for (r, sums) in sums.iter().enumerate() {
        for (c, sums) in sums.iter().enumerate() {
            scores[r * BLOCK + c * LANES..][..LANES].copy_from_slice(&sums.0);
        }
    }
}

/// Adds the values, weighted with the scores, to `C` of the `columns` lanes of each row from `column` on.
#[inline(always)]
fn accumulate<const FMA: bool, const C: usize>(
    scores: [&[f32]; ROWS],
    values: &[Lanes],
    (column, columns): (usize, usize),
    sums: &mut [Lanes],
) {
    let mut acc = std::array::from_fn(|r| std::array::from_fn(|c| sums[r * columns + column + c]));
    multiply_tile::<FMA, ROWS, C>(scores, |k, c| &values[k * columns + column + c], &mut acc);
    for (r, acc) in acc.iter().enumerate() {
        sums[r * columns + column..][..C].copy_from_slice(acc);
    }
}

#[cfg(test)]
mod tests {
    use super::super::cache::Cache;
    use super::*;

    #[test]
    fn attention_is_the_weighted_mean_of_the_values() {
        for (size, group, count) in [(12, 2, 5), (16, 1, 16), (64, 7, 150), (80, 3, 130)] {
            let value = |i: usize| ((i * 7919 % 1009) as f32 - 504.0) / 300.0;
            for full in [true, false] {
                let mut cache = Cache::new(1, 1, size, full);
                cache.reserve(count).unwrap();
                let row = |kind: usize, p: usize| -> Vec<f32> {
                    (0..size).map(|i| value(kind * 31 + p * size + i)).collect()
                };
                for p in 0..count {
                    cache.layers().next().unwrap()[0].write(p, &row(1, p), &row(2, p));
                }
                let tokens = count.min(9);
                let first = count - tokens;
                let queries: Vec<f32> = (0..tokens * group * size).map(|i| value(i * 3) / 8.0).collect();
                for isa in Isa::available() {
                    let mut out = vec![0.0; tokens * group * size];
                    let mut task = Task {
                        queries: &queries,
                        stride: group * size,
                        group,
                        size,
                        position: first,
                        head: &cache.layers().next().unwrap()[0],
                        out: &mut out,
                    };
                    attend(isa, &mut task);
                    for (r, out) in out.chunks_exact(size).enumerate() {
                        let q = &queries[r * size..][..size];
                        let dot = |k: &[f32]| q.iter().zip(k).map(|(a, b)| f64::from(a * b)).sum::<f64>();
                        let limit = first + r / group + 1;
                        let p: Vec<f64> = (0..limit).map(|p| dot(&row(1, p)).exp()).collect();
                        let total: f64 = p.iter().sum();
                        for (i, out) in out.iter().enumerate() {
                            let mean: f64 = (0..limit).map(|j| p[j] / total * f64::from(row(2, j)[i])).sum();
                            let tolerance = if full { 1e-5 } else { 2e-2 };
                            assert!((f64::from(*out) - mean).abs() < tolerance, "{isa:?} {size} {r} {i}");
                        }
                    }
                }
            }
        }
    }
}
