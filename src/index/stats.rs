//! `ann_stats`: what an index consists of.

use pg_answer_ann::meta::LEVELS;
use pg_answer_ann::vacuum::sizes;
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::{IntoDatum, JsonB, PgSqlErrorCode};

use super::pages::Pages;
use super::space;
use crate::error::{OrRaise, Report};
use crate::vector::call::Args;

fn stats(args: Args) -> Datum {
    let oid = Oid::from(args.i32(0) as u32);
    // SAFETY: the relation is opened and closed here.
    unsafe {
        let index = pg_sys::relation_open(oid, pg_sys::AccessShareLock as i32);
        let class = &*(*index).rd_rel;
        let method = pg_sys::get_index_am_oid(c"ann".as_ptr(), true);
        if class.relkind as u8 != pg_sys::RELKIND_INDEX || class.relam != method {
            let message = "this is no index of method ann";
            Report::new(PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE, message).raise();
        }
        let pages = Pages::new(index);
        let (meta, space) = space::of(index, &pages);
        let sizes = sizes(&pages, &meta, &space).or_raise();
        let probes: serde_json::Map<_, _> = LEVELS
            .iter()
            .map(|level| (level.to_string(), meta.probes_for(*level, sizes.lists as usize).into()))
            .collect();
        let json = serde_json::json!({
            "dimensions": meta.dims,
            "rows": sizes.rows,
            "holes": sizes.holes,
            "lists": sizes.lists,
            "longest_list": sizes.longest,
            "pages": pages.len(),
            "list_pages": sizes.list_pages,
            "code_pages": sizes.code_pages,
            "rows_at_build": meta.rows,
            "lists_for_recall": probes,
        });
        pg_sys::relation_close(index, pg_sys::AccessShareLock as i32);
        JsonB(json).into_datum().unwrap_or_else(|| args.null())
    }
}

sql_functions! {
    ann_stats => stats;
}
