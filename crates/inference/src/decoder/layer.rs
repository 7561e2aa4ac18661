//! One layer: what the tokens mean for each other (attention), and for themselves (the feed-forward part).

use super::activations::Activations;
use super::attention::{Task, attend};
use super::cache::Head;
use super::isa::{Isa, dispatch};
use super::lanes::rms_norm;
use super::matrix::{Finish, Matrix, form, multiply, multiply_gated};
use super::parallel::{self, Grid};
use super::shape::Shape;
use crate::prepared::View;
use crate::{Pool, Result};

/// Tokens of one attention job; fixed, so that results do not depend on the number of threads.
const QUERY_TOKENS: usize = 8;

/// Weights of a layer.
pub struct Layer {
    /// Of the norm before the attention.
    pub attention_norm: View<f32>,
    /// Queries, keys and values.
    pub inputs: [Matrix; 3],
    /// Added to them.
    pub biases: [View<f32>; 3],
    /// From the attention's results to the residual stream.
    pub attention_out: Matrix,
    /// Of the norm before the feed-forward part.
    pub inner_norm: View<f32>,
    /// What decides how much of `up` passes.
    pub gate: Matrix,
    /// Into the feed-forward part.
    pub up: Matrix,
    /// Back into the residual stream.
    pub down: Matrix,
}

/// What all layers share while some tokens go through them.
pub struct Step<'a> {
    /// Sizes of the model.
    pub shape: &'a Shape,
    /// Of the kernels.
    pub isa: Isa,
    /// Threads.
    pub pool: &'a Pool,
    /// Of the first token.
    pub position: usize,
    /// Cosine and sine of each token and pair of elements.
    pub rotation: &'a [(f32, f32)],
}

/// Results between the parts of a layer, kept to be used again.
#[derive(Default)]
pub struct Buffers {
    /// `[token]`: queries, keys and values.
    inputs: Vec<f32>,
    /// `[key head][token][query head of the group][element]`.
    attention: Vec<f32>,
    /// Within the feed-forward part.
    pub inner: Activations,
}

impl Layer {
    /// Stores keys and values of the tokens in `heads`, and changes `x`, their residual stream, for the last `wanted`
    /// of them.
    ///
    /// # Errors
    /// As [`parallel::for_each`].
    pub fn run(
        &self,
        step: &Step<'_>,
        heads: &mut [Head],
        x: &mut [f32],
        wanted: usize,
        activations: &mut Activations,
        buffers: &mut Buffers,
    ) -> Result<()> {
        let &Step { shape: &Shape { width, inner, epsilon, .. }, isa, pool, .. } = step;
        let tokens = x.len() / width;
        let inputs = self.inputs.each_ref();
        activations.fill(isa, pool, (tokens, width), form(&inputs), x, |_, x, row| {
            rms_norm(isa, x, &self.attention_norm, epsilon, row);
        })?;
        self.store(step, heads, activations, &mut buffers.inputs)?;
        if wanted == 0 {
            return Ok(());
        }
        let (x, tokens) = (&mut x[(tokens - wanted) * width..], wanted);
        self.attend(step, heads, (activations, tokens), buffers)?;
        multiply(isa, pool, [&self.attention_out], activations, Grid::new(x, width), Finish::Add)?;

        let gated = [&self.gate, &self.up];
        activations.fill(isa, pool, (tokens, width), form(&gated), x, |_, x, row| {
            rms_norm(isa, x, &self.inner_norm, epsilon, row);
        })?;
        let part = buffers.inner.start((tokens, inner), form(&[&self.down]));
        multiply_gated(isa, pool, gated, activations, part)?;
        multiply(isa, pool, [&self.down], &buffers.inner, Grid::new(x, width), Finish::Add)
    }

    /// Queries, keys and values of the normalised tokens `x`: all of them in `inputs`, keys and values in `heads` too.
    fn store(
        &self,
        step: &Step<'_>,
        heads: &mut [Head],
        x: &Activations,
        inputs: &mut Vec<f32>,
    ) -> Result<()> {
        let &Step { shape, isa, pool, position, rotation } = step;
        let (size, tokens) = (shape.head, x.tokens);
        let [query_width, key_width, stride] = widths(shape);
        inputs.resize(tokens * stride, 0.0);
        multiply(isa, pool, self.inputs.each_ref(), x, Grid::new(inputs, stride), Finish::Put)?;

        let each = parallel::share(tokens, pool.threads(), QUERY_TOKENS);
        let mut jobs: Vec<_> =
            inputs.chunks_mut(each * stride).zip(rotation.chunks(each * size / 2)).collect();
        parallel::for_each(pool, &mut jobs, |(rows, rotation)| {
            let [query, key, value] = self.biases.each_ref().map(|bias| &**bias);
            for (row, turns) in rows.chunks_exact_mut(stride).zip(rotation.chunks_exact(size / 2)) {
                let (queries, rest) = row.split_at_mut(query_width);
                let (keys, values) = rest.split_at_mut(key_width);
                turn(isa, queries, query, turns, 1.0 / (size as f32).sqrt());
                turn(isa, keys, key, turns, 1.0);
                values.iter_mut().zip(value).for_each(|(x, bias)| *x += bias);
            }
        })?;
        let mut jobs: Vec<_> = heads.iter_mut().enumerate().collect();
        let write = |(h, head): &mut (usize, &mut Head)| {
            for (token, row) in inputs.chunks_exact(stride).enumerate() {
                let [key, value] =
                    [query_width, query_width + key_width].map(|at| &row[at + *h * size..][..size]);
                head.write(position + token, key, value);
            }
        };
        if tokens < QUERY_TOKENS {
            jobs.iter_mut().for_each(write);
            return Ok(());
        }
        parallel::for_each(pool, &mut jobs, write)
    }

    /// Attention of the last `tokens` of the tokens that were stored; its results become `x`.
    fn attend(
        &self,
        step: &Step<'_>,
        heads: &[Head],
        (x, tokens): (&mut Activations, usize),
        buffers: &mut Buffers,
    ) -> Result<()> {
        let &Step { shape, isa, pool, .. } = step;
        let (size, group) = (shape.head, shape.heads / shape.key_heads);
        let [query_width, _, stride] = widths(shape);
        let Buffers { inputs, attention, .. } = buffers;
        let before = x.tokens - tokens;
        let (inputs, position) = (&inputs[before * stride..], step.position + before);
        attention.resize(tokens * query_width, 0.0);
        let mut jobs = Vec::new();
        for (h, out) in attention.chunks_exact_mut(tokens * group * size).enumerate() {
            for (i, out) in out.chunks_mut(QUERY_TOKENS * group * size).enumerate() {
                let first = i * QUERY_TOKENS;
                jobs.push(Task {
                    queries: &inputs[first * stride + h * group * size..],
                    stride,
                    group,
                    size,
                    position: position + first,
                    head: &heads[h],
                    out,
                });
            }
        }
        // The last tokens have the longest rows of scores: start with them.
        jobs.reverse();
        parallel::for_each(pool, &mut jobs, |task| attend(isa, task))?;
        x.fill(isa, pool, (tokens, query_width), form(&[&self.attention_out]), &mut [], |token, _, row| {
            for (h, row) in row.chunks_exact_mut(group * size).enumerate() {
                let from = (h * tokens + token) * group * size;
                row.copy_from_slice(&attention[from..][..group * size]);
            }
        })
    }
}

/// Values of a token's queries, of its keys or values, and of all three.
fn widths(shape: &Shape) -> [usize; 3] {
    let [queries, keys] = [shape.heads, shape.key_heads].map(|heads| heads * shape.head);
    [queries, keys, queries + 2 * keys]
}

dispatch! {
    /// Adds `bias` to the heads `x` and turns them.
    fn turn(x: &mut [f32], bias: &[f32], turns: &[(f32, f32)], scale: f32) = turn_body
}

#[inline(always)]
fn turn_body<const FMA: bool>(x: &mut [f32], bias: &[f32], turns: &[(f32, f32)], scale: f32) {
    let half = turns.len();
    for (x, bias) in x.chunks_exact_mut(2 * half).zip(bias.chunks_exact(2 * half)) {
        x.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
        let (low, high) = x.split_at_mut(half);
        for ((low, high), (cos, sin)) in low.iter_mut().zip(high).zip(turns) {
            (*low, *high) = ((*low * cos - *high * sin) * scale, (*high * cos + *low * sin) * scale);
        }
    }
}
