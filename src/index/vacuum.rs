//! `ambulkdelete` and `amvacuumcleanup`.

use pg_answer_ann::store::PageStore;
use pg_answer_ann::sweep::sweep;
use pg_answer_ann::upkeep::upkeep;
use pg_answer_ann::vacuum::{Removed, remove};
use pgrx::pg_sys::{self, IndexBulkDeleteCallback, IndexBulkDeleteResult, IndexVacuumInfo};

use super::pages::Pages;
use super::{item_pointer, options, space};
use crate::error::OrRaise;

/// Removes the rows that the callback calls dead, or counts all if it calls none so.
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn bulk_delete(
    info: *mut IndexVacuumInfo,
    stats: *mut IndexBulkDeleteResult,
    callback: IndexBulkDeleteCallback,
    state: *mut core::ffi::c_void,
) -> *mut IndexBulkDeleteResult {
    // SAFETY: PostgreSQL passes an open index, the statistics of the last call or null, and a callback with its state.
    unsafe {
        let pages = Pages::for_vacuum((*info).index);
        let (meta, space) = space::of((*info).index, &pages);
        let Some(callback) = callback else { return stats };
        let removed = remove(&pages, &meta, &space, |row| {
            let mut pointer = item_pointer(row);
            pg_sys::ffi::pg_guard_ffi_boundary(|| callback(&raw mut pointer, state))
        })
        .or_raise();
        report(&pages, stats, removed)
    }
}

/// After the last removal, or without one if nothing is dead: frees pages, and splits lists that have become long.
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn cleanup(
    info: *mut IndexVacuumInfo,
    stats: *mut IndexBulkDeleteResult,
) -> *mut IndexBulkDeleteResult {
    // SAFETY: as above. VACUUM's lock on the table keeps other VACUUMs off.
    unsafe {
        if (*info).analyze_only {
            return stats;
        }
        let index = (*info).index;
        let pages = Pages::for_vacuum(index);
        let (meta, space) = space::of(index, &pages);
        let free = sweep(&pages, &space).or_raise();
        let memory = usize::try_from(work_mem()).unwrap_or(0) * 1024;
        upkeep(&pages, &space, options::lists(index), memory).or_raise();
        pg_sys::IndexFreeSpaceMapVacuum(index);
        let counted = match stats.is_null() {
            true => remove(&pages, &meta, &space, |_| false).or_raise(),
            false => Removed { kept: (*stats).num_index_tuples as u64, removed: 0 },
        };
        let stats = report(&pages, stats, counted);
        (*stats).pages_free = free as u32;
        stats
    }
}

/// What VACUUM may use, in kB: autovacuum has a setting of its own, -1 if it is the same.
fn work_mem() -> i32 {
    // SAFETY: plain calls; the text of a setting is valid until the next call.
    unsafe {
        if pg_sys::MyBackendType == pg_sys::BackendType::B_AUTOVAC_WORKER {
            let text = pg_sys::GetConfigOption(c"autovacuum_work_mem".as_ptr(), true, false);
            let own = (!text.is_null()).then(|| std::ffi::CStr::from_ptr(text));
            if let Some(own) = own.and_then(|own| own.to_str().ok()?.parse().ok()).filter(|own| *own >= 0) {
                return own;
            }
        }
        pg_sys::maintenance_work_mem
    }
}

unsafe fn report(
    pages: &Pages,
    stats: *mut IndexBulkDeleteResult,
    removed: Removed,
) -> *mut IndexBulkDeleteResult {
    // SAFETY: a new result is zeroed memory in the current context; another is the caller's.
    unsafe {
        let stats = match stats.is_null() {
            true => pg_sys::palloc0(size_of::<IndexBulkDeleteResult>()).cast::<IndexBulkDeleteResult>(),
            false => stats,
        };
        (*stats).num_pages = pages.len();
        (*stats).num_index_tuples = removed.kept as f64;
        (*stats).tuples_removed += removed.removed as f64;
        stats
    }
}
