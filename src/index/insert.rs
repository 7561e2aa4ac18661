//! `aminsert`.

use pg_answer_ann::insert::{NewRow, insert as insert_row};
use pgrx::pg_sys::{Datum, IndexInfo, IndexUniqueCheck, ItemPointer, Relation};

use super::keys::Keys;
use super::opclass::OpClass;
use super::pages::Pages;
use super::{row_id, space};

/// Adds a row. NULL is not indexed.
#[pgrx::pg_guard]
#[allow(clippy::too_many_arguments)] // the server's interface
pub unsafe extern "C-unwind" fn insert(
    index: Relation,
    values: *mut Datum,
    nulls: *mut bool,
    row: ItemPointer,
    _table: Relation,
    _unique: IndexUniqueCheck::Type,
    _unchanged: bool,
    _info: *mut IndexInfo,
) -> bool {
    // SAFETY: PostgreSQL passes an open index, one value and one flag a column, and the row's place.
    unsafe {
        if *nulls {
            return false;
        }
        let pages = Pages::new(index);
        let (meta, space) = space::of(index, &pages);
        let (id, keys) = (row_id(*row), Keys::of(index).of_row(values, nulls));
        OpClass::of(index)
            .with(*values, |vector| insert_row(&pages, &meta, &space, NewRow { id, vector, keys: &keys }));
    }
    // Nothing is unique here.
    false
}
