//! The access method `ann`: the index of `pg_answer_ann` in PostgreSQL's pages.
//!
//! Scans keep no pin on the pages they have read, though VACUUM may reuse a line pointer of the table while a scan
//! holds its number. That is sound because index scans use MVCC snapshots only (there is no bitmap scan, no unique
//! or exclusion constraint, no CLUSTER): a row that VACUUM may remove is visible to no snapshot, and one that takes
//! its place was inserted after this scan's snapshot was taken, so it is not visible to it either.

mod build;
mod check;
mod cost;
mod error;
mod handler;
mod insert;
mod keys;
mod opclass;
mod options;
mod pages;
mod scan;
mod space;
mod stats;
mod table;
mod vacuum;

pub use options::define as define_options;

use pg_answer_ann::RowId;
use pgrx::itemptr::{item_pointer_get_block_number, item_pointer_get_offset_number};
use pgrx::pg_sys::ItemPointerData;

/// The number of a row of the table.
fn row_id(pointer: ItemPointerData) -> RowId {
    // SAFETY: both read the struct that is passed.
    unsafe {
        u64::from(item_pointer_get_block_number(&raw const pointer)) << 16
            | u64::from(item_pointer_get_offset_number(&raw const pointer))
    }
}

/// The row of the table with a number.
fn item_pointer(row: RowId) -> ItemPointerData {
    let mut pointer = ItemPointerData::default();
    pgrx::itemptr::item_pointer_set_all(&mut pointer, (row >> 16) as u32, row as u16);
    pointer
}
