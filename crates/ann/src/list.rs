//! Pages of lists: entries with one-bit codes, and beside them pages of byte codes.
//!
//! A list is a chain of list pages. Each has room for some entries and names the pages that hold their byte codes: record
//! `i` is the one at place `i % per_page` of page `i / per_page`. Entry `i` has record `i`, unless there are filter keys: then
//! entries are written in the order of their keys, so that those that pass a filter are scored together, and each tells the
//! number of its record.

use crate::code::{self, Record};
use crate::error::corrupt;
use crate::kernels::{self, Groups, LANES};
use crate::page::{self, HEADER, Kind, put, u16_at, u32_at};
use crate::space::{Entry, Query};
use crate::store::{Block, NO_BLOCK, PAYLOAD};
use crate::{Key, Result, RowId, Space};

/// The id of no row: what a deleted entry holds.
pub const NO_ROW: RowId = 0xffff_ffff_ffff;

const INSERT: usize = 16;
const ROWS: usize = 20;
const HOLES: usize = 24;
const RETIRED: usize = 26;
const TRIED: usize = 28;
const BLOCKS: usize = 40;
const ID_LEN: usize = 6;
const KEY_LEN: usize = size_of::<Key>();
const NUMBER_LEN: usize = 2;

/// Where things lie on the pages of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Entries of a list page.
    pub capacity: usize,
    /// Records of a page of codes.
    pub per_page: usize,
    /// Key columns.
    pub key_columns: usize,
    record: usize,
    code: usize,
    ids: usize,
    /// Numbers of the records, if there are keys.
    numbers: usize,
    keys: usize,
    adds: usize,
    scales: usize,
    codes: usize,
}

impl Layout {
    /// The layout of an index with so many key columns.
    pub fn new(space: &Space, key_columns: usize) -> Self {
        let (record, code) = (code::record_len(space.width), space.bits / 8);
        let per_page = (PAYLOAD - HEADER) / record;
        let of = |capacity: usize| {
            let padded = capacity.next_multiple_of(LANES);
            let ids = BLOCKS + 4 * capacity.div_ceil(per_page);
            let numbers = ids + ID_LEN * capacity;
            let keys = numbers + if key_columns > 0 { NUMBER_LEN * capacity } else { 0 };
            let adds = keys + KEY_LEN * padded * key_columns;
            let scales = adds + 4 * padded;
            let codes = scales + 4 * padded;
            let layout = Self {
                capacity,
                per_page,
                key_columns,
                record,
                code,
                ids,
                numbers,
                keys,
                adds,
                scales,
                codes,
            };
            (layout, codes + padded * code <= PAYLOAD)
        };
        let most = (1..=PAYLOAD / (code + 14)).rev().find(|n| of(*n).1).unwrap_or(1);
        // Full pages of codes, if that costs little.
        let full = most - most % per_page;
        of(if full > 0 { full } else { most }).0
    }

    /// Where a list page is read first and in steps that no processor foresees; `column` is that of a filter's first condition.
    pub(crate) fn beginnings(&self, column: Option<usize>) -> [usize; 7] {
        let half = PAYLOAD / 2;
        match column {
            None => [0, self.adds, self.scales, self.codes, self.codes + 64, half, half + 64],
            // Which codes are read then the keys tell.
            Some(column) => {
                let keys = self.keys + column * self.keys_len();
                [0, keys, keys + 64, keys + 128, keys + 192, self.adds, self.scales]
            }
        }
    }

    /// Bytes of the keys of a column.
    fn keys_len(&self) -> usize {
        KEY_LEN * self.capacity.next_multiple_of(LANES)
    }

    /// Where a list page is read to find the row and the record of an entry.
    pub(crate) fn spot_lines(&self, entry: usize) -> [usize; 4] {
        let record = match self.key_columns {
            0 => BLOCKS + 4 * (entry / self.per_page),
            _ => self.numbers + NUMBER_LEN * entry,
        };
        [0, record, self.ids + ID_LEN * entry, self.adds + 4 * entry]
    }

    /// The cache lines of a record.
    pub(crate) fn record_lines(&self, place: usize) -> impl Iterator<Item = usize> {
        let at = HEADER + place * self.record;
        (at..at + self.record).step_by(64)
    }

    /// Pages of codes of a full list page.
    pub fn code_pages(&self) -> usize {
        self.capacity.div_ceil(self.per_page)
    }

    /// Checks that `page` is a list page of `list`.
    pub(crate) fn expect(&self, page: &[u8], block: Block, list: u32) -> Result<()> {
        page::expect_owner(page, block, Kind::List, self.capacity, list)
    }

    /// Checks that `page` holds codes of `list`.
    pub(crate) fn expect_codes(&self, page: &[u8], block: Block, list: u32) -> Result<()> {
        page::expect_owner(page, block, Kind::Codes, self.per_page, list)
    }

    /// Number of the record of an entry among those of its list page `block`.
    pub(crate) fn number(&self, page: &[u8], block: Block, entry: usize) -> Result<usize> {
        if self.key_columns == 0 {
            return Ok(entry);
        }
        match usize::from(u16_at(page, self.numbers + NUMBER_LEN * entry)) {
            number if number < page::count(page) => Ok(number),
            number => corrupt(block, format!("entry {entry} has record {number} of {}", page::count(page))),
        }
    }

    pub(crate) fn set_number(&self, page: &mut [u8], entry: usize, number: usize) {
        if self.key_columns > 0 {
            put(page, self.numbers + NUMBER_LEN * entry, &(number as u16).to_le_bytes());
        }
    }

    /// The page that holds the record of an entry of the list page `block`, and its place there.
    pub(crate) fn location(&self, page: &[u8], block: Block, entry: usize) -> Result<(Block, usize)> {
        let number = self.number(page, block, entry)?;
        Ok((self.code_page(page, number / self.per_page), number % self.per_page))
    }

    pub(crate) fn code_page(&self, page: &[u8], i: usize) -> Block {
        u32_at(page, BLOCKS + 4 * i)
    }

    pub(crate) fn set_code_page(&self, page: &mut [u8], i: usize, block: Block) {
        put(page, BLOCKS + 4 * i, &block.to_le_bytes());
    }

    /// Record at a place of a page of codes.
    pub(crate) fn record<'a>(&self, page: &'a [u8], place: usize) -> Record<'a> {
        Record::new(&page[HEADER + place * self.record..][..self.record])
    }

    pub(crate) fn put_record(&self, page: &mut [u8], place: usize, record: &[u8]) {
        debug_assert_eq!(record.len(), self.record);
        put(page, HEADER + place * self.record, record);
    }

    /// The row of an entry.
    pub(crate) fn row(&self, page: &[u8], entry: usize) -> RowId {
        let at = self.ids + ID_LEN * entry;
        u64::from(u32_at(page, at)) | u64::from(u16_at(page, at + 4)) << 32
    }

    /// Keys of one column, of all entries and a little beyond.
    pub(crate) fn keys<'a>(&self, page: &'a [u8], column: usize) -> &'a [u8] {
        debug_assert!(column < self.key_columns);
        &page[self.keys + column * self.keys_len()..][..self.keys_len()]
    }

    /// Keys of an entry.
    pub(crate) fn keys_of(&self, page: &[u8], entry: usize) -> Vec<Key> {
        let key = |column| Key::from_le_bytes(self.keys(page, column).as_chunks::<8>().0[entry]);
        (0..self.key_columns).map(key).collect()
    }

    pub(crate) fn add(&self, page: &[u8], entry: usize) -> f32 {
        page::f32_at(page, self.adds + 4 * entry)
    }

    /// Puts the entries of a page that nobody else sees into the order of their keys.
    pub(crate) fn sort(&self, page: &mut [u8]) {
        let keys: Vec<Vec<Key>> = (0..page::count(page)).map(|entry| self.keys_of(page, entry)).collect();
        if keys.is_sorted() {
            return;
        }
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by_key(|entry| &keys[*entry]);
        let before = page.to_vec();
        for (to, from) in order.into_iter().enumerate() {
            self.put_entry(page, to, self.row(&before, from), &keys[from], &self.entry(&before, from));
            self.set_number(page, to, usize::from(u16_at(&before, self.numbers + NUMBER_LEN * from)));
        }
    }

    /// Writes the part of an entry that is on its list page, but for the number of its record.
    pub(crate) fn put_entry(&self, page: &mut [u8], i: usize, row: RowId, keys: &[Key], entry: &Entry) {
        debug_assert_eq!(keys.len(), self.key_columns);
        put(page, self.ids + ID_LEN * i, &row.to_le_bytes()[..ID_LEN]);
        put(page, self.adds + 4 * i, &entry.add.to_le_bytes());
        put(page, self.scales + 4 * i, &entry.scale.to_le_bytes());
        for (j, key) in keys.iter().enumerate() {
            put(page, self.keys + j * self.keys_len() + KEY_LEN * i, &key.to_le_bytes());
        }
        let codes = self.codes + i / LANES * LANES * self.code;
        for (j, byte) in entry.bits.iter().enumerate() {
            page[codes + j * LANES + i % LANES] = *byte;
        }
    }

    /// The part of an entry that is on its list page; its record is not.
    pub(crate) fn entry(&self, page: &[u8], i: usize) -> Entry {
        let codes = self.codes + i / LANES * LANES * self.code;
        Entry {
            add: self.add(page, i),
            scale: page::f32_at(page, self.scales + 4 * i),
            bits: (0..self.code).map(|j| page[codes + j * LANES + i % LANES]).collect(),
            record: Vec::new(),
        }
    }

    /// Makes an entry a hole, which no score finds.
    pub(crate) fn erase(&self, page: &mut [u8], i: usize) {
        put(page, self.ids + ID_LEN * i, &NO_ROW.to_le_bytes()[..ID_LEN]);
        put(page, self.adds + 4 * i, &f32::NAN.to_le_bytes());
        set_holes(page, holes(page) + 1);
    }

    /// Estimates the distances, squared ones or negative products, of those of the entries that `masks`, one for each sixteen,
    /// have a bit for; the others get NaN. Returns how many are numbers.
    pub(crate) fn score(
        &self,
        page: &[u8],
        query: &Query,
        base: f32,
        masks: &[u16],
        estimates: &mut [f32],
    ) -> usize {
        let groups = Groups {
            codes: &page[self.codes..],
            adds: &page[self.adds..self.scales],
            scales: &page[self.scales..self.codes],
        };
        kernels::score(groups, query.scale(base), masks, estimates)
    }
}

/// Formats an empty list page.
pub(crate) fn format(page: &mut [u8], list: u32) {
    page::format(page, Kind::List, list);
    put(page, INSERT, &NO_BLOCK.to_le_bytes());
}

/// On a first page: where to look for room, or `NO_BLOCK` for the first page itself.
pub(crate) fn insert_at(page: &[u8]) -> Block {
    u32_at(page, INSERT)
}

pub(crate) fn set_insert_at(page: &mut [u8], block: Block) {
    put(page, INSERT, &block.to_le_bytes());
}

/// On a first page: rows of the list.
pub(crate) fn rows(page: &[u8]) -> u32 {
    u32_at(page, ROWS)
}

pub(crate) fn set_rows(page: &mut [u8], rows: u32) {
    put(page, ROWS, &rows.to_le_bytes());
}

/// Deleted entries of the page.
pub(crate) fn holes(page: &[u8]) -> usize {
    usize::from(u16_at(page, HOLES))
}

pub(crate) fn set_holes(page: &mut [u8], holes: usize) {
    put(page, HOLES, &(holes as u16).to_le_bytes());
}

/// On a first page: whether other lists have taken the place of this one.
pub(crate) fn is_retired(page: &[u8]) -> bool {
    u16_at(page, RETIRED) != 0
}

pub(crate) fn retire(page: &mut [u8]) {
    put(page, RETIRED, &1u16.to_le_bytes());
}

/// On a first page: rows of the list when it was found to be of one piece.
pub(crate) fn tried(page: &[u8]) -> u32 {
    u32_at(page, TRIED)
}

pub(crate) fn set_tried(page: &mut [u8], rows: u32) {
    put(page, TRIED, &rows.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metric;

    #[test]
    fn a_sorted_page_has_the_same_entries() {
        let space = Space::new(Metric::L2, 64, 1).expect("dimensions");
        let layout = Layout::new(&space, 2);
        let mut page = vec![0; PAYLOAD];
        format(&mut page, 7);
        let keys = |i: usize| [(i * 7 % 5) as Key, -(i as Key)];
        for i in 0..layout.capacity {
            let row: Vec<f32> = (0..64).map(|j| ((i * 31 + j * 17) % 13) as f32 - 6.0).collect();
            let entry = space.encode(&space.row(&row).expect("dimensions"), &[0.0; 64]);
            layout.put_entry(&mut page, i, i as RowId, &keys(i), &entry);
            layout.set_number(&mut page, i, i);
            page::set_count(&mut page, i + 1);
        }
        let before = page.clone();
        layout.sort(&mut page);
        let all = |page: &[u8]| -> Vec<Vec<Key>> {
            (0..layout.capacity).map(|i| layout.keys_of(page, i)).collect()
        };
        assert!(all(&page).is_sorted() && !all(&before).is_sorted());
        for i in 0..layout.capacity {
            let row = layout.row(&page, i) as usize;
            assert_eq!((layout.number(&page, 0, i), layout.keys_of(&page, i)), (Ok(row), keys(row).to_vec()));
            let (now, then) = (layout.entry(&page, i), layout.entry(&before, row));
            assert_eq!((now.bits, now.add, now.scale), (then.bits, then.add, then.scale));
        }
    }
}
