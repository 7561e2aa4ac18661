//! The rows of a table that belong into an index.

use pg_answer_ann::Key;
use pgrx::pg_sys::{self, Datum, IndexInfo, ItemPointer, Relation, Snapshot, TableScanDesc};

use super::keys::Keys;
use super::opclass::OpClass;
use super::row_id;

/// A table and an index on it, both open.
pub struct Table {
    heap: Relation,
    index: Relation,
    info: *mut IndexInfo,
    /// Operator class of the vector.
    pub class: OpClass,
    /// The columns behind it.
    pub keys: Keys,
}

/// Takes rows of the table.
pub type Take<'a> = dyn FnMut(u64, &[f32], &[Key]) -> pg_answer_ann::Result<()> + 'a;

struct Callback<'a> {
    table: &'a Table,
    take: &'a mut Take<'a>,
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn take_row(
    _index: Relation,
    row: ItemPointer,
    values: *mut Datum,
    nulls: *mut bool,
    _alive: bool,
    state: *mut core::ffi::c_void,
) {
    // SAFETY: PostgreSQL passes what `Table::scan_with` gave it, and the values of a row.
    unsafe {
        if !*nulls {
            let callback = &mut *state.cast::<Callback<'_>>();
            let Table { class, keys, .. } = callback.table;
            let keys = keys.of_row(values, nulls);
            class.with(*values, |x| (callback.take)(row_id(*row), x, &keys));
        }
    }
}

impl Table {
    /// The table of an index.
    ///
    /// # Safety
    /// Both stay open while this is used, and `info` is that of the index.
    pub unsafe fn new(heap: Relation, index: Relation, info: *mut IndexInfo) -> Self {
        // SAFETY: the caller vouches for the index.
        unsafe { Self { heap, index, info, keys: Keys::of(index), class: OpClass::of(index) } }
    }

    /// Shows all rows of some blocks that belong into the index when it is built; returns how many rows were read.
    pub fn scan<'a>(&'a self, blocks: std::ops::Range<u32>, progress: bool, take: &'a mut Take<'a>) -> f64 {
        self.scan_with(blocks, progress, std::ptr::null_mut(), take)
    }

    /// Shows the rows that a snapshot sees; returns how many rows were read.
    ///
    /// # Safety
    /// The snapshot is registered.
    pub unsafe fn scan_visible<'a>(&'a self, snapshot: Snapshot, take: &'a mut Take<'a>) -> f64 {
        // SAFETY: the caller vouches for the snapshot; the scan below ends what is begun here. A concurrent build is
        // what reads a table by a snapshot.
        let scan = unsafe {
            (*self.info).ii_Concurrent = true;
            pg_sys::table_beginscan_strat(self.heap, snapshot, 0, std::ptr::null_mut(), true, true)
        };
        self.scan_with(0..pg_sys::InvalidBlockNumber, false, scan, take)
    }

    fn scan_with<'a>(
        &'a self,
        blocks: std::ops::Range<u32>,
        progress: bool,
        by: TableScanDesc,
        take: &'a mut Take<'a>,
    ) -> f64 {
        let mut callback = Callback { table: self, take };
        // SAFETY: `new` vouches for the relations; the callback outlives the call.
        unsafe {
            let scan = (*(*self.heap).rd_tableam).index_build_range_scan.expect("a table can be indexed");
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                scan(
                    self.heap,
                    self.index,
                    self.info,
                    false,
                    false,
                    progress,
                    blocks.start,
                    blocks.end - blocks.start,
                    Some(take_row),
                    (&raw mut callback).cast(),
                    by,
                )
            })
        }
    }

    /// Blocks of the table.
    pub fn blocks(&self) -> u32 {
        // SAFETY: `new` vouches for the relation.
        unsafe { pg_sys::RelationGetNumberOfBlocksInFork(self.heap, pg_sys::ForkNumber::MAIN_FORKNUM) }
    }
}
