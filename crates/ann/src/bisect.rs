//! An order of centroids in which those that lie together are near one another, sixteen by sixteen, as their codes are scored:
//! who looks for the centroids near a row passes over most of these groups.

use pg_answer_vector::distance;

use crate::Result;
use crate::kernels::LANES;
use crate::kmeans::Points;

/// Coordinates that are looked at. All are alike, so that so many tell enough of any number of them.
const COORDINATES: usize = 512;
/// Rounds of 2-means for each cut. The nearest of 3,046 centroids of texts was in the nearest fifth of the groups for 0.942, 0.977
/// and 0.982 of the rows with one, two and four.
const ROUNDS: usize = 3;
/// Each part has one point of so many at least, which bounds the depth.
const LEAST: usize = 8;

/// The points' numbers in their order. `check` is called often.
///
/// # Errors
/// Those of `check`.
pub(crate) fn order(points: &Points, mut check: impl FnMut() -> Result<()>) -> Result<Vec<u32>> {
    let mut order: Vec<u32> = (0..points.len() as u32).collect();
    cut(points, &mut order, &mut check)?;
    Ok(order)
}

/// Cuts points into two parts that are clusters, the first a multiple of sixteen, and those again.
fn cut(points: &Points, order: &mut [u32], check: &mut impl FnMut() -> Result<()>) -> Result<()> {
    let n = order.len();
    if n <= LANES {
        return Ok(());
    }
    check()?;
    let point = |i: u32| &points.get(i as usize)[..points.width.min(COORDINATES)];
    let farthest = |from: &[f32]| {
        let distances = order.iter().map(|i| (distance::l2_squared(from, point(*i)), *i));
        let farthest = distances.max_by(|a, b| a.0.total_cmp(&b.0));
        farthest.map_or(&[][..], |(_, i)| point(i)).to_vec()
    };
    let mean = |part: &[u32]| {
        let mut mean = vec![0.0; points.width.min(COORDINATES)];
        for i in part {
            mean.iter_mut().zip(point(*i)).for_each(|(mean, x)| *mean += x / part.len() as f32);
        }
        mean
    };
    let first = farthest(point(order[0]));
    let mut poles = (farthest(&first), first);
    let mut at = 0;
    for _ in 0..ROUNDS {
        let axis: Vec<f32> = poles.0.iter().zip(&poles.1).map(|(a, b)| b - a).collect();
        let middle = 0.5 * (square(&poles.1) - square(&poles.0));
        let along = |i: &u32| (distance::inner_product(&axis, point(*i)) - middle, *i);
        let mut along: Vec<(f32, u32)> = order.iter().map(along).collect();
        along.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let below = along.partition_point(|(along, _)| *along < 0.0);
        let below = below.clamp(n / LEAST, n - n / LEAST);
        at = below.next_multiple_of(LANES).min((n - 1) / LANES * LANES);
        order.iter_mut().zip(along).for_each(|(to, (_, i))| *to = i);
        poles = (mean(&order[..at]), mean(&order[at..]));
    }
    let (one, other) = order.split_at_mut(at);
    cut(points, one, check)?;
    cut(points, other, check)
}

fn square(x: &[f32]) -> f32 {
    distance::inner_product(x, x)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rotation::splitmix;

    #[test]
    fn points_of_a_heap_lie_together() {
        // Heaps of 16 around the corners of a cube, in no order.
        let mut state = 1;
        let mut number = || (splitmix(&mut state) >> 40) as f32 / (1 << 24) as f32;
        let corner = |i: usize| i * 5 % 8;
        let mut points = Points::new(3);
        for i in 0..8 * LANES {
            points.values.extend((0..3).map(|axis| 100.0 * (corner(i) >> axis & 1) as f32 + number()));
        }
        let order = order(&points, || Ok(())).expect("nothing refuses");
        for group in order.chunks(LANES) {
            assert!(group.iter().all(|i| corner(*i as usize) == corner(group[0] as usize)), "{group:?}");
        }
    }

    #[test]
    fn a_refusal_of_check_ends_it() {
        let points = Points { values: vec![0.0; 64], width: 1 };
        assert!(order(&points, || Err(crate::Error::Store("cancelled".into()))).is_err());
    }

    proptest! {
        #[test]
        fn each_point_comes_once(values in prop::collection::vec(-3i8..3, 0..900), odd: f32) {
            let mut values: Vec<f32> = values.into_iter().map(f32::from).collect();
            values.truncate(values.len() / 3 * 3);
            values.iter_mut().take(1).for_each(|x| *x = odd);
            let points = Points { values, width: 3 };
            let mut order = order(&points, || Ok(())).expect("nothing refuses");
            order.sort_unstable();
            prop_assert!(order.into_iter().eq(0..points.len() as u32));
        }
    }
}
