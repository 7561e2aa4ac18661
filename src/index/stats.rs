//! `ann_stats`: what an index consists of; `ann_check`: whether it is whole.

use pg_answer_ann::check::check;
use pg_answer_ann::meta::{LEVELS, Meta};
use pg_answer_ann::store::PageStore;
use pg_answer_ann::vacuum::sizes;
use pg_answer_ann::{Result, Space};
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::{IntoDatum, JsonB, PgSqlErrorCode};

use super::pages::Pages;
use super::space;
use crate::error::{OrRaise, Report};
use crate::vector::call::Args;

/// Opens the index that the first argument names, with a lock, and shows it.
fn with_index<R>(args: Args, lock: u32, see: impl FnOnce(&Pages, &Meta, &Space) -> Result<R>) -> R {
    let oid = Oid::from(args.i32(0) as u32);
    // SAFETY: the relation is opened and closed here.
    unsafe {
        let index = pg_sys::relation_open(oid, lock as i32);
        let class = &*(*index).rd_rel;
        let method = pg_sys::get_index_am_oid(c"ann".as_ptr(), true);
        if class.relkind as u8 != pg_sys::RELKIND_INDEX || class.relam != method {
            let message = "this is no index of method ann";
            Report::new(PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE, message).raise();
        }
        let pages = Pages::new(index);
        let (meta, space) = space::of(index, &pages);
        let seen = see(&pages, &meta, &space).or_raise();
        pg_sys::relation_close(index, lock as i32);
        seen
    }
}

fn stats(args: Args) -> Datum {
    let json = with_index(args, pg_sys::AccessShareLock, |pages, meta, space| {
        let sizes = sizes(pages, meta, space)?;
        let probes: serde_json::Map<_, _> = LEVELS
            .iter()
            .map(|level| (level.to_string(), meta.probes_for(*level, sizes.lists as usize).into()))
            .collect();
        Ok(serde_json::json!({
            "dimensions": meta.dims,
            "rows": sizes.rows,
            "holes": sizes.holes,
            "lists": sizes.lists,
            "longest_list": sizes.longest,
            "pages": pages.len(),
            "list_pages": sizes.list_pages,
            "code_pages": sizes.code_pages,
            "rows_at_calibration": meta.rows,
            "lists_for_recall": probes,
        }))
    });
    JsonB(json).into_datum().unwrap_or_else(|| args.null())
}

/// Writers wait meanwhile.
fn check_index(args: Args) -> Datum {
    Datum::from(with_index(args, pg_sys::ShareLock, check) as i64)
}

sql_functions! {
    ann_stats => stats;
    ann_check => check_index;
}
