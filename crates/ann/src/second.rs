//! The second list of a row, for queries from which the first is far: the part of the row's residual along that of the first
//! list counts more than the rest, since it makes both estimates wrong together (SOAR, arXiv 2404.00774).

use pg_answer_vector::distance;

use crate::kmeans::Points;

/// Lists near a row: its own, and eight that the second is chosen from.
pub(crate) const NEAREST: usize = 1 + 8;
/// How much more the parallel part counts.
const PARALLEL: f32 = 1.0;

/// Which of some centroids, of lists other than the first, whose centroid is given, is best for the second entry of a row.
pub(crate) fn choose<'a>(y: &[f32], first: &[f32], others: impl Iterator<Item = &'a [f32]>) -> Option<usize> {
    let own: Vec<f32> = y.iter().zip(first).map(|(y, c)| y - c).collect();
    let (norm, along) = (distance::inner_product(&own, &own), distance::inner_product(y, &own));
    let weight = if norm > 0.0 { PARALLEL / norm } else { 0.0 };
    let loss = |centroid: &[f32]| {
        let parallel = along - distance::inner_product(centroid, &own);
        distance::l2_squared(y, centroid) + weight * parallel * parallel
    };
    let losses = others.enumerate().map(|(i, centroid)| (loss(centroid), i));
    losses.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, i)| i)
}

/// The list of a row, and the one of its second entry if there are two lists, from the lists `near` it, the nearest first.
pub(crate) fn lists_of(y: &[f32], near: &[u32], centroids: &Points) -> (u32, Option<u32>) {
    let (first, others) = near.split_first().map_or((0, [].as_slice()), |(first, others)| (*first, others));
    let centroid = |list: &u32| centroids.get(*list as usize);
    let second = choose(y, centroid(&first), others.iter().map(centroid));
    (first, second.map(|i| others[i]))
}
