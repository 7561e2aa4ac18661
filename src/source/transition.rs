//! The rows that a trigger tells of, straight from PostgreSQL's transition tables: a query over them would cost a bulk load
//! more than the queue itself.

use pgrx::varlena::varsize_any;
use pgrx::{PgSqlErrorCode as Code, pg_sys};

use super::plan::Plan;
use crate::error::Report;

/// What happened to rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Insert,
    Update,
    Delete,
    Truncate,
}

/// Where key and content of a source lie in the rows of one of its tables.
pub struct Columns {
    key: Vec<KeyColumn>,
    /// None when what the content was before cannot be told from the row.
    content: Option<Vec<Column>>,
    /// As many columns are taken apart.
    needed: pg_sys::AttrNumber,
}

struct Column {
    /// From 0.
    index: usize,
    by_value: bool,
    length: i16,
}

struct KeyColumn {
    column: Column,
    element: pg_sys::Oid,
    array: pg_sys::Oid,
}

/// A row of a trigger, its columns taken apart.
#[derive(Clone, Copy)]
pub struct Row(*mut pg_sys::TupleTableSlot);

unsafe extern "C-unwind" {
    fn datum_image_eq(
        one: pg_sys::Datum,
        other: pg_sys::Datum,
        by_value: bool,
        length: core::ffi::c_int,
    ) -> bool;
}

impl Columns {
    /// The columns of `plan` in the rows of `relation`.
    ///
    /// # Safety
    /// `relation` is open.
    pub unsafe fn find(plan: &Plan, relation: pg_sys::Relation) -> Self {
        // SAFETY: the caller vouches for the relation.
        unsafe {
            let key: Vec<KeyColumn> = plan
                .key
                .iter()
                .map(|k| {
                    let number = pg_sys::SPI_fnumber((*relation).rd_att, k.column.as_ptr());
                    if number <= 0 {
                        Report::new(
                            Code::ERRCODE_UNDEFINED_COLUMN,
                            format!("column {} of source {} does not exist", k.name, plan.source),
                        )
                        .hint("Call drop_source and create_source again.")
                        .raise();
                    }
                    let element = pg_sys::SPI_gettypeid((*relation).rd_att, number);
                    let array = pg_sys::get_array_type(element);
                    KeyColumn { column: Column::new(number, element), element, array }
                })
                .collect();
            let content: Option<Vec<Column>> =
                plan.content_columns.iter().map(|name| Column::stored(name, relation)).collect();
            let all = key.iter().map(|k| &k.column).chain(content.iter().flatten());
            let needed = all.map(|c| c.index + 1).max().unwrap_or(0);
            Self { key, content, needed: pg_sys::AttrNumber::try_from(needed).expect("a column's number") }
        }
    }
}

impl Column {
    unsafe fn new(number: i32, of_type: pg_sys::Oid) -> Self {
        let (mut length, mut by_value) = (0, false);
        // SAFETY: the type exists, since a column has it; the out-pointers are valid.
        unsafe { pg_sys::get_typlenbyval(of_type, &raw mut length, &raw mut by_value) };
        Self { index: usize::try_from(number - 1).expect("no system column"), by_value, length }
    }

    /// None for a column that rows do not hold: one that is gone, or (from PostgreSQL 18 on) made when it is read.
    unsafe fn stored(name: &std::ffi::CStr, relation: pg_sys::Relation) -> Option<Self> {
        const VIRTUAL: core::ffi::c_char = b'v' as core::ffi::c_char;
        // SAFETY: the caller vouches for the relation.
        unsafe {
            let number = pg_sys::SPI_fnumber((*relation).rd_att, name.as_ptr());
            let stored = number > 0
                && pg_sys::get_attgenerated((*relation).rd_id, pg_sys::AttrNumber::try_from(number).ok()?)
                    != VIRTUAL;
            stored.then(|| Self::new(number, pg_sys::SPI_gettypeid((*relation).rd_att, number)))
        }
    }

    /// Whether both rows hold the same bytes here.
    unsafe fn same(&self, one: Row, other: Row) -> bool {
        // SAFETY: the rows are taken apart as far as this column.
        unsafe {
            let (one, one_is_null) = one.value(self);
            let (other, other_is_null) = other.value(self);
            if one_is_null || other_is_null {
                return one_is_null && other_is_null;
            }
            let same_varlena = || {
                let bytes = |datum: pg_sys::Datum| {
                    let value = datum.cast_mut_ptr::<pg_sys::varlena>();
                    std::slice::from_raw_parts(value.cast::<u8>().cast_const(), varsize_any(value))
                };
                // An unchanged value that is stored out of line still points to the same place.
                bytes(one) == bytes(other)
            };
            (self.length == -1 && same_varlena())
                || pg_sys::ffi::pg_guard_ffi_boundary(|| {
                    datum_image_eq(one, other, self.by_value, i32::from(self.length))
                })
        }
    }
}

impl Row {
    unsafe fn new(slot: *mut pg_sys::TupleTableSlot, columns: &Columns) -> Self {
        // SAFETY: the caller vouches for the slot.
        unsafe {
            if (*slot).tts_nvalid < columns.needed {
                pg_sys::slot_getsomeattrs_int(slot, i32::from(columns.needed));
            }
        }
        Self(slot)
    }

    unsafe fn value(self, column: &Column) -> (pg_sys::Datum, bool) {
        // SAFETY: `new` has taken apart as many columns as are needed.
        unsafe { (*(*self.0).tts_values.add(column.index), *(*self.0).tts_isnull.add(column.index)) }
    }
}

/// A transition table and the slot that its rows are read into.
struct Table {
    store: *mut pg_sys::Tuplestorestate,
    slot: *mut pg_sys::TupleTableSlot,
}

impl Table {
    unsafe fn open(store: *mut pg_sys::Tuplestorestate, data: *mut pg_sys::TriggerData) -> Self {
        // SAFETY: queries over the table have read pointers of their own, so the first one is free.
        unsafe {
            pg_sys::tuplestore_select_read_pointer(store, 0);
            pg_sys::tuplestore_rescan(store);
            let desc = (*(*data).tg_relation).rd_att;
            Self {
                store,
                slot: pg_sys::MakeSingleTupleTableSlot(desc, &raw const pg_sys::TTSOpsMinimalTuple),
            }
        }
    }

    unsafe fn next(&self, columns: &Columns) -> Option<Row> {
        pgrx::check_for_interrupts!();
        // SAFETY: store and slot are valid as long as the trigger runs.
        unsafe {
            pg_sys::tuplestore_gettupleslot(self.store, true, false, self.slot)
                .then(|| Row::new(self.slot, columns))
        }
    }

    unsafe fn close(self) {
        // SAFETY: nobody else has the slot.
        unsafe { pg_sys::ExecDropSingleTupleTableSlot(self.slot) }
    }

    unsafe fn each(
        store: *mut pg_sys::Tuplestorestate,
        data: *mut pg_sys::TriggerData,
        columns: &Columns,
        visit: &mut dyn FnMut(Row),
    ) {
        // SAFETY: as the caller vouches.
        unsafe {
            let table = Self::open(store, data);
            while let Some(row) = table.next(columns) {
                visit(row);
            }
            table.close();
        }
    }
}

/// Rows in the transition tables of a statement; 0 if the trigger has none.
///
/// # Safety
/// `data` is that of a running trigger.
pub unsafe fn rows_changed(data: *mut pg_sys::TriggerData) -> i64 {
    // SAFETY: the tables are null or valid.
    unsafe {
        [(*data).tg_newtable, (*data).tg_oldtable]
            .into_iter()
            .filter(|table| !table.is_null())
            .map(|table| pg_sys::tuplestore_tuple_count(table))
            .max()
            .unwrap_or(0)
    }
}

/// Visits the rows whose chunks are not right any more: those that came or went, and those whose key or content is not what
/// it was.
///
/// # Safety
/// `data` is that of a running trigger for `event`, `by_row` or by statement.
pub unsafe fn changed_rows(
    data: *mut pg_sys::TriggerData,
    event: Event,
    by_row: bool,
    columns: &Columns,
    visit: &mut dyn FnMut(Row),
) {
    // SAFETY: a row trigger has slots, a statement trigger the transition tables that its definition names.
    unsafe {
        let (old, new) = ((*data).tg_oldtable, (*data).tg_newtable);
        match event {
            Event::Truncate => {}
            Event::Update if by_row => {
                let rows = [(*data).tg_trigslot, (*data).tg_newslot].map(|slot| Row::new(slot, columns));
                visit_pair(rows, columns, visit);
            }
            _ if by_row => visit(Row::new((*data).tg_trigslot, columns)),
            Event::Insert => Table::each(new, data, columns, visit),
            Event::Delete => Table::each(old, data, columns, visit),
            // An update adds to both tables at once, unless a trigger holds back a row that moves to another partition.
            Event::Update if pg_sys::tuplestore_tuple_count(old) == pg_sys::tuplestore_tuple_count(new) => {
                let (old, new) = (Table::open(old, data), Table::open(new, data));
                while let (Some(old), Some(new)) = (old.next(columns), new.next(columns)) {
                    visit_pair([old, new], columns, visit);
                }
                old.close();
                new.close();
            }
            Event::Update => {
                Table::each(old, data, columns, visit);
                Table::each(new, data, columns, visit);
            }
        }
    }
}

unsafe fn visit_pair([old, new]: [Row; 2], columns: &Columns, visit: &mut dyn FnMut(Row)) {
    // SAFETY: both rows are taken apart.
    let (same_key, same_content) = unsafe {
        let same = |column: &Column| column.same(old, new);
        (
            columns.key.iter().all(|k| same(&k.column)),
            columns.content.as_ref().is_some_and(|c| c.iter().all(same)),
        )
    };
    if !same_key {
        visit(old);
    }
    if !same_key || !same_content {
        visit(new);
    }
}

/// Keys of rows, an array per key column.
pub struct Keys<'c> {
    columns: &'c [KeyColumn],
    arrays: Vec<*mut pg_sys::ArrayBuildState>,
    /// How many.
    pub rows: usize,
}

impl<'c> Keys<'c> {
    /// None yet.
    pub fn new(columns: &'c Columns) -> Self {
        let columns = &columns.key[..];
        Self { columns, arrays: vec![std::ptr::null_mut(); columns.len()], rows: 0 }
    }

    /// Adds the key of `row`.
    pub fn push(&mut self, row: Row) {
        for (k, array) in self.columns.iter().zip(&mut self.arrays) {
            // SAFETY: the row is taken apart; the value is copied.
            unsafe {
                let (value, is_null) = row.value(&k.column);
                let context = pg_sys::CurrentMemoryContext;
                *array = pg_sys::accumArrayResult(*array, value, is_null, k.element, context);
            }
        }
        self.rows += 1;
    }

    /// The arrays with their types; there is at least one key. After it there is none.
    pub fn take(&mut self) -> Vec<(pg_sys::Datum, pg_sys::Oid)> {
        self.rows = 0;
        let arrays = self.columns.iter().zip(&mut self.arrays);
        arrays
            .map(|(k, array)| {
                let state = std::mem::replace(array, std::ptr::null_mut());
                // SAFETY: `push` has made the state.
                (unsafe { pg_sys::makeArrayResult(state, pg_sys::CurrentMemoryContext) }, k.array)
            })
            .collect()
    }
}
