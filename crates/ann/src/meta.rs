//! The first page: what an index is.

use crate::code::{self, Record};
use crate::error::corrupt;
use crate::filter::MOST_KEYS;
use crate::list::Layout;
use crate::page::{self, HEADER, Kind, put, u32_at, u64_at};
use crate::store::{Block, PageStore};
use crate::{Metric, Result, Space};

/// Number of the page.
pub const META: Block = 0;

/// Recalls for which an index knows how many lists to visit.
pub const LEVELS: [f64; 6] = [0.8, 0.9, 0.95, 0.97, 0.99, 0.995];

const KEY_COLUMNS: usize = 56 + 4 * LEVELS.len();

/// What the first page says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Distance.
    pub metric: Metric,
    /// Dimensions of the vectors.
    pub dims: u32,
    /// Seed of the rotation.
    pub seed: u64,
    /// First page of the directory.
    pub directory: Block,
    /// Page of the record of the mean.
    pub mean: Block,
    /// Lists made by the build.
    pub lists: u32,
    /// Rows that the build found.
    pub rows: u64,
    /// Number that the next list gets.
    pub next_list: u32,
    /// Lists to visit for each of [`LEVELS`], measured by the build; 0 if it could not measure.
    pub probes: [u32; LEVELS.len()],
    /// Key columns beside the vector.
    pub key_columns: u32,
}

impl Meta {
    /// Reads the first page.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`].
    pub fn read(store: &impl PageStore) -> Result<Self> {
        store.read(META, Self::decode)
    }

    fn decode(page: &[u8]) -> Result<Self> {
        page::expect(page, META, Kind::Meta, 0)?;
        let Some(metric) = Metric::from_number(page[HEADER]) else {
            return corrupt(META, format!("unknown distance {}", page[HEADER]));
        };
        let key_columns = u32_at(page, KEY_COLUMNS);
        if key_columns as usize > MOST_KEYS {
            return corrupt(META, format!("{key_columns} key columns"));
        }
        Ok(Self {
            metric,
            dims: u32_at(page, 20),
            seed: u64_at(page, 24),
            directory: u32_at(page, 32),
            mean: u32_at(page, 36),
            lists: u32_at(page, 40),
            next_list: u32_at(page, 44),
            rows: u64_at(page, 48),
            probes: std::array::from_fn(|i| u32_at(page, 56 + 4 * i)),
            key_columns,
        })
    }

    /// Writes the first page.
    pub fn encode(&self, page: &mut [u8]) {
        page::format(page, Kind::Meta, 0);
        page[HEADER] = self.metric as u8;
        put(page, 20, &self.dims.to_le_bytes());
        put(page, 24, &self.seed.to_le_bytes());
        put(page, 32, &self.directory.to_le_bytes());
        put(page, 36, &self.mean.to_le_bytes());
        put(page, 40, &self.lists.to_le_bytes());
        put(page, 44, &self.next_list.to_le_bytes());
        put(page, 48, &self.rows.to_le_bytes());
        for (i, probes) in self.probes.iter().enumerate() {
            put(page, 56 + 4 * i, &probes.to_le_bytes());
        }
        put(page, KEY_COLUMNS, &self.key_columns.to_le_bytes());
    }

    /// Where things lie on its pages.
    pub fn layout(&self, space: &Space) -> Layout {
        Layout::new(space, self.key_columns as usize)
    }

    /// The coordinates of the index.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`].
    pub fn space(&self, store: &impl PageStore) -> Result<Space> {
        let Ok(mut space) = Space::new(self.metric, self.dims as usize, self.seed) else {
            return corrupt(META, format!("{} dimensions", self.dims));
        };
        let mean = store.read(self.mean, |page| {
            page::expect(page, self.mean, Kind::Codes, 1)?;
            let mut mean = vec![0.0; space.width];
            Record::new(&page[HEADER..][..code::record_len(space.width)]).add_to(&mut mean);
            Ok(mean)
        })?;
        space.set_mean(mean);
        Ok(space)
    }

    /// Lists to visit for a recall, of `lists` that there are now.
    pub fn probes_for(&self, recall: f64, lists: usize) -> usize {
        let level = LEVELS.iter().position(|level| *level >= recall).unwrap_or(LEVELS.len() - 1);
        let measured = match self.probes[level] {
            // Not measured: what serves short texts well.
            0 => (4.0 * (lists as f64).sqrt()) as usize,
            // Lists that were added since split what the others held.
            probes => (f64::from(probes) * (lists as f64 / f64::from(self.lists.max(1))).max(1.0)) as usize,
        };
        measured.clamp(1, lists.max(1))
    }
}
