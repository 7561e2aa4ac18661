//! Clusters that a user asks for: k-means on a sample of rows, from k-means++ seeds (Arthur and Vassilvitskii, 2007).

use crate::Result;
use crate::kmeans::{self, BATCH, Points, assign, drop_empty, improve};
use crate::rotation::splitmix;

/// Rounds of Lloyd's algorithm at most; it stops before when a round gains next to nothing.
const ROUNDS: usize = 50;
/// The part of the sum of squared distances that a round must gain for another one.
const GAIN: f64 = 1e-4;

/// How many of `rows` to train `k` clusters on: all, or enough that their means hardly move with more.
pub fn sample_size(rows: usize, k: usize) -> usize {
    rows.min(k.saturating_mul(64).max(10_000))
}

/// Which rows to train on: `count` of `rows` row numbers in ascending order, each set as likely as any other.
pub fn sample(rows: usize, count: usize, seed: u64) -> impl Iterator<Item = usize> {
    let (mut state, mut wanted) = (seed, count.min(rows));
    (0..rows).filter(move |row| {
        let chosen = splitmix(&mut state) % ((rows - row) as u64) < wanted as u64;
        wanted -= usize::from(chosen);
        chosen
    })
}

/// At most `k` centroids: fewer if `points` has fewer distinct ones. The same points, k and seed give the same.
///
/// # Errors
/// Those of `check`.
pub fn train(points: &Points, k: usize, seed: u64, mut check: impl FnMut() -> Result<()>) -> Result<Points> {
    let seeds = spread(points, k, seed, &mut check)?;
    let mut centroids = Points::new(points.width);
    seeds.iter().for_each(|i| centroids.values.extend_from_slice(points.get(*i)));
    let mut last = f64::INFINITY;
    for _ in 0..ROUNDS {
        let now = improve(points, &mut centroids, &seeds, &mut check)?;
        if now >= last * (1.0 - GAIN) {
            break;
        }
        last = now;
    }
    drop_empty(points, centroids, check)
}

/// Numbers of at most `k` points that lie far from one another: each is drawn with a chance in proportion to its squared
/// distance from those before it.
fn spread(points: &Points, k: usize, seed: u64, mut check: impl FnMut() -> Result<()>) -> Result<Vec<usize>> {
    let (width, mut state) = (points.width, seed);
    let mut seeds = Vec::new();
    if points.is_empty() {
        return Ok(seeds);
    }
    let squares = points.squares();
    let mut distances = vec![f32::INFINITY; points.len()];
    let mut next = (splitmix(&mut state) % points.len() as u64) as usize;
    let mut scratch = Vec::new();
    loop {
        seeds.push(next);
        if seeds.len() == k {
            return Ok(seeds);
        }
        let seed = Points { values: points.get(next).to_vec(), width };
        for (batch, rows) in points.values.chunks(BATCH * width).enumerate() {
            check()?;
            kmeans::products(rows, &seed, &mut scratch);
            for (i, product) in scratch.iter().enumerate().map(|(i, product)| (batch * BATCH + i, product)) {
                // Rounding leaves a little between equal points, of which one seed is enough.
                let distance = squares[i] + squares[next] - 2.0 * product;
                let rounding = 1e-6 * (squares[i] + squares[next]);
                distances[i] = distances[i].min(if distance > rounding { distance } else { 0.0 });
            }
        }
        let total: f64 = distances.iter().map(|d| f64::from(*d)).sum();
        if total <= 0.0 {
            return Ok(seeds);
        }
        let mut left = total * (splitmix(&mut state) >> 11) as f64 / (1u64 << 53) as f64;
        // Rounding may leave a little of the total behind the last point, which is then the one.
        for (i, distance) in distances.iter().enumerate().filter(|(_, d)| **d > 0.0) {
            next = i;
            left -= f64::from(*distance);
            if left < 0.0 {
                break;
            }
        }
    }
}

/// For each of `rows` the number of the nearest centroid, appended to `out`.
///
/// # Errors
/// Those of `check`.
pub fn label(
    rows: &[f32],
    centroids: &Points,
    out: &mut Vec<u32>,
    mut check: impl FnMut() -> Result<()>,
) -> Result<()> {
    let squares = centroids.squares();
    let (mut scratch, mut nearest) = (Vec::new(), Vec::new());
    for batch in rows.chunks(BATCH * centroids.width) {
        check()?;
        assign(batch, centroids, &squares, &mut scratch, &mut nearest);
        out.extend(nearest.iter().map(|(list, _)| *list));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn points(values: Vec<f32>, width: usize) -> Points {
        Points { values, width }
    }

    fn labels(points: &Points, k: usize, seed: u64) -> Vec<u32> {
        let centroids = train(points, k, seed, || Ok(())).expect("nothing refuses");
        let mut out = Vec::new();
        label(&points.values, &centroids, &mut out, || Ok(())).expect("nothing refuses");
        out
    }

    #[test]
    fn heaps_far_apart_are_told_apart_whatever_the_seed() {
        let values =
            (0..300).flat_map(|i| [(i % 3) as f32 * 10.0 + (i / 3) as f32 * 0.01, (i % 3) as f32]).collect();
        let heaps = points(values, 2);
        for seed in 0..20 {
            let labels = labels(&heaps, 3, seed);
            let mut seen: Vec<u32> = labels[..3].to_vec();
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2], "seed {seed}");
            assert!(labels.iter().enumerate().all(|(i, l)| *l == labels[i % 3]), "seed {seed}");
        }
    }

    #[test]
    fn fewer_distinct_points_than_clusters_give_as_many_clusters() {
        let repeated = points([1.0f32, 2.0, 3.0].repeat(50), 1);
        let centroids = train(&repeated, 10, 1, || Ok(())).expect("nothing refuses");
        assert_eq!(centroids.len(), 3);
        assert!(train(&points(Vec::new(), 4), 3, 1, || Ok(())).expect("nothing refuses").is_empty());
    }

    #[test]
    fn a_sample_has_its_size_and_is_in_order() {
        for (rows, count) in [(0, 5), (5, 5), (5, 9), (1000, 1), (1000, 300)] {
            let rows_of: Vec<usize> = sample(rows, count, 7).collect();
            assert_eq!(rows_of.len(), count.min(rows));
            assert!(rows_of.windows(2).all(|w| w[0] < w[1]) && rows_of.iter().all(|r| *r < rows));
        }
    }

    #[test]
    fn a_refusal_of_check_ends_it() {
        let refused = || Err(crate::Error::Store("cancelled".into()));
        assert!(train(&points(vec![0.0; 64], 4), 3, 1, refused).is_err());
    }

    proptest! {
        #[test]
        fn every_point_gets_the_label_of_its_nearest_centroid(
            values in prop::collection::vec(-10.0f32..10.0, 3..200), k in 1usize..8, seed: u64,
        ) {
            let points = points(values[..values.len() / 3 * 3].to_vec(), 3);
            let centroids = train(&points, k, seed, || Ok(())).expect("nothing refuses");
            prop_assert!(centroids.len() <= k);
            let labels = labels(&points, k, seed);
            let distance = |p: usize, c: usize| -> f32 {
                points.get(p).iter().zip(centroids.get(c)).map(|(a, b)| (a - b) * (a - b)).sum()
            };
            for (p, l) in labels.iter().enumerate() {
                let least = (0..centroids.len()).map(|c| distance(p, c)).fold(f32::INFINITY, f32::min);
                prop_assert!(distance(p, *l as usize) <= least + 1e-2);
            }
        }
    }
}
