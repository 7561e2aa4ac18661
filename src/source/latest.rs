//! Statements that see what is committed when they begin, whatever snapshot the transaction keeps: a row that a REPEATABLE
//! READ transaction writes may have chunks by now which its snapshot does not show. Foreign keys are checked the same way.

use std::ffi::CString;

use pgrx::datum::DatumWithOid;
use pgrx::spi::{Spi, SpiClient, SpiHeapTupleData};
use pgrx::{PgSqlErrorCode as Code, pg_sys};

use crate::error::{OrRaise, Report};

/// Runs `sql`, which returns nothing.
pub fn update(client: &mut SpiClient<'_>, sql: &str, arguments: &[DatumWithOid<'_>]) {
    query(client, sql, arguments, |_| ());
}

/// What `read` makes of each row that `sql` returns.
pub fn query<R>(
    _connected: &mut SpiClient<'_>,
    sql: &str,
    arguments: &[DatumWithOid<'_>],
    read: impl Fn(&SpiHeapTupleData<'_>) -> R,
) -> Vec<R> {
    let sql = CString::new(sql).unwrap_or_else(|_| {
        Report::new(Code::ERRCODE_INTERNAL_ERROR, "a statement with a zero byte").raise()
    });
    let mut types: Vec<pg_sys::Oid> = arguments.iter().map(DatumWithOid::oid).collect();
    let datums: Vec<_> = arguments.iter().map(DatumWithOid::datum).collect();
    let nulls: Vec<core::ffi::c_char> =
        datums.iter().map(|d| if d.is_some() { b' ' } else { b'n' } as core::ffi::c_char).collect();
    let mut values: Vec<pg_sys::Datum> =
        datums.into_iter().map(|d| d.map_or_else(pg_sys::Datum::null, |d| d.sans_lifetime())).collect();
    let count = i32::try_from(types.len()).expect("few arguments");
    // SAFETY: SPI is connected; the arrays are as long as the server is told; the rows are read before the next statement.
    unsafe {
        let plan = pg_sys::SPI_prepare(sql.as_ptr(), count, types.as_mut_ptr());
        if plan.is_null() {
            Spi::check_status(pg_sys::SPI_result).or_raise();
        }
        pg_sys::SPI_tuptable = std::ptr::null_mut();
        let status = pg_sys::SPI_execute_snapshot(
            plan,
            values.as_mut_ptr(),
            nulls.as_ptr(),
            pg_sys::GetLatestSnapshot(),
            std::ptr::null_mut(),
            false,
            true,
            0,
        );
        Spi::check_status(status).or_raise();
        pg_sys::SPI_freeplan(plan);
        let table = pg_sys::SPI_tuptable;
        if table.is_null() {
            return Vec::new();
        }
        let rows = (0..usize::try_from((*table).numvals).unwrap_or(0))
            .filter_map(|i| SpiHeapTupleData::new((*table).tupdesc, *(*table).vals.add(i)).or_raise())
            .map(|row| read(&row))
            .collect();
        pg_sys::SPI_freetuptable(table);
        rows
    }
}
