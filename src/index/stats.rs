//! `ann_stats`: what an index consists of.

use std::ffi::CStr;

use pg_answer_ann::meta::{LEVELS, Meta};
use pg_answer_ann::store::PageStore;
use pg_answer_ann::vacuum::sizes;
use pg_answer_ann::{Result, Space};
use pgrx::pg_sys::{self, Datum, Oid, Relation};
use pgrx::{IntoDatum, JsonB, PgSqlErrorCode};

use super::pages::Pages;
use super::space;
use crate::error::{OrRaise, Report};
use crate::vector::call::Args;

/// An index of method ann, open.
pub struct Opened {
    index: Relation,
    lock: u32,
}

impl Opened {
    /// Opens and locks it. Raises an ERROR if it is none, or if its build has failed.
    pub fn new(oid: Oid, lock: u32) -> Self {
        // SAFETY: what is opened is closed by `close`, or by the end of the transaction after an ERROR.
        unsafe {
            let index = pg_sys::try_relation_open(oid, lock as i32);
            if index.is_null() {
                no_index(oid);
            }
            let class = &*(*index).rd_rel;
            let method = pg_sys::get_index_am_oid(c"ann".as_ptr(), true);
            if class.relkind as u8 != pg_sys::RELKIND_INDEX || class.relam != method {
                no_index(oid);
            }
            // Others' temporary tables are refused where pages are read.
            if pg_sys::RelationGetNumberOfBlocksInFork(index, pg_sys::ForkNumber::MAIN_FORKNUM) == 0 {
                let code = PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
                Report::new(code, format!("index {} has no pages", name_of(oid)))
                    .hint("Its build has failed, or it is unlogged and this is a standby. REINDEX builds it.")
                    .raise();
            }
            Self { index, lock }
        }
    }

    /// The index.
    pub fn index(&self) -> Relation {
        self.index
    }

    /// Shows its pages.
    pub fn see<R>(&self, see: impl FnOnce(&Pages, &Meta, &Space) -> Result<R>) -> R {
        // SAFETY: the index is open.
        let (pages, (meta, space)) = unsafe {
            let pages = Pages::new(self.index);
            let of = space::of(self.index, &pages);
            (pages, of)
        };
        see(&pages, &meta, &space).or_raise()
    }

    /// Closes it.
    pub fn close(self) {
        // SAFETY: opened by `new`.
        unsafe { pg_sys::relation_close(self.index, self.lock as i32) }
    }
}

/// Raises the ERROR that a relation is no index of method ann.
pub fn no_index(oid: Oid) -> ! {
    let message = format!("{} is no index of method ann", name_of(oid));
    let report = Report::new(PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE, message);
    // SAFETY: a plain call, for what is there or not.
    match unsafe { pg_sys::get_rel_relkind(oid) } as u8 {
        pg_sys::RELKIND_PARTITIONED_INDEX => {
            report.hint("It is partitioned: ask about the indexes of its partitions.").raise()
        }
        _ => report.raise(),
    }
}

/// A relation's name in quotes, or its number where there is none.
fn name_of(oid: Oid) -> String {
    // SAFETY: the name is a C string or null.
    unsafe {
        let name = pg_sys::get_rel_name(oid);
        let number = || format!("\"{}\"", oid.to_u32());
        if name.is_null() { number() } else { format!("\"{}\"", CStr::from_ptr(name).to_string_lossy()) }
    }
}

/// The relation that the first argument names.
pub fn relation_of(args: Args) -> Oid {
    Oid::from(args.i32(0) as u32)
}

fn stats(args: Args) -> Datum {
    let opened = Opened::new(relation_of(args), pg_sys::AccessShareLock);
    let json = opened.see(|pages, meta, space| {
        let sizes = sizes(pages, meta, space)?;
        let by_level = |value: &dyn Fn(f64) -> u64| -> serde_json::Map<_, _> {
            LEVELS.iter().map(|level| (level.to_string(), value(*level).into())).collect()
        };
        Ok(serde_json::json!({
            "dimensions": meta.dims,
            "rows": sizes.rows,
            "second_entries": sizes.seconds,
            "holes": sizes.holes,
            "lists": sizes.lists,
            "longest_list": sizes.longest,
            "pages": pages.len(),
            "list_pages": sizes.list_pages,
            "code_pages": sizes.code_pages,
            "rows_at_calibration": meta.rows,
            "lists_for_recall": by_level(&|level| meta.probes_for(level, sizes.lists as usize) as u64),
            "entries_for_recall": by_level(&|level| meta.depth_for(level).round() as u64),
        }))
    });
    opened.close();
    JsonB(json).into_datum().unwrap_or_else(|| args.null())
}

sql_functions! {
    ann_stats => stats;
}
