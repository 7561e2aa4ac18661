//! Clusters for the lists of a build.

use gemm::Parallelism;
use pg_answer_vector::distance;

use crate::build::through_records;
use crate::nearby::Lists;
use crate::rotation::splitmix;
use crate::{Result, Space, bisect, select, workers};

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

    /// All points.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.width)
    }

    /// The points with these numbers.
    fn only(&self, numbers: impl Iterator<Item = u32>) -> Self {
        let mut values = Vec::with_capacity(self.values.len());
        numbers.for_each(|i| values.extend_from_slice(self.get(i as usize)));
        Self { values, width: self.width }
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
    let mut distances = vec![0.0; centroids.len()];
    out.extend(scratch.chunks_exact(centroids.len()).map(|products| {
        for ((distance, product), square) in distances.iter_mut().zip(products).zip(squares) {
            *distance = square - 2.0 * product;
        }
        let least = select::minimum(&distances);
        (distances.iter().position(|distance| *distance == least).unwrap_or(0) as u32, least)
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

/// Rounds of a training that look for the centroids near each point, and how many they find; later rounds, in which centroids
/// move little, compare the point with these alone.
const LOOKS: usize = 2;
const NEAR: usize = 16;

/// At most `k` centroids of `points` of a space by Lloyd's algorithm; none has lost all points, and near ones
/// [lie together](bisect). `check` is called often.
///
/// # Errors
/// Those of `check`.
pub fn train(
    space: &Space,
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
    let (mut near, mut lists) = (vec![0; n * NEAR], vec![0; n]);
    for round in 0..rounds {
        if round < LOOKS {
            // The first centroids, points at random, make no groups that tell enough.
            let in_groups = round > 0;
            if in_groups {
                centroids = in_order(&centroids, &mut check)?;
            }
            let (records, decoded) = through_records(&centroids);
            let lists = Lists::unwritten(space, &records, &decoded);
            let lists = if in_groups { lists.in_groups(space, &decoded) } else { lists };
            find_near(space, points, &lists, &mut near, &mut check)?;
        }
        let squares = centroids.squares();
        let among = |first: usize, rows: &[f32], centroids: &Points, out: &mut Vec<(u32, f32)>| {
            assign_near(rows, &near[first * NEAR..], centroids, &squares, out);
            lists[first..].iter_mut().zip(&*out).for_each(|(list, (nearest, _))| *list = *nearest);
        };
        improve_by(points, &mut centroids, &order, among, &mut check)?;
    }
    in_order(&used(&centroids, lists.into_iter()), check)
}

/// The same centroids, so that near ones [lie together](bisect).
fn in_order(centroids: &Points, check: impl FnMut() -> Result<()>) -> Result<Points> {
    Ok(centroids.only(bisect::order(centroids, check)?.into_iter()))
}

/// The [`NEAR`] nearest lists of each point; some of them more than once if there are fewer.
///
/// # Errors
/// Those of `check`.
fn find_near(
    space: &Space,
    points: &Points,
    lists: &Lists,
    near: &mut [u32],
    mut check: impl FnMut() -> Result<()>,
) -> Result<()> {
    let width = points.width;
    for (rows, near) in points.values.chunks(BATCH * width).zip(near.chunks_mut(BATCH * NEAR)) {
        check()?;
        workers::share((rows, width), (near, NEAR), LEAST_ROWS, |rows, near| {
            for (row, near) in rows.chunks_exact(width).zip(near.chunks_exact_mut(NEAR)) {
                let found = lists.near(space, row, NEAR);
                near.iter_mut().zip(found.iter().cycle()).for_each(|(near, found)| *near = *found);
            }
        });
    }
    Ok(())
}

/// As [`assign`], but each row has only [`NEAR`] centroids to choose from.
fn assign_near(rows: &[f32], near: &[u32], centroids: &Points, squares: &[f32], out: &mut Vec<(u32, f32)>) {
    let width = centroids.width;
    let rows: Vec<(&[f32], &[u32])> = rows.chunks_exact(width).zip(near.chunks_exact(NEAR)).collect();
    out.clear();
    out.resize(rows.len(), (0, 0.0));
    workers::share((&rows, 1), (out, 1), LEAST_ROWS, |rows, out| {
        for ((row, near), out) in rows.iter().zip(out) {
            let distance = |i: &u32| {
                (*i, squares[*i as usize] - 2.0 * distance::inner_product(row, centroids.get(*i as usize)))
            };
            let nearest = near.iter().map(distance).min_by(|a, b| a.1.total_cmp(&b.1));
            *out = nearest.unwrap_or_default();
        }
    });
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
    check: impl FnMut() -> Result<()>,
) -> Result<f64> {
    let (mut scratch, squares) = (Vec::new(), centroids.squares());
    let all = |_, rows: &[f32], centroids: &Points, out: &mut Vec<(u32, f32)>| {
        assign(rows, centroids, &squares, &mut scratch, out);
    };
    improve_by(points, centroids, spare, all, check)
}

/// [`improve`], by a function that assigns some of the points, the first of which it is told, to centroids.
fn improve_by(
    points: &Points,
    centroids: &mut Points,
    spare: &[usize],
    mut assign: impl FnMut(usize, &[f32], &Points, &mut Vec<(u32, f32)>),
    mut check: impl FnMut() -> Result<()>,
) -> Result<f64> {
    let (width, mut nearest) = (points.width, Vec::new());
    let mut sums = Points { values: vec![0.0; centroids.values.len()], width };
    let mut counts = vec![0u32; centroids.len()];
    let (mut farthest, mut total) = ((0, f32::NEG_INFINITY), 0.0);
    for (batch, rows) in points.values.chunks(BATCH * width).enumerate() {
        check()?;
        assign(batch * BATCH, rows, centroids, &mut nearest);
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
    let lists = assign_all(points, &centroids, check)?;
    Ok(used(&centroids, lists.into_iter()))
}

/// Those of the centroids that `lists` name.
fn used(centroids: &Points, lists: impl Iterator<Item = u32>) -> Points {
    let mut used = vec![false; centroids.len()];
    lists.for_each(|list| used[list as usize] = true);
    centroids.only((0..).zip(used).filter(|(_, used)| *used).map(|(i, _)| i))
}
