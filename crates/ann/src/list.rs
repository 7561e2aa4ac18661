//! Pages of lists: entries with one-bit codes, and where their rows and byte codes are.
//!
//! A list is a chain of list pages. A row has an entry in its list, and mostly a second one in another list; both name the
//! same [byte code](crate::records). A build writes the entries of a page in the order of their filter keys, so that those
//! that pass a filter are scored together.

use crate::kernels::{self, Groups, LANES};
use crate::page::{self, Kind, put, u16_at, u32_at};
use crate::records::{self, Place};
use crate::space::{Entry, Query};
use crate::store::{Block, NO_BLOCK, PAYLOAD};
use crate::{Key, Result, RowId, Space};

/// The id of no row: what a deleted entry holds.
pub const NO_ROW: RowId = 0xffff_ffff_ffff;

const INSERT: usize = 16;
const LENGTH: usize = 20;
const HOLES: usize = 24;
const RETIRED: usize = 26;
const TRIED: usize = 28;
const ROWS: usize = 32;
const SPOTS: usize = 40;
/// A row's id, and the page and slot of its byte code.
const ID_LEN: usize = 6;
const SPOT_LEN: usize = ID_LEN + 5;
/// Of the byte with the slot: that the entry is the row's second.
const SECOND: u8 = 1 << 7;
const KEY_LEN: usize = size_of::<Key>();
/// Bytes of a factor, the upper half of a number of single precision: one-bit codes are wrong by much more.
pub(crate) const FACTOR_LEN: usize = 2;
/// What is added to the score of a row that comes last.
const LAST: f32 = f32::from_bits(0x7f7f_0000);

/// An entry to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewEntry<'a> {
    pub row: RowId,
    pub keys: &'a [Key],
    pub entry: &'a Entry,
    /// Whether the row has a first one in another list.
    pub second: bool,
}

/// Where things lie on the pages of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Entries of a list page.
    pub capacity: usize,
    /// Records of a page of codes.
    pub per_page: usize,
    /// Key columns.
    pub key_columns: usize,
    code: usize,
    keys: usize,
    adds: usize,
    scales: usize,
    codes: usize,
}

impl Layout {
    /// The layout of an index with so many key columns.
    pub fn new(space: &Space, key_columns: usize) -> Self {
        let code = space.bits / 8;
        let of = |capacity: usize| {
            let padded = capacity.next_multiple_of(LANES);
            let keys = SPOTS + SPOT_LEN * capacity;
            let adds = keys + KEY_LEN * padded * key_columns;
            let scales = adds + FACTOR_LEN * padded;
            let codes = scales + FACTOR_LEN * padded;
            let per_page = records::per_page(space.width);
            let layout = Self { capacity, per_page, key_columns, code, keys, adds, scales, codes };
            (layout, codes + padded * code <= PAYLOAD)
        };
        let most = (1..=PAYLOAD / code).rev().find(|n| of(*n).1).unwrap_or(1);
        of(most).0
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
    pub(crate) fn spot_lines(&self, entry: usize) -> [usize; 3] {
        [0, SPOTS + SPOT_LEN * entry, self.adds + FACTOR_LEN * entry]
    }

    /// Checks that `page` is a list page of `list`.
    pub(crate) fn expect(&self, page: &[u8], block: Block, list: u32) -> Result<()> {
        page::expect_owner(page, block, Kind::List, self.capacity, list)
    }

    /// The row of an entry.
    pub(crate) fn row(&self, page: &[u8], entry: usize) -> RowId {
        let at = SPOTS + SPOT_LEN * entry;
        u64::from(u32_at(page, at)) | u64::from(u16_at(page, at + 4)) << 32
    }

    /// Where the byte code of an entry is.
    pub(crate) fn place(&self, page: &[u8], entry: usize) -> Place {
        let at = SPOTS + SPOT_LEN * entry + ID_LEN;
        Place { block: u32_at(page, at), slot: usize::from(page[at + 4] & !SECOND) }
    }

    /// Whether an entry is the second of its row.
    pub(crate) fn is_second(&self, page: &[u8], entry: usize) -> bool {
        page[SPOTS + SPOT_LEN * entry + SPOT_LEN - 1] & SECOND != 0
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
            let (entry, second) = (self.entry(&before, from), self.is_second(&before, from));
            let new = NewEntry { row: self.row(&before, from), keys: &keys[from], entry: &entry, second };
            self.put_entry(page, to, &new, self.place(&before, from));
        }
    }

    pub(crate) fn add(&self, page: &[u8], entry: usize) -> f32 {
        page::half_at(page, self.adds + FACTOR_LEN * entry)
    }

    /// Whether the row of an entry comes last in every order.
    pub(crate) fn is_last(&self, page: &[u8], entry: usize) -> bool {
        self.add(page, entry) == LAST
    }

    /// Writes an entry.
    pub(crate) fn put_entry(&self, page: &mut [u8], i: usize, new: &NewEntry<'_>, place: Place) {
        debug_assert_eq!(new.keys.len(), self.key_columns);
        let at = SPOTS + SPOT_LEN * i;
        put(page, at, &new.row.to_le_bytes()[..ID_LEN]);
        put(page, at + ID_LEN, &place.block.to_le_bytes());
        page[at + SPOT_LEN - 1] = place.slot as u8 | if new.second { SECOND } else { 0 };
        let add = if new.entry.last { LAST } else { new.entry.add };
        put(page, self.adds + FACTOR_LEN * i, &upper_half(add).to_le_bytes());
        put(page, self.scales + FACTOR_LEN * i, &upper_half(new.entry.scale).to_le_bytes());
        for (j, key) in new.keys.iter().enumerate() {
            put(page, self.keys + j * self.keys_len() + KEY_LEN * i, &key.to_le_bytes());
        }
        let codes = self.codes + i / LANES * LANES * self.code;
        for (j, byte) in new.entry.bits.iter().enumerate() {
            page[codes + j * LANES + i % LANES] = *byte;
        }
    }

    /// The one-bit code of an entry with its factors.
    pub(crate) fn entry(&self, page: &[u8], i: usize) -> Entry {
        let codes = self.codes + i / LANES * LANES * self.code;
        Entry {
            add: self.add(page, i),
            scale: page::half_at(page, self.scales + FACTOR_LEN * i),
            last: self.is_last(page, i),
            bits: (0..self.code).map(|j| page[codes + j * LANES + i % LANES]).collect(),
        }
    }

    /// Makes an entry a hole, which no score finds.
    pub(crate) fn erase(&self, page: &mut [u8], i: usize) {
        put(page, SPOTS + SPOT_LEN * i, &NO_ROW.to_le_bytes()[..ID_LEN]);
        put(page, self.adds + FACTOR_LEN * i, &upper_half(f32::NAN).to_le_bytes());
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

/// On a first page: entries of the list.
pub(crate) fn length(page: &[u8]) -> u32 {
    u32_at(page, LENGTH)
}

/// On a first page: entries of the list that are the first of their rows.
pub(crate) fn rows(page: &[u8]) -> u32 {
    u32_at(page, ROWS)
}

/// Notes on a first page how many entries the list has, and how many of them are the first of their rows.
pub(crate) fn set_length(page: &mut [u8], length: u32, rows: u32) {
    put(page, LENGTH, &length.to_le_bytes());
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

/// On a first page: entries of the list when it was found to be of one piece.
pub(crate) fn tried(page: &[u8]) -> u32 {
    u32_at(page, TRIED)
}

pub(crate) fn set_tried(page: &mut [u8], length: u32) {
    put(page, TRIED, &length.to_le_bytes());
}

/// The upper half of a number, rounded.
pub(crate) fn upper_half(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 1;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
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
            let new = NewEntry { row: i as RowId, keys: &keys(i), entry: &entry, second: i % 3 == 0 };
            layout.put_entry(&mut page, i, &new, Place { block: 2 * i as Block, slot: i % 128 });
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
            let place = Place { block: 2 * row as Block, slot: row % 128 };
            assert_eq!((layout.place(&page, i), layout.is_second(&page, i)), (place, row.is_multiple_of(3)));
            assert_eq!(layout.keys_of(&page, i), keys(row));
            let (now, then) = (layout.entry(&page, i), layout.entry(&before, row));
            assert_eq!((now.bits, now.add, now.scale), (then.bits, then.add, then.scale));
        }
    }
}
