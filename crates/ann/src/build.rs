//! Building an index: a sample is clustered, then every row is encoded into its list, one pass, pages written when
//! they are full.

mod calibrate;

use crate::code;
use crate::directory::{self, List};
use crate::kmeans::{self, BATCH, Points};
use crate::list::{self, Layout};
use crate::meta::{LEVELS, META, Meta};
use crate::page::{self, Kind};
use crate::space::Row;
use crate::store::{Block, Change, NO_BLOCK, PAYLOAD, PageStore};
use crate::{Error, Key, Metric, Result, RowId, Space};

/// Rows of a sample for each list.
const SAMPLES_PER_LIST: usize = 32;
/// Rounds of k-means.
const ROUNDS: usize = 6;

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
        // Lists of about √n rows keep both the centroids and the codes of a search few; short lists waste pages.
        let lists = (2.5 * rows.max(0.0).sqrt()).min(rows / 128.0);
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
    probes: [u32; LEVELS.len()],
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

    /// Makes `plan.lists` lists for `rows` rows, or fewer if the sample has not as many clusters.
    ///
    /// # Errors
    /// Those of `check`.
    pub fn train(mut self, plan: Plan, rows: f64, mut check: impl FnMut() -> Result<()>) -> Result<Trained> {
        let (width, n) = (self.space.width, self.points.len());
        let mut mean = vec![0.0f64; width];
        for point in self.points.values.chunks_exact(width) {
            mean.iter_mut().zip(point).for_each(|(m, x)| *m += f64::from(*x) / n as f64);
        }
        let mean: Vec<f32> = mean.into_iter().map(|m| m as f32).collect();
        let (record, mean) = through_record(&mean);
        for point in self.points.values.chunks_exact_mut(width) {
            point.iter_mut().zip(&mean).for_each(|(x, m)| *x -= m);
        }
        self.space.set_mean(mean);
        let seed = n as u64;
        let trained = match plan.lists {
            0 | 1 => Points { values: vec![0.0; width], width },
            lists => kmeans::train(&self.points, lists, ROUNDS, seed, &mut check)?,
        };
        let mut centroids = Points::new(width);
        let mut records = Vec::with_capacity(trained.len());
        for centroid in trained.values.chunks_exact(width) {
            let (record, decoded) = through_record(centroid);
            records.push(record);
            centroids.values.extend(decoded);
        }
        if centroids.is_empty() {
            let (record, decoded) = through_record(&vec![0.0; width]);
            records.push(record);
            centroids.values.extend(decoded);
        }
        let product = self.space.metric == Metric::InnerProduct;
        let probes = calibrate::probes(&self.points, &centroids, rows, product, &mut check)?;
        Ok(Trained { space: self.space, mean: record, records, centroids, probes })
    }
}

/// A point as it is stored: encoded, and what that decodes to.
pub(crate) fn through_record(point: &[f32]) -> (Vec<u8>, Vec<f32>) {
    let zeros = vec![0.0; point.len()];
    let record = code::encode(point, &zeros, 0.0);
    let mut decoded = zeros;
    code::Record::new(&record).add_to(&mut decoded);
    (record, decoded)
}

/// A list that is being filled.
struct OpenList {
    page: Vec<u8>,
    codes: Vec<u8>,
    rows: u32,
}

/// Writes an index.
pub struct Builder<'a, S: PageStore> {
    store: &'a S,
    trained: Trained,
    layout: Layout,
    seed: u64,
    squares: Vec<f32>,
    lists: Vec<OpenList>,
    batch: Vec<(RowId, Row)>,
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
        let squares = trained.centroids.squares();
        let open = |id| {
            let (mut page, mut codes) = (vec![0; PAYLOAD], vec![0; PAYLOAD]);
            list::format(&mut page, id);
            page::format(&mut codes, Kind::Codes, id);
            OpenList { page, codes, rows: 0 }
        };
        let lists = (0..trained.centroids.len() as u32).map(open).collect();
        let (batch, keys) = (Vec::new(), Vec::new());
        Ok(Self { store, trained, layout, seed, squares, lists, batch, keys, rows: 0 })
    }

    /// Lists of the index.
    pub fn lists(&self) -> usize {
        self.lists.len()
    }

    /// Adds a row with its keys.
    ///
    /// # Errors
    /// [`Error::Dimensions`], and those of the store.
    pub fn add(&mut self, id: RowId, x: &[f32], keys: &[Key]) -> Result<()> {
        self.keys.extend_from_slice(keys);
        self.batch.push((id, self.trained.space.row(x)?));
        if self.batch.len() < BATCH { Ok(()) } else { self.write_batch() }
    }

    fn write_batch(&mut self) -> Result<()> {
        self.store.check()?;
        let batch = std::mem::take(&mut self.batch);
        let keys = std::mem::take(&mut self.keys);
        let rows: Vec<f32> = batch.iter().flat_map(|(_, row)| &row.y).copied().collect();
        let (mut scratch, mut nearest) = (Vec::new(), Vec::new());
        kmeans::assign(&rows, &self.trained.centroids, &self.squares, &mut scratch, &mut nearest);
        let columns = self.layout.key_columns;
        for (i, ((id, row), (list, _))) in batch.iter().zip(&nearest).enumerate() {
            self.put(*list as usize, *id, row, &keys[i * columns..][..columns])?;
        }
        self.rows += batch.len() as u64;
        Ok(())
    }

    fn put(&mut self, list: usize, id: RowId, row: &Row, keys: &[Key]) -> Result<()> {
        let entry = self.trained.space.encode(row, self.trained.centroids.get(list));
        let open = &mut self.lists[list];
        if page::count(&open.page) == self.layout.capacity {
            let full = write_list_page(self.store, &self.layout, open)?;
            list::format(&mut open.page, list as u32);
            page::set_next(&mut open.page, full);
        }
        let i = page::count(&open.page);
        if i > 0 && i.is_multiple_of(self.layout.per_page) {
            write_codes(self.store, &self.layout, open)?;
        }
        let place = i % self.layout.per_page;
        self.layout.put_record(&mut open.codes, place, &entry.record);
        page::set_count(&mut open.codes, place + 1);
        self.layout.put_entry(&mut open.page, i, id, keys, &entry);
        page::set_count(&mut open.page, i + 1);
        open.rows += 1;
        Ok(())
    }

    /// Writes what is left, and returns the number of rows.
    ///
    /// # Errors
    /// Those of the store.
    pub fn finish(mut self) -> Result<u64> {
        self.write_batch()?;
        let mut entries = Vec::with_capacity(self.lists.len());
        for (id, open) in self.lists.iter_mut().enumerate() {
            self.store.check()?;
            list::set_rows(&mut open.page, open.rows);
            let first = write_list_page(self.store, &self.layout, open)?;
            entries.push(List { id: id as u32, first });
        }
        let width = self.trained.space.width;
        let mut mean = vec![0; PAYLOAD];
        page::format(&mut mean, Kind::Codes, u32::MAX);
        page::put(&mut mean, page::HEADER, &self.trained.mean);
        page::set_count(&mut mean, 1);
        let meta = Meta {
            metric: self.trained.space.metric,
            dims: self.trained.space.dims as u32,
            seed: self.seed,
            mean: self.store.append(&mean)?,
            directory: self.write_directory(&entries, width)?,
            lists: entries.len() as u32,
            rows: self.rows,
            next_list: entries.len() as u32,
            probes: self.trained.probes,
            key_columns: self.layout.key_columns as u32,
        };
        let mut change = self.store.change();
        let place = change.lock(META)?;
        meta.encode(change.page_mut(place));
        change.commit()?;
        Ok(self.rows)
    }

    /// Writes the directory from its end, so that each page knows the next.
    fn write_directory(&self, entries: &[List], width: usize) -> Result<Block> {
        let mut next = NO_BLOCK;
        let mut page = vec![0; PAYLOAD];
        let capacity = directory::capacity(width);
        for (i, chunk) in entries.chunks(capacity).enumerate().rev() {
            page::format(&mut page, Kind::Directory, 0);
            page::set_next(&mut page, next);
            page::set_count(&mut page, chunk.len());
            for (j, list) in chunk.iter().enumerate() {
                directory::put_entry(&mut page, width, j, *list, &self.trained.records[i * capacity + j]);
            }
            next = self.store.append(&page)?;
        }
        Ok(next)
    }
}

fn write_codes(store: &impl PageStore, layout: &Layout, open: &mut OpenList) -> Result<()> {
    let entries = page::count(&open.page);
    if entries > 0 {
        let block = store.append(&open.codes)?;
        layout.set_code_page(&mut open.page, (entries - 1) / layout.per_page, block);
        let owner = page::owner(&open.codes);
        page::format(&mut open.codes, Kind::Codes, owner);
    }
    Ok(())
}

fn write_list_page(store: &impl PageStore, layout: &Layout, open: &mut OpenList) -> Result<Block> {
    write_codes(store, layout, open)?;
    store.append(&open.page)
}
