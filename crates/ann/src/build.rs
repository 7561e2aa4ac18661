//! Building an index: a sample is clustered, then every row is encoded into its list, one pass, pages written when
//! they are full.

use crate::calibrate::{Calibration, LEAST_QUERIES, QUERIES};
use crate::code::{self, Norm};
use crate::directory;
use crate::fill::Filling;
use crate::kmeans::{self, BATCH, Points};
use crate::list::{Layout, NewEntry};
use crate::meta::{META, Meta};
use crate::nearby::Lists;
use crate::page::{self, Kind, NO_LIST};
use crate::records::{self, Place};
use crate::space::Row;
use crate::store::{Change, NO_BLOCK, PAYLOAD, PageStore};
use crate::{Error, Key, Metric, Result, RowId, Space, second, workers};

/// Rows of a sample for each list.
pub(crate) const SAMPLES_PER_LIST: usize = 32;
/// Rounds of k-means.
pub(crate) const ROUNDS: usize = 6;

/// How large an index will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Lists.
    pub lists: usize,
    /// Rows to train with.
    pub sample: usize,
}

impl Plan {
    /// For `rows` rows, with at most `memory` bytes for the sample and for the pages being filled.
    pub fn new(rows: f64, dims: usize, memory: usize) -> Self {
        // Short lists keep the codes of a search few, but waste pages, and many take long to train.
        let lists = (5.0 * rows.max(0.0).sqrt()).min(rows / 128.0);
        let lists = lists.min((memory / (4 * PAYLOAD)) as f64).max(1.0) as usize;
        let room = memory / (8 * dims.next_multiple_of(64));
        Self { lists, sample: (lists * SAMPLES_PER_LIST).min(room).max(lists) }
    }
}

/// What a sample taught.
pub struct Trained {
    space: Space,
    mean: Vec<u8>,
    /// Encoded centroids, and as they decode.
    records: Vec<Vec<u8>>,
    centroids: Points,
    calibration: Calibration,
}

/// Clusters a sample of vectors.
pub struct Trainer {
    space: Space,
    points: Points,
}

impl Trainer {
    /// Begins without a row.
    ///
    /// # Errors
    /// [`Error::Dimensions`].
    pub fn new(metric: Metric, dims: usize, seed: u64) -> Result<Self> {
        let space = Space::new(metric, dims, seed)?;
        let points = Points::new(space.width);
        Ok(Self { space, points })
    }

    /// Rows so far.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether there is no row yet.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Adds a row to the sample.
    ///
    /// # Errors
    /// [`Error::Dimensions`].
    pub fn push(&mut self, x: &[f32]) -> Result<()> {
        let row = self.space.row(x)?;
        self.points.values.extend_from_slice(&row.y);
        Ok(())
    }

    /// Makes `plan.lists` lists, or fewer if the sample has not as many clusters.
    ///
    /// # Errors
    /// Those of `check`.
    pub fn train(mut self, plan: Plan, mut check: impl FnMut() -> Result<()>) -> Result<Trained> {
        let (width, n) = (self.space.width, self.points.len());
        let mut mean = vec![0.0f64; width];
        for point in self.points.values.chunks_exact(width) {
            mean.iter_mut().zip(point).for_each(|(m, x)| *m += f64::from(*x) / n as f64);
        }
        check()?;
        let mean: Vec<f32> = mean.into_iter().map(|m| m as f32).collect();
        let (record, mean) = through_record(&mean);
        for point in self.points.values.chunks_exact_mut(width) {
            point.iter_mut().zip(&mean).for_each(|(x, m)| *x -= m);
        }
        self.space.set_mean(mean);
        let queries = hold_out(&mut self.points, plan.lists);
        let seed = n as u64;
        let trained = match plan.lists {
            0 | 1 => Points { values: vec![0.0; width], width },
            lists => kmeans::train(&self.space, &self.points, lists, ROUNDS, seed, &mut check)?,
        };
        let (mut records, mut centroids) = through_records(&trained);
        if centroids.is_empty() {
            let (record, decoded) = through_record(&vec![0.0; width]);
            records.push(record);
            centroids.values.extend(decoded);
        }
        let calibration = Calibration::new(&self.space, queries);
        Ok(Trained { space: self.space, mean: record, records, centroids, calibration })
    }
}

/// Takes rows out of a sample to be queries, which clusters would fit better than others if they were made of them; none if
/// the sample is small.
fn hold_out(points: &mut Points, lists: usize) -> Points {
    let (width, n) = (points.width, points.len());
    let mut queries = Points::new(width);
    if lists < 2 || n < 4 * LEAST_QUERIES.max(lists) {
        return queries;
    }
    let wanted = (n / 8).clamp(LEAST_QUERIES, QUERIES);
    let (step, mut kept) = (n / wanted, Vec::with_capacity(points.values.len()));
    for (i, point) in points.values.chunks_exact(width).enumerate() {
        let is_query = i % step == 0 && queries.len() < wanted;
        if is_query { &mut queries.values } else { &mut kept }.extend_from_slice(point);
    }
    points.values = kept;
    queries
}

/// Points as they are stored: encoded, and what that decodes to.
pub(crate) fn through_records(points: &Points) -> (Vec<Vec<u8>>, Points) {
    let mut decoded = Points::new(points.width);
    let mut encode = |point| {
        let (record, point) = through_record(point);
        decoded.values.extend(point);
        record
    };
    let records = points.values.chunks_exact(points.width).map(&mut encode).collect();
    (records, decoded)
}

/// A point as it is stored: encoded, and what that decodes to.
fn through_record(point: &[f32]) -> (Vec<u8>, Vec<f32>) {
    let record = code::encode(point, 0.0, Norm::Euclidean);
    let mut decoded = vec![0.0; point.len()];
    code::Record::new(&record).add_to(&mut decoded);
    (record, decoded)
}

/// Rows that a thread encodes at least.
const LEAST_ROWS: usize = 32;

/// What `make` makes of each item, on all threads.
fn each<T: Sync, U: Send>(items: &[T], make: impl Fn(&T) -> U + Sync) -> Vec<U> {
    let mut made: Vec<Option<U>> = items.iter().map(|_| None).collect();
    workers::share((items, 1), (&mut made, 1), LEAST_ROWS, |items, made| {
        made.iter_mut().zip(items).for_each(|(made, item)| *made = Some(make(item)));
    });
    made.into_iter().flatten().collect()
}

/// Writes an index.
pub struct Builder<'a, S: PageStore> {
    store: &'a S,
    trained: Trained,
    layout: Layout,
    seed: u64,
    nearby: Lists,
    filling: Filling,
    records: records::Writer,
    /// The last page of byte codes, if it has room.
    open: u32,
    batch: Vec<(RowId, Vec<f32>)>,
    /// Keys of the rows of the batch, one after the other.
    keys: Vec<Key>,
    rows: u64,
}

impl<'a, S: PageStore> Builder<'a, S> {
    /// Begins in an empty store. `seed` is that of the trainer; rows have `key_columns` keys.
    ///
    /// # Errors
    /// Those of the store.
    pub fn new(store: &'a S, trained: Trained, seed: u64, key_columns: usize) -> Result<Self> {
        let meta = store.append(&[0; PAYLOAD])?;
        if meta != META {
            return Err(Error::Store("the index is not empty".to_owned()));
        }
        let layout = Layout::new(&trained.space, key_columns);
        let nearby = Lists::unwritten(&trained.space, &trained.records, &trained.centroids)
            .in_groups(&trained.space, &trained.centroids);
        let filling = Filling::new(layout, 0..trained.centroids.len() as u32);
        Ok(Self {
            store,
            trained,
            layout,
            seed,
            nearby,
            filling,
            records: records::Writer::new(),
            open: NO_BLOCK,
            batch: Vec::new(),
            keys: Vec::new(),
            rows: 0,
        })
    }

    /// Lists of the index.
    pub fn lists(&self) -> usize {
        self.filling.len()
    }

    /// Adds a row with its keys.
    ///
    /// # Errors
    /// [`Error::Dimensions`], and those of the store.
    pub fn add(&mut self, id: RowId, x: &[f32], keys: &[Key]) -> Result<()> {
        let expected = self.trained.space.dims;
        if x.len() != expected {
            return Err(Error::Dimensions { expected, found: x.len() });
        }
        self.keys.extend_from_slice(keys);
        self.batch.push((id, x.to_vec()));
        // Whole pages of byte codes.
        let batch = BATCH.next_multiple_of(self.layout.per_page);
        if self.batch.len() < batch { Ok(()) } else { self.write_batch() }
    }

    fn write_batch(&mut self) -> Result<()> {
        self.store.check()?;
        let batch = std::mem::take(&mut self.batch);
        let keys = std::mem::take(&mut self.keys);
        let Trained { space, centroids, .. } = &self.trained;
        let vectors = each(&batch, |(_, x)| space.row(x)).into_iter().collect::<Result<Vec<Row>>>()?;
        let values: Vec<f32> = vectors.iter().flat_map(|row| &row.y).copied().collect();
        let encoded = each(&vectors, |row| {
            let (first, second) =
                second::lists_of(&row.y, &self.nearby.near(space, &row.y, second::NEAREST), centroids);
            let encode = |list: u32| (list, space.encode(row, centroids.get(list as usize)));
            (space.record(row), encode(first), second.map(encode))
        });
        let lists = |(_, first, second): &(_, (u32, _), Option<(u32, _)>)| {
            [first.0, second.as_ref().map_or(first.0, |second| second.0)]
        };
        let ids = batch.iter().map(|(id, _)| *id).zip(encoded.iter().map(lists));
        let columns = self.layout.key_columns;
        self.trained.calibration.see(&values, ids);
        let (per_page, space) = (self.layout.per_page, &self.trained.space);
        for (page, encoded) in encoded.chunks(per_page).enumerate() {
            let records: Vec<&Vec<u8>> = encoded.iter().map(|(record, ..)| record).collect();
            let block = self.records.write(self.store, space, &records)?;
            self.open = if records.len() < per_page { block } else { NO_BLOCK };
            for (slot, (_, first, second)) in encoded.iter().enumerate() {
                let i = page * per_page + slot;
                let keys = &keys[i * columns..][..columns];
                for (second, (list, entry)) in [(false, Some(first)), (true, second.as_ref())]
                    .into_iter()
                    .filter_map(|(s, e)| Some((s, e?)))
                {
                    let new = NewEntry { row: batch[i].0, keys, entry, second };
                    self.filling.put(self.store, *list as usize, &new, Place { block, slot })?;
                }
            }
        }
        self.rows += batch.len() as u64;
        Ok(())
    }

    /// Writes what is left, and returns the number of rows.
    ///
    /// # Errors
    /// Those of the store.
    pub fn finish(mut self) -> Result<u64> {
        self.write_batch()?;
        let lists = self.filling.finish(self.store)?;
        let width = self.trained.space.width;
        let mut mean = vec![0; PAYLOAD];
        page::format(&mut mean, Kind::Codes, NO_LIST);
        page::put(&mut mean, page::HEADER, &self.trained.mean);
        page::set_count(&mut mean, 1);
        let meta = Meta {
            metric: self.trained.space.metric,
            dims: self.trained.space.dims as u32,
            seed: self.seed,
            mean: self.store.append(&mean)?,
            directory: directory::write(self.store, width, &lists, &self.trained.records)?,
            lists: lists.len() as u32,
            rows: self.rows,
            next_list: lists.len() as u32,
            calibrated: self.trained.calibration.measure(&self.trained.centroids, || self.store.check())?,
            key_columns: self.layout.key_columns as u32,
            version: 0,
            unclean_since: 0,
            open: self.open,
            code_pages: self.records.pages(),
        };
        let mut change = self.store.change();
        let place = change.lock(META)?;
        meta.encode(change.page_mut(place));
        change.commit()?;
        Ok(self.rows)
    }
}
