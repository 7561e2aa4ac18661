//! What a scan costs, for the planner.

use pgrx::pg_sys::{self, Cost, IndexPath, PlannerInfo, Selectivity};

use super::pages::Pages;
use super::space;
use crate::settings;

/// Rows refined before the first one is returned, about.
const REFINED: f64 = 100.0;
/// Byte codes read for each row that is returned, deep in a result.
const CODES: f64 = 2.0;
/// Share of the price of a random page that a page costs whose neighbours are read with it.
const CLUSTERED: f64 = 0.5;

/// `amcostestimate`. Before the first row come the directory, the lists that the recall asks for and the refinement of
/// the best; the whole index costs all of its pages, and the byte codes of its rows come from pages all over. Conditions on keys make more lists necessary, of whose entries
/// fewer are scored.
#[pgrx::pg_guard]
#[allow(clippy::too_many_arguments)] // the server's interface
pub unsafe extern "C-unwind" fn estimate(
    root: *mut PlannerInfo,
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
        let conditions = pg_sys::get_quals_from_indexclauses((*path).indexclauses);
        if (*path).indexorderbys.is_null() || asks_for_null_vectors(path) {
            // It has no order of its own, and does not hold all rows.
            (*startup, *total) = (f64::INFINITY, f64::INFINITY);
            (*selectivity, *index_pages) = (0.0, 0.0);
            // From version 18 on, fewer switched-off parts of a plan count before any price.
            #[cfg(feature = "pg18")]
            {
                (*path).path.disabled_nodes = 2;
            }
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
        let relation = (*(*info).rel).relid as i32;
        let matching = pg_sys::clauselist_selectivity(
            root,
            conditions,
            relation,
            pg_sys::JoinType::JOIN_INNER,
            std::ptr::null_mut(),
        )
        .clamp(1e-9, 1.0);
        let share = (probes as f64 / matching.sqrt() / lists as f64).min(1.0);
        // Rows have two entries.
        let list_pages = (2.0 * rows / meta.layout(&space).capacity as f64 + 0.5 * lists as f64).min(pages);
        let directory = (lists * space.width) as f64 / f64::from(pg_sys::BLCKSZ);
        let refined = REFINED.min(rows * matching);
        let clustered = (random * CLUSTERED).max(sequential);
        let first_pages =
            directory * sequential + share * list_pages * clustered + refined.min(share * pages) * clustered;
        // Sixteen codes are scored at the price of one operator, as many keys are compared; a byte code is a distance.
        let groups = share * 2.0 * rows / 16.0;
        let scored = groups * (16.0 * matching).min(1.0);
        let compared = if conditions.is_null() { 0.0 } else { groups };
        let first_work = (scored + compared + lists as f64 + refined) * pg_sys::cpu_operator_cost;
        *startup = first_pages + first_work;
        *total = *startup
            + pages * random
            + rows
                * matching
                * (CODES * clustered + pg_sys::cpu_index_tuple_cost + pg_sys::cpu_operator_cost);
        (*selectivity, *index_pages) = (matching, pages);
    }
}

/// Whether a condition is that the first column be NULL. Such rows are not indexed.
unsafe fn asks_for_null_vectors(path: *const IndexPath) -> bool {
    // SAFETY: the caller passes a path of the planner, whose conditions are a list of `IndexClause`.
    unsafe {
        let clauses = pgrx::PgList::<pg_sys::IndexClause>::from_pg((*path).indexclauses);
        clauses.iter_ptr().any(|clause| {
            let node = (*(*clause).rinfo).clause.cast::<pg_sys::NullTest>();
            (*clause).indexcol == 0
                && pgrx::is_a(node.cast(), pg_sys::NodeTag::T_NullTest)
                && (*node).nulltesttype == pg_sys::NullTestType::IS_NULL
        })
    }
}
