//! Ordered scans.

use std::rc::Rc;

use pg_answer_ann::Space;
use pg_answer_ann::meta::Meta;
use pg_answer_ann::search::{Effort, Search, Work};
use pgrx::pg_sys::{self, Datum, IndexScanDesc, Relation, ScanDirection, ScanKey};
use pgrx::{PgLogLevel, PgMemoryContexts, PgSqlErrorCode};

use super::keys::Keys;
use super::opclass::OpClass;
use super::pages::Pages;
use super::{item_pointer, space};
use crate::error::{OrRaise, Report};
use crate::settings;

/// A scan between two calls.
struct Scan {
    pages: Pages,
    meta: Meta,
    space: Rc<Space>,
    started: bool,
    /// None if the scan finds nothing.
    search: Option<Search>,
    /// Every distance is NULL.
    null: bool,
}

/// `ambeginscan`.
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn begin(index: Relation, keys: i32, orders: i32) -> IndexScanDesc {
    // SAFETY: PostgreSQL passes an open index, which stays open until the end of the scan; the state is dropped with
    // the memory context that the scan lives in, whether it ends or fails.
    unsafe {
        let scan = pg_sys::RelationGetIndexScan(index, keys, orders);
        let pages = Pages::new(index);
        let (meta, space) = space::of(index, &pages);
        let state = Scan { pages, meta, space, started: false, search: None, null: false };
        (*scan).opaque = PgMemoryContexts::CurrentMemoryContext.leak_and_drop_on_delete(state).cast();
        if orders > 0 {
            (*scan).xs_orderbyvals = pg_sys::palloc0(size_of::<Datum>() * orders as usize).cast();
            (*scan).xs_orderbynulls = pg_sys::palloc0(size_of::<bool>() * orders as usize).cast();
        }
        scan
    }
}

/// `amrescan`: begins anew, with other keys if there are some.
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn rescan(
    scan: IndexScanDesc,
    keys: ScanKey,
    key_count: i32,
    orders: ScanKey,
    order_count: i32,
) {
    // SAFETY: `begin` made the scan; its arrays have room for as many keys as it was begun with.
    unsafe {
        if !keys.is_null() && key_count > 0 {
            std::ptr::copy(keys, (*scan).keyData, key_count as usize);
        }
        if !orders.is_null() && order_count > 0 {
            std::ptr::copy(orders, (*scan).orderByData, order_count as usize);
        }
        (*(*scan).opaque.cast::<Scan>()).stop();
    }
}

/// `amgettuple`.
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn next(scan: IndexScanDesc, _direction: ScanDirection::Type) -> bool {
    // SAFETY: `begin` made the scan, and nothing else uses its state meanwhile.
    unsafe {
        let state = &mut *(*scan).opaque.cast::<Scan>();
        if !state.started {
            state.start(scan);
        }
        let Scan { pages, space, search: Some(search), .. } = state else { return false };
        let Some(found) = search.next(pages, space).or_raise() else { return false };
        (*scan).xs_heaptid = item_pointer(found.row);
        // Keys may be equal where values are not.
        (*scan).xs_recheck = (*scan).numberOfKeys > 0;
        (*scan).xs_recheckorderby = true;
        *(*scan).xs_orderbyvals = Datum::from(found.bound.to_bits());
        *(*scan).xs_orderbynulls = state.null;
        true
    }
}

/// `amendscan`.
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn end(scan: IndexScanDesc) {
    // SAFETY: `begin` made the scan.
    unsafe { (*(*scan).opaque.cast::<Scan>()).stop() }
}

impl Scan {
    /// Ends the search, and tells at DEBUG1 what it has done: EXPLAIN has no place for that before PostgreSQL 18.
    fn stop(&mut self) {
        self.started = false;
        let Some(search) = self.search.take() else { return };
        // SAFETY: a plain call.
        if unsafe { pg_sys::message_level_is_interesting(pg_sys::DEBUG1 as i32) } {
            let Work { lists, visited, seen, scored, refined, widened } = search.work();
            let message = format!(
                "ann scan: visited {visited} of {lists} lists, scored {scored} of {seen} entries, refined {refined}, \
                 widened {widened} times"
            );
            Report::new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message).report(PgLogLevel::DEBUG1);
        }
    }

    /// Begins the search for what the scan is ordered by.
    unsafe fn start(&mut self, scan: IndexScanDesc) {
        // SAFETY: the caller passes a scan that `begin` and `rescan` have filled.
        unsafe {
            if (*scan).numberOfOrderBys != 1 {
                let message = "an index of method ann is scanned in the order of one distance only";
                Report::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, message).raise();
            }
            // Statistics of the index's use, as other methods keep them.
            let index = (*scan).indexRelation;
            if !(*index).pgstat_info.is_null() {
                #[cfg(feature = "pg15")]
                let scans = &raw mut (*(*index).pgstat_info).t_counts.t_numscans;
                #[cfg(not(feature = "pg15"))]
                let scans = &raw mut (*(*index).pgstat_info).counts.numscans;
                *scans += 1;
            }
            let class = OpClass::of(index);
            let effort = Effort { recall: settings::target_recall(), probes: settings::probes() };
            let order = &*(*scan).orderByData;
            self.null = order.sk_flags & pg_sys::SK_ISNULL as i32 != 0;
            let conditions = match (*scan).numberOfKeys {
                0 => &[],
                count => std::slice::from_raw_parts((*scan).keyData, count as usize),
            };
            self.started = true;
            let Some(filter) = Keys::of(index).filter(index, conditions) else { return };
            let begin = |x: &[f32]| Search::new(&self.pages, &self.meta, &self.space, x, effort, filter);
            self.search = Some(if self.null {
                begin(&vec![0.0; self.space.dims]).or_raise()
            } else {
                class.with(order.sk_argument, |x| {
                    if x.len() != self.space.dims {
                        // The words of the operator, whose error it would be without the index.
                        let (kind, left, right) = (class.kind(), self.space.dims, x.len());
                        Err::<(), _>(pg_answer_vector::Error::DifferentDimensions { kind, left, right })
                            .or_raise();
                    }
                    begin(x)
                })
            });
        }
    }
}
