//! A bias on attention by the distance of two tokens, as T5 and MPNet have it.

use crate::Result;
use crate::network::Tensors;

/// T5's relative positions (Raffel et al. 2020): distances in buckets that grow, each with a bias for each head.
pub struct Distances {
    /// Row after row, a bucket's bias for each head.
    bias: Vec<f32>,
    heads: usize,
    buckets: usize,
    longest: usize,
    /// Whether keys after the query have buckets of their own.
    both_ways: bool,
}

impl Distances {
    /// The biases `name` of `buckets` rows.
    ///
    /// # Errors
    /// As [`Tensors::matrix`].
    pub fn read(
        tensors: &Tensors,
        name: &str,
        (buckets, longest): (usize, usize),
        heads: usize,
        both_ways: bool,
    ) -> Result<Self> {
        let table = tensors.matrix(name, buckets, heads)?;
        let mut bias = vec![0.0; buckets * heads];
        bias.chunks_exact_mut(heads).enumerate().for_each(|(i, row)| table.row(i, row));
        if buckets < 4 || longest < buckets {
            return Err(tensors.damaged(format!("{buckets} buckets for distances up to {longest}")));
        }
        Ok(Self { bias, heads, buckets, longest, both_ways })
    }

    /// The bias of `head` on the score of a query and a key at these positions.
    pub fn bias(&self, head: usize, query: usize, key: usize) -> f32 {
        let (mut bucket, mut buckets) = (0, self.buckets);
        let mut distance = query.saturating_sub(key);
        if self.both_ways {
            buckets /= 2;
            if key > query {
                bucket = buckets;
                distance = key - query;
            }
        }
        let exact = buckets / 2;
        bucket += if distance < exact {
            distance
        } else {
            // In f32, as the origin computes it: on a border the rounding decides.
            let share = (distance as f32 / exact as f32).ln() / (self.longest as f32 / exact as f32).ln();
            (exact + (share * (buckets - exact) as f32) as usize).min(buckets - 1)
        };
        self.bias[bucket * self.heads + head]
    }
}
