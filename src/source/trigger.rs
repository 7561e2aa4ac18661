//! `embed_trigger(text column, ..., vector column [, model])`: BEFORE ROW, on INSERT and UPDATE.

use std::ffi::{CStr, CString};

use pg_answer_inference::encoder::Role;
use pgrx::prelude::*;
use pgrx::{PgSqlErrorCode as Code, pg_sys};

use crate::embed::embed_text;
use crate::error::Report;
use crate::returned::Raw;
use crate::settings;
use crate::vector::datum::copy;

/// What one firing of the trigger is about.
struct Firing {
    data: *mut pg_sys::TriggerData,
    desc: pg_sys::TupleDesc,
    /// The row that is about to be stored.
    row: pg_sys::HeapTuple,
    /// The row it replaces; none on INSERT.
    old: Option<pg_sys::HeapTuple>,
}

/// The trigger's arguments, resolved against the table.
struct Columns {
    texts: Vec<i32>,
    vector: i32,
    is_half: bool,
    /// Name of the vector column.
    name: String,
    model: String,
}

#[pg_extern(sql = false)]
fn embed_trigger(fcinfo: pg_sys::FunctionCallInfo) -> Raw {
    // SAFETY: the server calls the function with a valid call frame; `firing` checks that it is a trigger's.
    let (firing, function) = unsafe { (firing(fcinfo), (*(*fcinfo).flinfo).fn_oid) };
    let columns = columns(&firing, function);
    Raw(pg_sys::Datum::from(embed_row(&firing, &columns)))
}

/// # Safety
/// `fcinfo` is the frame of a running call.
unsafe fn firing(fcinfo: pg_sys::FunctionCallInfo) -> Firing {
    let violated = |what: &str| -> ! {
        Report::new(
            Code::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
            format!("embed_trigger must be called as a trigger {what}"),
        )
        .hint("CREATE TRIGGER ... BEFORE INSERT OR UPDATE ON ... FOR EACH ROW EXECUTE FUNCTION embed_trigger(...)")
        .raise()
    };
    // SAFETY: a context of type TriggerData marks a trigger call, and its fields are valid during the call.
    unsafe {
        let context = (*fcinfo).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
            violated("only");
        }
        let data = context.cast::<pg_sys::TriggerData>();
        let event = (*data).tg_event;
        if event & pg_sys::TRIGGER_EVENT_TIMINGMASK != pg_sys::TRIGGER_EVENT_BEFORE
            || event & pg_sys::TRIGGER_EVENT_ROW == 0
        {
            violated("BEFORE ... FOR EACH ROW");
        }
        let desc = (*(*data).tg_relation).rd_att;
        match event & pg_sys::TRIGGER_EVENT_OPMASK {
            pg_sys::TRIGGER_EVENT_INSERT => Firing { data, desc, row: (*data).tg_trigtuple, old: None },
            pg_sys::TRIGGER_EVENT_UPDATE => {
                Firing { data, desc, row: (*data).tg_newtuple, old: Some((*data).tg_trigtuple) }
            }
            _ => violated("on INSERT or UPDATE"),
        }
    }
}

fn columns(firing: &Firing, function: pg_sys::Oid) -> Columns {
    let arguments = arguments(firing);
    let usage = |message: &str| -> ! {
        Report::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, message)
            .detail(format!("Its arguments are: {}.", arguments.join(", ")))
            .hint("Usage: embed_trigger('text column', ..., 'vector column' [, 'model'])")
            .raise()
    };
    let at = arguments.iter().position(|name| vector_type(firing, name, function).is_some());
    let Some(at) = at else {
        for name in &arguments {
            number(firing, name);
        }
        usage("embed_trigger names no column of type vector or halfvec");
    };
    if at == 0 {
        usage("embed_trigger names no text column before the vector column");
    }
    let model = match &arguments[at + 1..] {
        [] => settings::embedding_model(),
        [model] => model.clone(),
        _ => usage("embed_trigger takes only a model after the vector column"),
    };
    let texts = arguments[..at].iter().map(|name| text_column(firing, name)).collect();
    let vector = number(firing, &arguments[at]);
    let is_half = vector_type(firing, &arguments[at], function) == Some(true);
    Columns { texts, vector, is_half, name: arguments[at].clone(), model }
}

fn arguments(firing: &Firing) -> Vec<String> {
    // SAFETY: the trigger has `tgnargs` arguments, zero-terminated strings.
    unsafe {
        let trigger = (*firing.data).tg_trigger;
        (0..usize::try_from((*trigger).tgnargs).unwrap_or(0))
            .map(|i| CStr::from_ptr(*(*trigger).tgargs.add(i)).to_string_lossy().into_owned())
            .collect()
    }
}

/// Number of the column `name`, counted from 1; raises an ERROR when there is none.
fn number(firing: &Firing, name: &str) -> i32 {
    find(firing, name).unwrap_or_else(|| {
        // SAFETY: the relation is open during the call.
        let table = unsafe { CStr::from_ptr(pg_sys::SPI_getrelname((*firing.data).tg_relation)) };
        Report::new(
            Code::ERRCODE_UNDEFINED_COLUMN,
            format!("column \"{name}\" of relation \"{}\" does not exist", table.to_string_lossy()),
        )
        .hint("Check the arguments of embed_trigger in CREATE TRIGGER.")
        .raise()
    })
}

fn find(firing: &Firing, name: &str) -> Option<i32> {
    let name = CString::new(name).ok()?;
    // SAFETY: the descriptor is that of the open relation.
    let number = unsafe { pg_sys::SPI_fnumber(firing.desc, name.as_ptr()) };
    (number > 0).then_some(number)
}

/// Type and type modifier of a column.
fn type_of(firing: &Firing, number: i32) -> (pg_sys::Oid, i32) {
    let (mut type_id, mut modifier, mut collation) = (pg_sys::InvalidOid, -1, pg_sys::InvalidOid);
    // SAFETY: `number` is that of a column of the open relation; the out-pointers are valid.
    unsafe {
        pg_sys::get_atttypetypmodcoll(
            (*(*firing.data).tg_relation).rd_id,
            number as pg_sys::AttrNumber,
            &raw mut type_id,
            &raw mut modifier,
            &raw mut collation,
        );
    }
    (type_id, modifier)
}

/// Whether the column holds one of our vector types, and then whether it is halfvec.
fn vector_type(firing: &Firing, name: &str, function: pg_sys::Oid) -> Option<bool> {
    let (column_type, _) = type_of(firing, find(firing, name)?);
    // SAFETY: plain look-ups in the server's catalogue caches.
    let named = |type_name: &CStr| unsafe {
        let schema = pg_sys::get_func_namespace(function);
        pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::TYPENAMENSP as i32,
            pg_sys::Anum_pg_type_oid as i16,
            pg_sys::Datum::from(type_name.as_ptr()),
            pg_sys::Datum::from(schema),
            pg_sys::Datum::null(),
            pg_sys::Datum::null(),
        )
    };
    if column_type == named(c"vector") {
        Some(false)
    } else if column_type == named(c"halfvec") {
        Some(true)
    } else {
        None
    }
}

fn text_column(firing: &Firing, name: &str) -> i32 {
    let number = number(firing, name);
    // SAFETY: `number` is that of a column of the open relation.
    let generated = unsafe {
        pg_sys::get_attgenerated((*(*firing.data).tg_relation).rd_id, number as pg_sys::AttrNumber)
    };
    if generated != 0 {
        Report::new(Code::ERRCODE_FEATURE_NOT_SUPPORTED, format!("column \"{name}\" is generated"))
            .detail("A generated column has no value yet when BEFORE triggers run.")
            .hint("Name the columns it is made of instead.")
            .raise();
    }
    number
}

/// The row with its vector: the row itself when the text has not changed.
fn embed_row(firing: &Firing, columns: &Columns) -> pg_sys::HeapTuple {
    let text = joined(firing, firing.row, &columns.texts);
    if let Some(old) = firing.old {
        let has_vector = !is_null(firing, firing.row, columns.vector);
        if text == joined(firing, old, &columns.texts) && has_vector == text.is_some() {
            return firing.row;
        }
    }
    let datum = text.map(|text| {
        let vector = embed_text(&text, &columns.model, Role::Document);
        check_dimensions(firing, columns, vector.len());
        if columns.is_half { half_datum(&vector) } else { copy(&vector) }
    });
    let mut number = columns.vector;
    let mut null = datum.is_none();
    let mut value = datum.unwrap_or_else(pg_sys::Datum::null);
    // SAFETY: one column of the row's own descriptor is replaced by a value of its type.
    unsafe {
        pg_sys::heap_modify_tuple_by_cols(
            firing.row,
            firing.desc,
            1,
            &raw mut number,
            &raw mut value,
            &raw mut null,
        )
    }
}

/// The texts of a row, one a line, NULLs left out; none if all are NULL.
fn joined(firing: &Firing, row: pg_sys::HeapTuple, columns: &[i32]) -> Option<String> {
    let texts: Vec<String> = columns
        .iter()
        .filter_map(|&column| {
            // SAFETY: the row has the descriptor's columns; the string is copied before it is freed.
            unsafe {
                let text = pg_sys::SPI_getvalue(row, firing.desc, column);
                if text.is_null() {
                    return None;
                }
                let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
                pg_sys::pfree(text.cast());
                Some(copy)
            }
        })
        .collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

fn is_null(firing: &Firing, row: pg_sys::HeapTuple, column: i32) -> bool {
    let mut null = false;
    // SAFETY: the row has the descriptor's columns.
    unsafe { pg_sys::SPI_getbinval(row, firing.desc, column, &raw mut null) };
    null
}

fn check_dimensions(firing: &Firing, columns: &Columns, made: usize) {
    let (_, modifier) = type_of(firing, columns.vector);
    let wanted = usize::try_from(modifier).unwrap_or(made);
    if wanted != made {
        Report::new(
            Code::ERRCODE_DATATYPE_MISMATCH,
            format!(
                "column \"{}\" has {wanted} dimensions, but model \"{}\" makes {made}",
                columns.name, columns.model
            ),
        )
        .hint(format!("Declare the column as vector({made}), or name another model in CREATE TRIGGER."))
        .raise();
    }
}

fn half_datum(vector: &[f32]) -> pg_sys::Datum {
    let halves: Vec<half::f16> = vector.iter().map(|&x| half::f16::from_f32(x)).collect();
    copy(&halves)
}
