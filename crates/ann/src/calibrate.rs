//! Which lists a search must visit for a recall, measured with rows as queries and all rows as what they look for.

use std::collections::{HashMap, HashSet};

use pg_answer_vector::distance;

use crate::depth::{self, Spread};
use crate::kmeans::{self, Points};
use crate::meta::{Calibrated, LEVELS, cost};
use crate::{Metric, Result, RowId, Space};

/// Rows that serve as queries, and the fewest that tell anything. With 400 of 200,000 texts the recall of a build was
/// wrong by a standard error of 0.0037 at 0.95, with 800 by 0.0026.
pub(crate) const QUERIES: usize = 800;
pub(crate) const LEAST_QUERIES: usize = 400;
/// Neighbours that a recall is about.
const NEIGHBOURS: usize = 10;
/// Near rows that a search may miss for each of [`LEVELS`] because it does not visit their lists: most of what the recall
/// allows, less one standard error of the measurement. The codes cost the rest.
const MISSES: [f64; LEVELS.len()] = [0.165, 0.094, 0.0425, 0.0250, 0.0091, 0.0047];
/// Weight of a list's distance in its cost, for distances in units of how much farther than the nearest list they all are
/// on average. More visits fewer lists on average, less makes the queries more alike: with 4 instead of 3 the 95th percentile
/// scores 2.2 instead of 2.0 times the codes of the median at 0.95, and the mean 3 to 5 % fewer.
const SLOPE: f64 = 3.0;

/// A row near a query.
struct Near {
    distance: f32,
    row: RowId,
    /// Its list, and the one of its second entry, or the same if it has none.
    lists: [u32; 2],
}

/// A measurement under way: rows are shown to it, with the lists that they are in.
pub(crate) struct Calibration {
    /// Like rows, less the mean.
    queries: Points,
    squares: Vec<f32>,
    /// The mean, if distances are products: a query contains it.
    mean: Option<Vec<f32>>,
    /// Whether rows are near by taxicab distance; lists are by the Euclidean one.
    taxicab: bool,
    /// For each query its nearest rows so far.
    best: Vec<Vec<Near>>,
    /// For each query how far rows are from it.
    spreads: Vec<Spread>,
    dots: Vec<f32>,
}

impl Calibration {
    /// Begins with queries, which no list should owe its centroid to.
    pub fn new(space: &Space, queries: Points) -> Self {
        let (squares, best) = (queries.squares(), (0..queries.len()).map(|_| Vec::new()).collect());
        let (mean, taxicab) = (space.mean_of_products(), space.metric == Metric::L1);
        let spreads = vec![Spread::default(); queries.len()];
        Self { queries, squares, mean, taxicab, best, spreads, dots: Vec::new() }
    }

    /// Distance of a query to a point, less what is the same for all points; or its negative product.
    fn distance(&self, point: &[f32], square: f32, dot: f32) -> f32 {
        match &self.mean {
            Some(mean) => -dot - mean.iter().zip(point).map(|(m, x)| m * x).sum::<f32>(),
            None => square - 2.0 * dot,
        }
    }

    /// Shows it rows, with their ids and their lists.
    pub fn see(&mut self, rows: &[f32], ids: impl Iterator<Item = (RowId, [u32; 2])>) {
        if self.queries.is_empty() {
            return;
        }
        let (width, n) = (self.queries.width, self.queries.len());
        let mut dots = std::mem::take(&mut self.dots);
        kmeans::products(rows, &self.queries, &mut dots);
        for (i, ((row, (id, lists)), dots)) in
            rows.chunks_exact(width).zip(ids).zip(dots.chunks_exact(n)).enumerate()
        {
            let square = row.iter().map(|x| x * x).sum::<f32>();
            if Spread::takes(i) {
                let distances = dots.iter().map(|dot| f64::from(square - 2.0 * dot));
                self.spreads.iter_mut().zip(distances).for_each(|(spread, to)| spread.add(to));
            }
            let base = self.distance(row, square, 0.0);
            let weight = if self.mean.is_some() { 1.0 } else { 2.0 };
            for (q, dot) in dots.iter().enumerate() {
                let distance = match self.taxicab {
                    true => distance::l1(self.queries.get(q), row),
                    false => base - weight * dot,
                };
                let best = &mut self.best[q];
                if best.len() == NEIGHBOURS && best[NEIGHBOURS - 1].distance <= distance {
                    continue;
                }
                // Neither the row itself nor its copies: they are in the first list, and no query is like that.
                if self.squares[q] + square - 2.0 * dot > 1e-4 * self.squares[q] {
                    best.truncate(NEIGHBOURS - 1);
                    let at = best.partition_point(|old| old.distance <= distance);
                    best.insert(at, Near { distance, row: id, lists });
                }
            }
        }
        self.dots = dots;
    }

    /// The rows that matter so far.
    pub fn rows(&self) -> HashSet<RowId> {
        self.best.iter().flatten().map(|near| near.row).collect()
    }

    /// Tells it the lists of second entries that were not shown with the rows.
    pub fn set_seconds(&mut self, lists: &HashMap<RowId, u32>) {
        for near in self.best.iter_mut().flatten() {
            near.lists[1] = lists.get(&near.row).copied().unwrap_or(near.lists[1]);
        }
    }

    /// What the rows have taught. Nothing if there were too few.
    ///
    /// # Errors
    /// Those of `check`.
    pub fn measure(&self, centroids: &Points, mut check: impl FnMut() -> Result<()>) -> Result<Calibrated> {
        let lists = centroids.len();
        let found: usize = self.best.iter().map(Vec::len).sum();
        if found < LEAST_QUERIES || lists < 2 {
            return Ok(Calibrated::default());
        }
        let mut dots = Vec::new();
        kmeans::products(&self.queries.values, centroids, &mut dots);
        let centroid_squares = centroids.squares();
        // For each query the distances of the lists from the nearest on, less that of the nearest, and of its rows' lists.
        let mut farther: Vec<Vec<f64>> = Vec::with_capacity(self.best.len());
        let mut own: Vec<Vec<f64>> = Vec::with_capacity(self.best.len());
        let mut nearest: Vec<f64> = Vec::with_capacity(self.best.len());
        for (dots, best) in dots.chunks_exact(lists).zip(&self.best) {
            check()?;
            let mut sorted: Vec<f64> = (0..lists)
                .map(|i| f64::from(self.distance(centroids.get(i), centroid_squares[i], dots[i])))
                .collect();
            let least = sorted.iter().copied().fold(f64::INFINITY, f64::min);
            nearest.push(least);
            sorted.iter_mut().for_each(|to| *to -= least);
            let to = |near: &Near| sorted[near.lists[0] as usize].min(sorted[near.lists[1] as usize]);
            own.push(best.iter().map(to).collect());
            sorted.sort_unstable_by(f64::total_cmp);
            farther.push(sorted);
        }
        let spread: f64 = farther.iter().flatten().sum::<f64>() / (farther.len() * lists) as f64;
        let slope = if spread.is_normal() { SLOPE / spread } else { 0.0 };
        let costs: Vec<Vec<f64>> = farther
            .iter()
            .zip(&own)
            .map(|(farther, own)| {
                own.iter().map(|to| cost(slope, farther.partition_point(|x| x < to), *to)).collect()
            })
            .collect();
        let mut sorted: Vec<f64> = costs.iter().flatten().copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let quantile = |misses: f64| {
            let at = ((1.0 - misses) * sorted.len() as f64) as usize;
            sorted[at.min(sorted.len() - 1)]
        };
        let limits = MISSES.map(|misses| quantile(misses - standard_error(&costs, quantile(misses))));
        let mut probes = [0; LEVELS.len()];
        for (probes, limit) in probes.iter_mut().zip(limits) {
            check()?;
            let visited = |farther: &Vec<f64>| {
                farther.iter().enumerate().take_while(|(i, to)| cost(slope, *i, **to) <= limit).count()
            };
            let visited: usize = farther.iter().map(visited).sum();
            *probes = (visited as f64 / farther.len() as f64).round().max(1.0) as u32;
        }
        let depths = self.depths(&nearest, &own).map(|depth| depth as f32);
        Ok(Calibrated { probes, slope: slope as f32, limits: limits.map(|limit| limit as f32), depths })
    }

    /// Entries to refine for each of [`LEVELS`], on average, because of the errors of one-bit codes. `nearest` has each query's
    /// distance of the nearest list, `own` how much farther the lists of its rows are. Zeros if distances are not Euclidean.
    fn depths(&self, nearest: &[f64], own: &[Vec<f64>]) -> [f64; LEVELS.len()] {
        let mut depths = [0.0; LEVELS.len()];
        if self.mean.is_some() || self.taxicab {
            return depths;
        }
        let to_nearest = nearest.iter().zip(&self.squares).map(|(to, square)| to + f64::from(*square));
        let residual = to_nearest.clone().sum::<f64>() / nearest.len() as f64;
        let found: usize = own.iter().map(Vec::len).sum();
        for (((best, own), to_nearest), spread) in
            self.best.iter().zip(own).zip(to_nearest).zip(&self.spreads)
        {
            for (near, farther) in best.iter().zip(own) {
                let error = depth::error(residual, to_nearest + farther, self.queries.width);
                let before = spread.before(f64::from(near.distance), error);
                depths.iter_mut().zip(before).for_each(|(depth, rows)| *depth += rows / found as f64);
            }
        }
        depths
    }
}

/// Standard error of the share of rows that a limit misses, from how much it differs among the queries: rows of one query
/// are missed together. `costs` has each query's rows.
fn standard_error(costs: &[Vec<f64>], limit: f64) -> f64 {
    let missed = |costs: &Vec<f64>| {
        costs.iter().filter(|cost| **cost > limit).count() as f64 / costs.len().max(1) as f64
    };
    let n = costs.len() as f64;
    let (sum, squares) =
        costs.iter().map(missed).fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
    let mean = sum / n;
    ((squares / n - mean * mean).max(0.0) / n).sqrt()
}
