//! The second list of a row, for queries from which the first is far: the part of the row's residual along that of the first
//! list counts more than the rest, since it makes both estimates wrong together (SOAR, arXiv 2404.00774).

use crate::kernels::LANES;
use crate::kmeans::Points;

/// Nearest lists that the second is chosen from.
pub(crate) const CANDIDATES: usize = 8;
/// How much more the parallel part counts.
const PARALLEL: f32 = 1.0;

/// Places of the `n` least distances, from the least on.
pub(crate) fn nearest(distances: &[f32], n: usize) -> Vec<usize> {
    let mut best: Vec<(f32, usize)> = Vec::with_capacity(n + 1);
    for (group, distances) in distances.chunks(LANES).enumerate() {
        // The rest of them is told from the best with vector instructions.
        let worst = best.get(n - 1).map_or(f32::INFINITY, |(worst, _)| *worst);
        if best.len() == n && !distances.iter().fold(false, |any, to| any | (*to < worst)) {
            continue;
        }
        for (i, distance) in distances.iter().enumerate() {
            if best.get(n - 1).is_none_or(|(worst, _)| distance < worst) {
                let at = best.partition_point(|(before, _)| before <= distance);
                best.insert(at, (*distance, group * LANES + i));
                best.truncate(n);
            }
        }
    }
    best.into_iter().map(|(_, i)| i).collect()
}

/// Which of some centroids, of lists other than the first, whose centroid is given, is best for the second entry of a row.
pub(crate) fn choose<'a>(y: &[f32], first: &[f32], others: impl Iterator<Item = &'a [f32]>) -> Option<usize> {
    let own: Vec<f32> = y.iter().zip(first).map(|(y, c)| y - c).collect();
    let norm = own.iter().map(|r| r * r).sum::<f32>();
    let weight = if norm > 0.0 { PARALLEL / norm } else { 0.0 };
    let loss = |centroid: &[f32]| {
        let (mut squares, mut parallel) = ([0.0f32; 16], [0.0f32; 16]);
        let sixteens = y.as_chunks::<16>().0.iter().zip(own.as_chunks::<16>().0);
        for ((y, own), c) in sixteens.zip(centroid.as_chunks::<16>().0) {
            for i in 0..16 {
                let r = y[i] - c[i];
                squares[i] += r * r;
                parallel[i] += r * own[i];
            }
        }
        squares.iter().sum::<f32>() + weight * parallel.iter().sum::<f32>().powi(2)
    };
    let losses = others.enumerate().map(|(i, centroid)| (loss(centroid), i));
    losses.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, i)| i)
}

/// The list of a row, and the one of its second entry if there are two lists, from its products with all centroids and
/// their `squares`.
pub(crate) fn lists_of(
    y: &[f32],
    products: &[f32],
    squares: &[f32],
    centroids: &Points,
) -> (u32, Option<u32>) {
    let distances: Vec<f32> =
        products.iter().zip(squares).map(|(product, square)| square - 2.0 * product).collect();
    let near = nearest(&distances, 1 + CANDIDATES);
    let (first, others) = near.split_first().map_or((0, [].as_slice()), |(first, others)| (*first, others));
    let second = choose(y, centroids.get(first), others.iter().map(|i| centroids.get(*i)));
    (first as u32, second.map(|i| others[i] as u32))
}
