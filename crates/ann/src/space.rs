//! From vectors to coordinates: shape of an index, rotated rows and queries, distances and their bounds.

use crate::code::{self, Norm, Record};
use crate::kernels::{self, Scale, Tables};
use crate::nearby::Remembered;
use crate::rotation::Rotation;
use crate::{Error, MAX_DIMENSIONS, Result};

/// Distance of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Metric {
    /// Euclidean distance.
    L2 = 1,
    /// Negative inner product.
    InnerProduct = 2,
    /// 1 − cosine of the angle.
    Cosine = 3,
    /// Taxicab distance.
    L1 = 4,
}

impl Metric {
    /// The metric of a number.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::L2, Self::InnerProduct, Self::Cosine, Self::L1].into_iter().find(|m| *m as u8 == number)
    }
}

/// Relative error granted to sums in single precision, here and in the operators that rows are ordered by.
const ROUNDING: f64 = 1e-5;

/// Squared norms outside of this are not trusted to single precision: such rows and queries have no bounds.
const TRUSTED: std::ops::Range<f64> = 1e-30..1e36;

/// How an index turns vectors into coordinates: a random rotation, less the mean of the rows. Under taxicab distance, which
/// a rotation does not keep, the coordinates are the vector's own; lists and one-bit codes, the latter made of what is
/// rotated then, rank rows by Euclidean distance, and byte codes tell the distance.
#[derive(Debug)]
pub struct Space {
    /// Distance.
    pub metric: Metric,
    /// Dimensions of the vectors.
    pub dims: usize,
    /// Coordinates: the dimensions, rounded up.
    pub width: usize,
    /// Coordinates that have a bit in one-bit codes.
    pub bits: usize,
    rotation: Rotation,
    /// What is subtracted from rotated rows.
    mean: Vec<f32>,
    /// Lists of the index, so that a session need not read them for each search.
    pub(crate) remembered: Remembered,
}

/// A row in the coordinates of an index.
#[derive(Debug, Clone)]
pub struct Row {
    /// Coordinates.
    pub y: Vec<f32>,
    /// Norm that the rounding of its coordinates is in proportion to.
    norm: f64,
    kind: RowKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowKind {
    Plain,
    /// Its distances are beyond single precision.
    Unbounded,
    /// It has no direction: its cosine distance is NaN, which comes last.
    Last,
}

/// A row encoded for one list.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What is added to a score.
    pub add: f32,
    /// What the product with the signs is multiplied with.
    pub scale: f32,
    /// Whether it comes last in every order.
    pub last: bool,
    /// One bit a coordinate.
    pub bits: Vec<u8>,
}

/// A query in the coordinates of an index.
#[derive(Debug)]
pub struct Query {
    y: Vec<f32>,
    /// Squared norm of `y`.
    squared: f64,
    /// As that of a row.
    norm: f64,
    /// Product with the mean, which rows do not contain.
    offset: f64,
    bounded: bool,
    /// No distance to it is a number.
    undefined: bool,
    low: Vec<u8>,
    high: Vec<u8>,
    /// A score is `step * sum - bias`.
    step: f32,
    bias: f32,
}

impl Space {
    /// A space with a random rotation. The mean is zero until [`Space::set_mean`].
    ///
    /// # Errors
    /// [`Error::Dimensions`] if there are none or too many.
    pub fn new(metric: Metric, dims: usize, seed: u64) -> Result<Self> {
        if dims == 0 || dims > MAX_DIMENSIONS {
            return Err(Error::Dimensions { expected: MAX_DIMENSIONS, found: dims });
        }
        let width = dims.next_multiple_of(64);
        let bits = width.min(8 * kernels::MOST_BYTES);
        let (rotation, mean) = (Rotation::new(width, seed), vec![0.0; width]);
        Ok(Self { metric, dims, width, bits, rotation, mean, remembered: Remembered::default() })
    }

    /// Sets the mean, before any row or query is made.
    pub fn set_mean(&mut self, mean: Vec<f32>) {
        debug_assert_eq!(mean.len(), self.width);
        self.mean = mean;
    }

    /// The mean, if the distance is a product, in which it stays.
    pub(crate) fn mean_of_products(&self) -> Option<Vec<f32>> {
        (self.metric == Metric::InnerProduct).then(|| self.mean.clone())
    }

    fn rotate(&self, x: &[f32]) -> Result<(Vec<f32>, f64, bool)> {
        if x.len() != self.dims {
            return Err(Error::Dimensions { expected: self.dims, found: x.len() });
        }
        let squared: f64 = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        let trusted = TRUSTED.contains(&squared) || squared == 0.0;
        let mut norm = squared.sqrt();
        let mut y = vec![0.0; self.width];
        if self.metric == Metric::Cosine {
            if norm > 0.0 {
                y.iter_mut().zip(x).for_each(|(y, x)| *y = (f64::from(*x) / norm) as f32);
                norm = 1.0;
            }
        } else if trusted {
            y[..x.len()].copy_from_slice(x);
        }
        if self.metric != Metric::L1 {
            self.rotation.apply(&mut y);
        }
        Ok((y, norm, trusted))
    }

    /// A row.
    ///
    /// # Errors
    /// [`Error::Dimensions`].
    pub fn row(&self, x: &[f32]) -> Result<Row> {
        let (mut y, norm, trusted) = self.rotate(x)?;
        y.iter_mut().zip(&self.mean).for_each(|(y, mean)| *y -= mean);
        let norm = if self.metric == Metric::L1 { norm_l1(x) + norm_l1(&y) } else { norm };
        let kind = match self.metric {
            Metric::Cosine if norm == 0.0 => RowKind::Last,
            _ if !trusted => RowKind::Unbounded,
            _ => RowKind::Plain,
        };
        Ok(Row { y, norm, kind })
    }

    /// A row encoded for the list with this centroid.
    pub fn encode(&self, row: &Row, centroid: &[f32]) -> Entry {
        self.encode_point(&row.y, centroid, row.kind == RowKind::Last)
    }

    /// The byte code of a row with its factors, as on a page.
    pub fn record(&self, row: &Row) -> Vec<u8> {
        let margin = match row.kind {
            RowKind::Unbounded => f64::INFINITY,
            _ => 2.0 * ROUNDING * row.norm,
        };
        code::encode(&row.y, margin, if self.metric == Metric::L1 { Norm::Taxicab } else { Norm::Euclidean })
    }

    /// Whether a record can be that of a row, and its entry's mark of what comes last.
    pub(crate) fn fits(&self, row: &Row, record: Record<'_>, last: bool) -> bool {
        if last || row.kind == RowKind::Last {
            return last == (row.kind == RowKind::Last);
        }
        let mut decoded = vec![0.0; self.width];
        record.add_to(&mut decoded);
        let differences = row.y.iter().zip(&decoded).map(|(y, decoded)| f64::from(*y) - f64::from(*decoded));
        let distance = match self.metric {
            Metric::L1 => differences.map(f64::abs).sum(),
            _ => differences.map(|d| d * d).sum::<f64>().sqrt(),
        };
        // What has no bound tells nothing.
        !record.error.is_finite() || distance <= f64::from(record.error) * (1.0 + 1e-6) + ROUNDING * row.norm
    }

    /// Coordinates, for instance what a record decodes to, encoded for the list with this centroid. `last`: the row comes last.
    pub(crate) fn encode_point(&self, y: &[f32], centroid: &[f32], last: bool) -> Entry {
        let mut residual: Vec<f32> = y.iter().zip(centroid).map(|(y, c)| y - c).collect();
        // A residual beyond single precision has no code, nor has what has no direction.
        if last || residual.iter().any(|r| !r.is_finite()) {
            residual.fill(0.0);
        }
        let (bits, sum) = if self.metric == Metric::L1 {
            let mut rotated = residual.clone();
            self.rotation.apply(&mut rotated);
            code::signs(&rotated[..self.bits])
        } else {
            code::signs(&residual[..self.bits])
        };
        let (mut squared, mut cross) = (0.0, 0.0);
        for (r, c) in residual.iter().zip(centroid) {
            squared += f64::from(*r) * f64::from(*r);
            cross += f64::from(*r) * f64::from(*c);
        }
        let scale = if sum > 0.0 { squared / sum } else { 0.0 };
        let (add, scale) = match self.metric {
            _ if last => (0.0, 0.0),
            Metric::InnerProduct => (0.0, scale),
            Metric::L2 | Metric::Cosine | Metric::L1 => (squared + 2.0 * cross, 2.0 * scale),
        };
        Entry { add: add as f32, scale: scale as f32, last, bits }
    }

    /// A query.
    ///
    /// # Errors
    /// [`Error::Dimensions`].
    pub fn query(&self, x: &[f32]) -> Result<Query> {
        let (mut y, mut norm, bounded) = self.rotate(x)?;
        let mut offset = 0.0;
        if self.metric == Metric::InnerProduct {
            offset = y.iter().zip(&self.mean).map(|(y, m)| f64::from(*y) * f64::from(*m)).sum();
        } else {
            y.iter_mut().zip(&self.mean).for_each(|(y, m)| *y -= m);
        }
        if self.metric == Metric::L1 {
            norm = norm_l1(x) + norm_l1(&y);
        }
        Ok(self.query_at(y, norm, offset, bounded))
    }

    /// A query for what is near a row with these coordinates, in which the mean does not stay.
    pub(crate) fn query_of(&self, y: &[f32]) -> Query {
        self.query_at(y.to_vec(), 0.0, 0.0, true)
    }

    fn query_at(&self, y: Vec<f32>, norm: f64, offset: f64, bounded: bool) -> Query {
        let squared = y.iter().map(|y| f64::from(*y) * f64::from(*y)).sum();
        let (low, high, step, bias) = if self.metric == Metric::L1 {
            let mut rotated = y.clone();
            self.rotation.apply(&mut rotated);
            code::tables(&rotated[..self.bits])
        } else {
            code::tables(&y[..self.bits])
        };
        let undefined = self.metric == Metric::Cosine && norm == 0.0;
        Query { y, squared, norm, offset, bounded, undefined, low, high, step, bias }
    }

    /// Distance of a query to the origin, as [`Self::list_base`] has it.
    pub(crate) fn origin_base(&self, query: &Query) -> f64 {
        match self.metric {
            Metric::InnerProduct => -query.offset,
            Metric::L2 | Metric::Cosine | Metric::L1 => query.squared,
        }
    }

    /// Squared distance of a query to a list's centroid, whose squared norm is given, or the negative product.
    pub(crate) fn list_base(&self, query: &Query, centroid: Record<'_>, squared: f64) -> f64 {
        let product = f64::from(centroid.dot(&query.y));
        match self.metric {
            Metric::InnerProduct => self.origin_base(query) - product,
            _ => (self.origin_base(query) + squared - 2.0 * product).max(0.0),
        }
    }

    /// A number that is not above the distance of the query to a row, as the operator computes it.
    pub(crate) fn lower_bound(&self, query: &Query, last: bool, row: Record<'_>) -> f64 {
        if query.undefined {
            return f64::NAN;
        }
        if last {
            return f64::INFINITY;
        }
        if !query.bounded || !row.error.is_finite() {
            return f64::NEG_INFINITY;
        }
        let error = f64::from(row.error);
        if self.metric == Metric::L1 {
            let distance = row.taxicab(&query.y) * (1.0 - ROUNDING) - error - ROUNDING * query.norm;
            return distance * (1.0 - ROUNDING) - 1e-17;
        }
        let product = f64::from(row.dot(&query.y));
        let bound = match self.metric {
            Metric::InnerProduct => {
                let rounding = ROUNDING * (query.offset.abs() + product.abs()) + 1e-30;
                -query.offset - product - query.norm * error - rounding
            }
            Metric::L2 | Metric::Cosine | Metric::L1 => {
                let constant = row.squared(self.width);
                let terms = query.squared + constant.abs() + 2.0 * product.abs();
                let squared = query.squared + constant - 2.0 * product - ROUNDING * terms;
                let distance = squared.max(0.0).sqrt() - error - ROUNDING * query.norm;
                if self.metric == Metric::L2 {
                    distance * (1.0 - ROUNDING) - 1e-17
                } else {
                    distance.max(0.0).powi(2) / 2.0 - ROUNDING
                }
            }
        };
        if bound.is_nan() { f64::NEG_INFINITY } else { bound }
    }
}

/// Sum of the absolute values.
fn norm_l1(x: &[f32]) -> f64 {
    x.iter().map(|x| f64::from(x.abs())).sum()
}

impl Query {
    /// What turns one-bit codes of a list, whose base this is, into estimates.
    pub(crate) fn scale(&self, base: f32) -> Scale<'_> {
        let tables = Tables { low: &self.low, high: &self.high };
        Scale { tables, step: self.step, bias: self.bias, base }
    }
}
