//! The first page: what an index is.

use crate::code::{self, Record};
use crate::error::corrupt;
use crate::filter::MOST_KEYS;
use crate::list::Layout;
use crate::page::{self, HEADER, Kind, f32_at, put, u32_at, u64_at};
use crate::store::{Block, Change, PageStore};
use crate::{Metric, Result, Space};

/// Number of the page.
pub const META: Block = 0;

/// Recalls for which an index knows how many lists to visit.
pub const LEVELS: [f64; 6] = [0.8, 0.9, 0.95, 0.97, 0.99, 0.995];

const KEY_COLUMNS: usize = 56 + 4 * LEVELS.len();
const VERSION: usize = KEY_COLUMNS + 4;
const UNCLEAN_SINCE: usize = VERSION + 4;
const SLOPE: usize = UNCLEAN_SINCE + 8;
const LIMITS: usize = SLOPE + 4;
const DEPTHS: usize = LIMITS + 4 * LEVELS.len();
const OPEN: usize = DEPTHS + 4 * LEVELS.len();
const CODE_PAGES: usize = OPEN + 4;

/// Added to the number of lists before a list, so that the first few hardly differ.
const HEAD: f64 = 3.0;

/// Which lists a search visits: those whose cost is not above a limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reach {
    slope: f64,
    limit: f64,
}

impl Reach {
    /// The nearest `probes` lists, however far they are.
    pub fn lists(probes: usize) -> Self {
        Self { slope: 0.0, limit: cost(0.0, probes.saturating_sub(1), 0.0) }
    }

    /// Whether to visit the list behind `before` others, when it is so much farther than the nearest one and `times` as
    /// many lists as usual are wanted.
    pub fn contains(&self, before: usize, farther: f64, times: f64) -> bool {
        // Rounding must not leave out the last list of a count.
        cost(self.slope, before, farther) <= self.limit + times.ln() + 1e-9
    }
}

/// How unlikely a near row is in the list behind `before` others: a query in a dense place, whose lists are soon far away
/// in comparison with the first, needs few of them, and one between many lists needs many.
pub(crate) fn cost(slope: f64, before: usize, farther: f64) -> f64 {
    // Where distances are beyond single precision, the number decides alone.
    let farther = if farther.is_finite() { farther } else { 0.0 };
    (before as f64 + HEAD).ln() + slope * farther
}

/// What was measured on rows that served as queries.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Calibrated {
    /// Lists that are visited on average for each of [`LEVELS`], 0 if that could not be measured.
    pub probes: [u32; LEVELS.len()],
    /// Weight of a list's distance in its cost.
    pub slope: f32,
    /// Limit of the cost for each of [`LEVELS`]; 0 if it was not measured, since no list costs as little.
    pub limits: [f32; LEVELS.len()],
    /// Entries to refine for each of [`LEVELS`] at least, because one-bit codes rank rows only about right.
    pub depths: [f32; LEVELS.len()],
}

/// What the first page says.
#[derive(Debug, Clone, PartialEq)]
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
    /// Lists to visit for a recall.
    pub calibrated: Calibrated,
    /// Key columns beside the vector.
    pub key_columns: u32,
    /// Changes of the directory since the build.
    pub version: u32,
    /// Since this time of the store there may be pages that belong to no list; 0: there is none.
    pub unclean_since: u64,
    /// First page of the chain of those with room for byte codes.
    pub open: Block,
    /// Pages of byte codes.
    pub code_pages: u32,
}

impl Meta {
    /// Reads the first page.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`].
    pub fn read(store: &impl PageStore) -> Result<Self> {
        store.read(META, Self::decode)
    }

    pub(crate) fn decode(page: &[u8]) -> Result<Self> {
        page::expect(page, META, Kind::Meta, 0)?;
        let Some(metric) = Metric::from_number(page[HEADER]) else {
            return corrupt(META, format!("unknown distance {}", page[HEADER]));
        };
        let key_columns = u32_at(page, KEY_COLUMNS);
        // Whatever is there, a cost is a number and grows with the distance.
        let number = |at| Some(f32_at(page, at)).filter(|x| x.is_finite() && *x > 0.0).unwrap_or(0.0);
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
            calibrated: Calibrated {
                probes: std::array::from_fn(|i| u32_at(page, 56 + 4 * i)),
                slope: number(SLOPE),
                limits: std::array::from_fn(|i| number(LIMITS + 4 * i)),
                depths: std::array::from_fn(|i| number(DEPTHS + 4 * i)),
            },
            key_columns,
            version: u32_at(page, VERSION),
            unclean_since: u64_at(page, UNCLEAN_SINCE),
            open: u32_at(page, OPEN),
            code_pages: u32_at(page, CODE_PAGES),
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
        for (i, probes) in self.calibrated.probes.iter().enumerate() {
            put(page, 56 + 4 * i, &probes.to_le_bytes());
        }
        put(page, SLOPE, &self.calibrated.slope.to_le_bytes());
        for (i, limit) in self.calibrated.limits.iter().enumerate() {
            put(page, LIMITS + 4 * i, &limit.to_le_bytes());
        }
        for (i, depth) in self.calibrated.depths.iter().enumerate() {
            put(page, DEPTHS + 4 * i, &depth.to_le_bytes());
        }
        put(page, KEY_COLUMNS, &self.key_columns.to_le_bytes());
        put(page, VERSION, &self.version.to_le_bytes());
        put(page, UNCLEAN_SINCE, &self.unclean_since.to_le_bytes());
        put(page, OPEN, &self.open.to_le_bytes());
        put(page, CODE_PAGES, &self.code_pages.to_le_bytes());
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

    /// Lists that are visited for a recall on average, of `lists` that there are now.
    pub fn probes_for(&self, recall: f64, lists: usize) -> usize {
        let probes = between(&self.calibrated.probes.map(f64::from), recall);
        let measured = match probes > 0.0 {
            // Not measured: what serves short texts well.
            false => 4.0 * (lists as f64).sqrt(),
            true => probes * self.lists_added(lists),
        };
        (measured as usize).clamp(1, lists.max(1))
    }

    /// The lists to visit for a recall, of `lists` that there are now.
    pub fn reach_for(&self, recall: f64, lists: usize) -> Reach {
        let limit = between(&self.calibrated.limits.map(f64::from), recall);
        match limit > 0.0 {
            false => Reach::lists(self.probes_for(recall, lists)),
            true => {
                let limit = limit + self.lists_added(lists).ln();
                Reach { slope: f64::from(self.calibrated.slope), limit }
            }
        }
    }

    /// Entries to refine for a recall at least.
    pub fn depth_for(&self, recall: f64) -> f64 {
        between(&self.calibrated.depths.map(f64::from), recall)
    }

    /// Lists that were added since the measurement split what the others held.
    fn lists_added(&self, lists: usize) -> f64 {
        (lists as f64 / f64::from(self.lists.max(1))).max(1.0)
    }
}

/// A value for a recall from those for [`LEVELS`], in between in proportion to the logarithm of the misses.
fn between(values: &[f64; LEVELS.len()], recall: f64) -> f64 {
    let above = LEVELS.iter().position(|level| *level >= recall).unwrap_or(LEVELS.len() - 1);
    let (high, below) = (LEVELS[above], above.saturating_sub(1));
    let low = LEVELS[below];
    if recall >= high || recall <= low || values[below] == 0.0 {
        return values[above];
    }
    let share = ((1.0 - recall) / (1.0 - low)).ln() / ((1.0 - high) / (1.0 - low)).ln();
    values[below] + share * (values[above] - values[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_between_those_of_the_levels() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        for (recall, want) in [(0.1, 1.0), (0.8, 1.0), (0.95, 3.0), (0.995, 6.0), (1.0, 6.0)] {
            assert_eq!(between(&values, recall), want);
        }
        let middle = between(&values, 1.0 - (0.03f64 * 0.01).sqrt());
        assert!((middle - 4.5).abs() < 1e-9, "{middle}");
    }

    #[test]
    fn a_reach_of_lists_counts_them() {
        for probes in [1, 2, 3, 10, 1000, 100_000] {
            let reach = Reach::lists(probes);
            assert!(reach.contains(probes - 1, 1e9, 1.0) && !reach.contains(probes, 0.0, 1.0), "{probes}");
            assert!(reach.contains(2 * probes - 1, 0.0, 2.0));
        }
    }
}
