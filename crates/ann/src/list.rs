//! Pages of lists: entries with one-bit codes, and beside them pages of byte codes.
//!
//! A list is a chain of list pages. Each has room for some entries and names the pages that hold their byte codes:
//! entry `i` has record `i % per_page` of page `i / per_page`.

use crate::code::{self, Record};
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
            let keys = ids + ID_LEN * capacity;
            let adds = keys + KEY_LEN * padded * key_columns;
            let scales = adds + 4 * padded;
            let codes = scales + 4 * padded;
            let layout =
                Self { capacity, per_page, key_columns, record, code, ids, keys, adds, scales, codes };
            (layout, codes + padded * code <= PAYLOAD)
        };
        let most = (1..=PAYLOAD / (code + 14)).rev().find(|n| of(*n).1).unwrap_or(1);
        // Full pages of codes, if that costs little.
        let full = most - most % per_page;
        of(if full > 0 { full } else { most }).0
    }

    /// Where a list page is read first and in steps that no processor foresees.
    pub(crate) fn beginnings(&self) -> [usize; 7] {
        let half = PAYLOAD / 2;
        [0, self.adds, self.scales, self.codes, self.codes + 64, half, half + 64]
    }

    /// Where a list page is read to find the row and the record of an entry.
    pub(crate) fn spot_lines(&self, entry: usize) -> [usize; 4] {
        let block = BLOCKS + 4 * (entry / self.per_page);
        [0, block, self.ids + ID_LEN * entry, self.adds + 4 * entry]
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

    /// The page that holds the record of an entry, and its place there.
    pub(crate) fn location(&self, page: &[u8], entry: usize) -> (Block, usize) {
        (self.code_page(page, entry / self.per_page), entry % self.per_page)
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
        let len = KEY_LEN * self.capacity.next_multiple_of(LANES);
        &page[self.keys + column * len..][..len]
    }

    /// Keys of an entry.
    pub(crate) fn keys_of(&self, page: &[u8], entry: usize) -> Vec<Key> {
        let key = |column| Key::from_le_bytes(self.keys(page, column).as_chunks::<8>().0[entry]);
        (0..self.key_columns).map(key).collect()
    }

    pub(crate) fn add(&self, page: &[u8], entry: usize) -> f32 {
        page::f32_at(page, self.adds + 4 * entry)
    }

    /// Writes the part of an entry that is on its list page.
    pub(crate) fn put_entry(&self, page: &mut [u8], i: usize, row: RowId, keys: &[Key], entry: &Entry) {
        debug_assert_eq!(keys.len(), self.key_columns);
        put(page, self.ids + ID_LEN * i, &row.to_le_bytes()[..ID_LEN]);
        put(page, self.adds + 4 * i, &entry.add.to_le_bytes());
        put(page, self.scales + 4 * i, &entry.scale.to_le_bytes());
        let column = KEY_LEN * self.capacity.next_multiple_of(LANES);
        for (j, key) in keys.iter().enumerate() {
            put(page, self.keys + j * column + KEY_LEN * i, &key.to_le_bytes());
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
