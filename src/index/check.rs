//! `ann_check`: whether an index is whole, and holds what its table does.

use pg_answer_ann::agreement::Agreement;
use pg_answer_ann::check::check;
use pg_answer_ann::meta::Meta;
use pg_answer_ann::{Result, Space};
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::{self, Datum, Oid, Relation};

use super::pages::Pages;
use super::stats::{Opened, relation_of};
use super::table::Table;
use crate::error::Report;
use crate::vector::call::Args;

/// Keeps off writers and VACUUM.
const LOCK: u32 = pg_sys::ShareLock;

fn check_index(args: Args) -> Datum {
    let (oid, with_table) = (relation_of(args), args.datum(1).value() as u8 != 0);
    // SAFETY: relations are opened before they are used, and closed; the table first, as everybody does.
    unsafe {
        let heap = if with_table { open_table(oid) } else { std::ptr::null_mut() };
        let opened = Opened::new(oid, LOCK);
        let rows = opened.see(|pages, meta, space| {
            let rows = check(pages, meta, space)?;
            if with_table {
                agree(heap, opened.index(), pages, meta, space)?;
            }
            Ok(rows)
        });
        opened.close();
        if with_table {
            pg_sys::relation_close(heap, LOCK as i32);
        }
        Datum::from(rows as i64)
    }
}

/// Opens and locks the table of an index.
unsafe fn open_table(index: Oid) -> Relation {
    // SAFETY: plain calls; what is no index has no table.
    unsafe {
        let oid = pg_sys::IndexGetRelation(index, true);
        if oid == pg_sys::InvalidOid {
            super::stats::no_index(index);
        }
        pg_sys::relation_open(oid, LOCK as i32)
    }
}

/// Fails unless the index has every row of the table that can be seen now. The owner of the table runs what the index's
/// expressions call, lest the owner of a function get the rights of who checks.
unsafe fn agree(heap: Relation, index: Relation, pages: &Pages, meta: &Meta, space: &Space) -> Result<()> {
    // SAFETY: both relations are open and locked. After an ERROR the transaction's end restores user and settings.
    unsafe {
        let form = &*(*index).rd_index;
        if form.indrelid != (*heap).rd_id || !form.indisvalid {
            let code = PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
            Report::new(code, "the index is not valid, so that rows may be missing").raise();
        }
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        pg_sys::GetUserIdAndSecContext(&raw mut user, &raw mut context);
        let restricted = context | pg_sys::SECURITY_RESTRICTED_OPERATION as i32;
        pg_sys::SetUserIdAndSecContext((*(*heap).rd_rel).relowner, restricted);
        let settings = pg_sys::NewGUCNestLevel();

        let agreement = Agreement::new(pages, meta, space)?;
        let table = Table::new(heap, index, pg_sys::BuildIndexInfo(index));
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        table.scan_visible(snapshot, &mut |row, x, keys| agreement.see(row, x, keys));
        pg_sys::UnregisterSnapshot(snapshot);

        pg_sys::AtEOXact_GUC(false, settings);
        pg_sys::SetUserIdAndSecContext(user, context);
        Ok(())
    }
}

sql_functions! {
    ann_check => check_index;
}
