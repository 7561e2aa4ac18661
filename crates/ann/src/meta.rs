//! The first page: what an index is.

use crate::code::{self, Record};
use crate::error::corrupt;
use crate::filter::MOST_KEYS;
use crate::list::Layout;
use crate::page::{self, HEADER, Kind, put, u32_at, u64_at};
use crate::store::{Block, Change, PageStore};
use crate::{Metric, Result, Space};

/// Number of the page.
pub const META: Block = 0;

/// Recalls for which an index knows how many lists to visit.
pub const LEVELS: [f64; 6] = [0.8, 0.9, 0.95, 0.97, 0.99, 0.995];

const KEY_COLUMNS: usize = 56 + 4 * LEVELS.len();
const VERSION: usize = KEY_COLUMNS + 4;
const UNCLEAN_SINCE: usize = VERSION + 4;

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
    /// Lists when the probes were measured, by the build or since.
    pub lists: u32,
    /// Rows at that time.
    pub rows: u64,
    /// Number that the next list gets.
    pub next_list: u32,
    /// Lists to visit for each of [`LEVELS`], 0 if that could not be measured.
    pub probes: [u32; LEVELS.len()],
    /// Key columns beside the vector.
    pub key_columns: u32,
    /// Changes of the directory since the build.
    pub version: u32,
    /// Since this time of the store there may be pages that belong to no list; 0: there is none.
    pub unclean_since: u64,
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
            version: u32_at(page, VERSION),
            unclean_since: u64_at(page, UNCLEAN_SINCE),
        })
    }

    /// Locks the first page in a change and alters it.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`], and those of the store.
    pub(crate) fn alter(change: &mut impl Change, how: impl FnOnce(&mut Self)) -> Result<Self> {
        let place = change.lock(META)?;
        let mut meta = Self::decode(change.page(place))?;
        how(&mut meta);
        meta.encode(change.page_mut(place));
        Ok(meta)
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
        put(page, VERSION, &self.version.to_le_bytes());
        put(page, UNCLEAN_SINCE, &self.unclean_since.to_le_bytes());
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
