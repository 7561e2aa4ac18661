//! What a scan costs, for the planner.

use pg_answer_ann::list::Layout;
use pgrx::pg_sys::{self, Cost, IndexPath, PlannerInfo, Selectivity};

use super::pages::Pages;
use super::space;
use crate::settings;

/// Rows refined before the first one is returned, about.
const REFINED: f64 = 100.0;
/// Share of the price of a random page that a page costs whose neighbours are read with it.
const CLUSTERED: f64 = 0.5;

/// `amcostestimate`. Before the first row come the directory, the lists that the recall asks for and the refinement of
/// the best; the whole index costs all of its pages.
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn estimate(
    _root: *mut PlannerInfo,
    path: *mut IndexPath,
    _loops: f64,
    startup: *mut Cost,
    total: *mut Cost,
    selectivity: *mut Selectivity,
    correlation: *mut f64,
    index_pages: *mut f64,
) {
    // SAFETY: the planner passes a path of an index that it has locked, and places for the results.
    unsafe {
        let info = (*path).indexinfo;
        *correlation = 0.0;
        if (*path).indexorderbys.is_null() {
            // It has no order of its own, and finds nothing by equality.
            (*startup, *total) = (f64::INFINITY, f64::INFINITY);
            (*selectivity, *index_pages) = (0.0, 0.0);
            return;
        }
        let index = pg_sys::index_open((*info).indexoid, pg_sys::NoLock as i32);
        let (meta, space) = space::of(index, &Pages::new(index));
        pg_sys::index_close(index, pg_sys::NoLock as i32);

        let (mut random, mut sequential) = (0.0, 0.0);
        pg_sys::get_tablespace_page_costs((*info).reltablespace, &raw mut random, &raw mut sequential);
        let (pages, rows) = (f64::from((*info).pages), (*info).tuples.max(0.0));
        let lists = (meta.lists as usize).max(1);
        let probes = settings::probes().unwrap_or_else(|| meta.probes_for(settings::target_recall(), lists));
        let share = (probes as f64 / lists as f64).min(1.0);
        let list_pages = pages / (1.0 + Layout::new(&space).code_pages() as f64);
        let directory = (lists * space.width) as f64 / f64::from(pg_sys::BLCKSZ);
        let refined = REFINED.min(rows);
        let first_pages = directory * sequential
            + share * list_pages * (random * CLUSTERED).max(sequential)
            + refined.min(pages) * (random * CLUSTERED).max(sequential);
        // Sixteen codes are scored at the price of one operator; a byte code is a distance.
        let first_work = (share * rows / 16.0 + lists as f64 + refined) * pg_sys::cpu_operator_cost;
        *startup = first_pages + first_work;
        *total =
            *startup + pages * random + rows * (pg_sys::cpu_index_tuple_cost + pg_sys::cpu_operator_cost);
        (*selectivity, *index_pages) = (1.0, pages);
    }
}
