//! Clusters for the lists of a build.

use gemm::Parallelism;

use crate::rotation::splitmix;
use crate::{Result, workers};

/// Rows of a matrix product between two looks for a cancel.
pub(crate) const BATCH: usize = 512;

/// Rows, or centroids, of one width, one after the other.
#[derive(Debug, Clone, Default)]
pub struct Points {
    /// Coordinates.
    pub values: Vec<f32>,
    /// Coordinates of a point.
    pub width: usize,
}

impl Points {
    /// No points.
    pub fn new(width: usize) -> Self {
        Self { values: Vec::new(), width }
    }

    /// Number of points.
    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Point `i`.
    pub fn get(&self, i: usize) -> &[f32] {
        &self.values[i * self.width..][..self.width]
    }

    fn get_mut(&mut self, i: usize) -> &mut [f32] {
        &mut self.values[i * self.width..][..self.width]
    }

    /// Squared norms.
    pub fn squares(&self) -> Vec<f32> {
        self.values.chunks_exact(self.width).map(|p| p.iter().map(|x| x * x).sum()).collect()
    }
}

/// Rows that a thread multiplies at least: fewer are done before it has woken up.
const LEAST_ROWS: usize = 32;

/// Products of rows (`rows.len() / width` of them) with all centroids, row by row into `out`.
pub(crate) fn products(rows: &[f32], centroids: &Points, out: &mut Vec<f32>) {
    let (width, k) = (centroids.width, centroids.len());
    out.clear();
    out.resize(rows.len() / width * k, 0.0);
    workers::share((rows, width), (out, k), LEAST_ROWS, |rows, out| multiply(rows, centroids, out));
}

fn multiply(rows: &[f32], centroids: &Points, out: &mut [f32]) {
    let (width, n, k) = (centroids.width, rows.len() / centroids.width, centroids.len());
    debug_assert_eq!(out.len(), n * k);
    // SAFETY: `out` has n rows of k, `rows` n rows of width, and the centroids are k rows of width, read transposed.
    unsafe {
        gemm::gemm(
            n,
            k,
            width,
            out.as_mut_ptr(),
            1,
            k as isize,
            false,
            rows.as_ptr(),
            1,
            width as isize,
            centroids.values.as_ptr(),
            width as isize,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// For each row the nearest centroid, and its squared distance less the row's squared norm.
pub(crate) fn assign(
    rows: &[f32],
    centroids: &Points,
    squares: &[f32],
    scratch: &mut Vec<f32>,
    out: &mut Vec<(u32, f32)>,
) {
    products(rows, centroids, scratch);
    out.clear();
    out.extend(scratch.chunks_exact(centroids.len()).map(|products| {
        let mut best = (0, f32::INFINITY);
        for (i, (product, square)) in products.iter().zip(squares).enumerate() {
            let distance = square - 2.0 * product;
            if distance < best.1 {
                best = (i as u32, distance);
            }
        }
        best
    }));
}

/// The nearest centroid of each point.
///
/// # Errors
/// Those of `check`.
pub(crate) fn assign_all(
    points: &Points,
    centroids: &Points,
    mut check: impl FnMut() -> Result<()>,
) -> Result<Vec<u32>> {
    let (mut scratch, mut nearest) = (Vec::new(), Vec::new());
    let (squares, mut lists) = (centroids.squares(), Vec::with_capacity(points.len()));
    for rows in points.values.chunks(BATCH * points.width) {
        check()?;
        assign(rows, centroids, &squares, &mut scratch, &mut nearest);
        lists.extend(nearest.iter().map(|(list, _)| *list));
    }
    Ok(lists)
}

/// At most `k` centroids of `points` by Lloyd's algorithm; no centroid is without points. `check` is called often.
///
/// # Errors
/// Those of `check`.
pub fn train(
    points: &Points,
    k: usize,
    rounds: usize,
    seed: u64,
    mut check: impl FnMut() -> Result<()>,
) -> Result<Points> {
    let (width, n) = (points.width, points.len());
    let mut centroids = Points::new(width);
    if n == 0 {
        return Ok(centroids);
    }
    let mut state = seed;
    let mut order: Vec<usize> = (0..n).collect();
    let k = k.clamp(1, n);
    for i in 0..k {
        order.swap(i, i + (splitmix(&mut state) % (n - i) as u64) as usize);
        centroids.values.extend_from_slice(points.get(order[i]));
    }
    for _ in 0..rounds {
        improve(points, &mut centroids, &order, &mut check)?;
    }
    drop_empty(points, centroids, check)
}

/// A round of Lloyd's algorithm: each centroid becomes the mean of the points next to it. Returns the sum of the points'
/// squared distances from the centroids before the round. `spare` names points for centroids that have lost all theirs.
///
/// # Errors
/// Those of `check`.
pub(crate) fn improve(
    points: &Points,
    centroids: &mut Points,
    spare: &[usize],
    mut check: impl FnMut() -> Result<()>,
) -> Result<f64> {
    let width = points.width;
    let (mut scratch, mut nearest) = (Vec::new(), Vec::new());
    let squares = centroids.squares();
    let mut sums = Points { values: vec![0.0; centroids.values.len()], width };
    let mut counts = vec![0u32; centroids.len()];
    let (mut farthest, mut total) = ((0, f32::NEG_INFINITY), 0.0);
    for (batch, rows) in points.values.chunks(BATCH * width).enumerate() {
        check()?;
        assign(rows, centroids, &squares, &mut scratch, &mut nearest);
        for (i, (row, (list, distance))) in rows.chunks_exact(width).zip(&nearest).enumerate() {
            let list = *list as usize;
            counts[list] += 1;
            sums.get_mut(list).iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            let distance = distance + row.iter().map(|x| x * x).sum::<f32>();
            total += f64::from(distance);
            if distance > farthest.1 {
                farthest = (batch * BATCH + i, distance);
            }
        }
    }
    for (i, count) in counts.iter().enumerate() {
        match count {
            // A centroid of nothing moves to where the fit is worst, or next to a spare point.
            0 => {
                let to = if farthest.1 > 0.0 { farthest.0 } else { spare[i] };
                farthest.1 = 0.0;
                centroids.get_mut(i).copy_from_slice(points.get(to));
            }
            _ => {
                let scale = 1.0 / *count as f32;
                let means = sums.get(i).iter().map(|sum| sum * scale);
                centroids.get_mut(i).iter_mut().zip(means).for_each(|(c, mean)| *c = mean);
            }
        }
    }
    Ok(total)
}

/// `centroids` without those that are next to no point.
///
/// # Errors
/// Those of `check`.
pub(crate) fn drop_empty(
    points: &Points,
    centroids: Points,
    check: impl FnMut() -> Result<()>,
) -> Result<Points> {
    let mut used = vec![false; centroids.len()];
    assign_all(points, &centroids, check)?.into_iter().for_each(|list| used[list as usize] = true);
    let mut kept = Points::new(points.width);
    for (centroid, _) in centroids.values.chunks_exact(points.width).zip(used).filter(|(_, used)| *used) {
        kept.values.extend_from_slice(centroid);
    }
    Ok(kept)
}
