//! How many lists a search must visit for a recall, measured on the sample.

use crate::Result;
use crate::kmeans::{self, BATCH, Points};
use crate::meta::LEVELS;

/// Rows of the sample that serve as queries.
const QUERIES: usize = 400;
/// Neighbours that a recall is about.
const NEIGHBOURS: f64 = 10.0;
/// Of the misses that a recall allows, the share that the codes may make; the rest is for lists not visited.
const CODES_SHARE: f64 = 0.35;

/// For each of [`LEVELS`] the lists to visit, with the list that each point is in. All zero if the sample tells nothing.
///
/// The nearest row within a sample of a tenth is about as far as the tenth nearest of all rows, so neighbours are
/// counted in the sample's proportion.
pub(crate) fn probes(
    points: &Points,
    lists: &[u32],
    centroids: &Points,
    rows: f64,
    product: bool,
    mut check: impl FnMut() -> Result<()>,
) -> Result<[u32; LEVELS.len()]> {
    let n = points.len();
    if n < 2 * QUERIES || centroids.len() < 2 {
        return Ok([0; LEVELS.len()]);
    }
    let neighbours = (NEIGHBOURS * n as f64 / rows.max(n as f64)).round().max(1.0) as usize;
    let (width, step) = (points.width, n / QUERIES);
    let queries: Vec<f32> = (0..QUERIES).flat_map(|i| points.get(i * step)).copied().collect();
    let (squares, centroid_squares) = (points.squares(), centroids.squares());
    // Distances to the rows, less the square of the query; for products, the negative product.
    let distance = |square: f32, dot: f32| if product { -dot } else { square - 2.0 * dot };
    let mut best: Vec<Vec<(f32, u32)>> = vec![Vec::new(); QUERIES];
    let mut scratch = Vec::new();
    let query_points = Points { values: queries, width };
    for (batch, chunk) in points.values.chunks(BATCH * width).enumerate() {
        check()?;
        kmeans::products(chunk, &query_points, &mut scratch);
        for (i, dots) in scratch.chunks_exact(QUERIES).enumerate() {
            let row = batch * BATCH + i;
            for (q, dot) in dots.iter().enumerate() {
                let square = squares[q * step];
                let away = square + squares[row] - 2.0 * dot;
                // Neither the row itself nor its copies: they are in the first list, and no query is like that.
                if away <= 1e-4 * square {
                    continue;
                }
                insert(&mut best[q], (distance(squares[row], *dot), row as u32), neighbours);
            }
        }
    }
    let mut ranks = Vec::with_capacity(QUERIES * neighbours);
    kmeans::products(&query_points.values, centroids, &mut scratch);
    for (dots, best) in scratch.chunks_exact(centroids.len()).zip(&best) {
        let to_list = |list: usize| distance(centroid_squares[list], dots[list]);
        for (_, row) in best {
            let own = to_list(lists[*row as usize] as usize);
            ranks.push((0..centroids.len()).filter(|list| to_list(*list) < own).count() as u32);
        }
    }
    ranks.sort_unstable();
    Ok(std::array::from_fn(|i| {
        let share = 1.0 - (1.0 - LEVELS[i]) * (1.0 - CODES_SHARE);
        let at = (share * ranks.len() as f64) as usize;
        ranks.get(at.min(ranks.len().saturating_sub(1))).map_or(0, |rank| rank + 1)
    }))
}

fn insert(best: &mut Vec<(f32, u32)>, new: (f32, u32), most: usize) {
    if best.len() == most && best.last().is_some_and(|last| last.0 <= new.0) {
        return;
    }
    let at = best.partition_point(|old| old.0 <= new.0);
    best.insert(at, new);
    best.truncate(most);
}
