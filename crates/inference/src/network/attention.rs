//! Attention (Vaswani et al. 2017): each token's mean of values, by how much its query is like their keys.

use std::ops::Range;

use super::math::softmax;
use super::weight::dot;
use super::{Rows, Run};
use crate::Result;

/// Queries between two checks.
const BLOCK: usize = 32;

/// Which keys a query sees, and how scores become shares.
pub struct Attention<'a> {
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of the keys and values; each serves `heads / key_heads` of the queries'.
    pub key_heads: usize,
    /// On the products of queries and keys.
    pub scale: f32,
    /// The keys that query `i` sees.
    pub sees: &'a (dyn Fn(usize) -> Range<usize> + Sync),
    /// Added to the score of a head's query and key.
    pub bias: Option<&'a (dyn Fn(usize, usize, usize) -> f32 + Sync)>,
}

/// Rows as wide as `queries` from `keys` and `values`, which have as many rows as each other.
///
/// # Errors
/// What the check says.
pub fn attend(
    form: &Attention<'_>,
    queries: &Rows,
    keys: &Rows,
    values: &Rows,
    run: &mut Run<'_>,
) -> Result<Rows> {
    let (tokens, isa) = (queries.count(), run.isa);
    let head = queries.width / form.heads;
    let share = form.heads / form.key_heads;
    // Head after head; in each, query after query, in whole blocks.
    let blocks = tokens.div_ceil(BLOCK);
    let mut out = vec![0.0; form.heads * blocks * BLOCK * head];
    let work = |scores: &mut Vec<f32>, i: usize, out: &mut [f32], check: crate::Check<'_>| {
        check()?;
        let (h, first) = (i / blocks, i % blocks * BLOCK);
        let of_head = h / share * head;
        for (q, out) in (first..tokens).zip(out.chunks_exact_mut(head)) {
            let query = &queries.row(q)[h * head..][..head];
            let seen = (form.sees)(q);
            scores.clear();
            scores.extend(seen.clone().map(|k| {
                let bias = form.bias.map_or(0.0, |bias| bias(h, q, k));
                dot(isa, query, &keys.row(k)[of_head..][..head]) * form.scale + bias
            }));
            softmax(isa, scores);
            for (k, &share) in seen.zip(scores.iter()) {
                let value = &values.row(k)[of_head..][..head];
                out.iter_mut().zip(value).for_each(|(out, v)| *out += share * v);
            }
        }
        Ok(())
    };
    run.pool.for_each(&mut out, BLOCK * head, &mut *run.check, Vec::new, work)?;
    let mut rows = Rows::zeros(tokens, queries.width);
    for (q, row) in rows.rows_mut().enumerate() {
        for (h, part) in row.chunks_exact_mut(head).enumerate() {
            part.copy_from_slice(&out[(h * blocks * BLOCK + q) * head..][..head]);
        }
    }
    Ok(rows)
}
