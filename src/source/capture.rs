//! `pg_answer_capture()`: the trigger that tells of changes to a source. Statement triggers with transition tables, so a
//! statement costs one batch or a few entries in the queue, however many rows it changes; a row trigger for what logical
//! replication applies, which fires no other.

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use pgrx::{PgSqlErrorCode as Code, pg_sys};

use super::embedding::{Row, embed, remove_orphans, replace};
use super::known::{Target, source_of};
use super::latest;
use super::owner::ActingAs;
use super::plan::Plan;
use super::transition::{Event, Keys, changed_rows, rows_changed};
use super::worker;
use crate::error::{OrRaise, Report};
use crate::returned::Raw;

/// Keys in one entry of a queue.
const ENTRY: usize = 128;
/// Rows of a statement that are embedded together.
const BATCH: i64 = 512;

#[pg_extern(sql = false)]
fn pg_answer_capture(fcinfo: pg_sys::FunctionCallInfo) -> Raw {
    // SAFETY: a context of type TriggerData marks a trigger's call, and its fields are valid during the call.
    unsafe {
        let context = (*fcinfo).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
            violated("a trigger");
        }
        let data = context.cast::<pg_sys::TriggerData>();
        if (*data).tg_event & pg_sys::TRIGGER_EVENT_TIMINGMASK != 0 {
            violated("an AFTER trigger");
        }
        let event = match (*data).tg_event & pg_sys::TRIGGER_EVENT_OPMASK {
            pg_sys::TRIGGER_EVENT_INSERT => Event::Insert,
            pg_sys::TRIGGER_EVENT_UPDATE => Event::Update,
            pg_sys::TRIGGER_EVENT_DELETE => Event::Delete,
            _ => Event::Truncate,
        };
        let by_row = (*data).tg_event & pg_sys::TRIGGER_EVENT_ROW != 0;
        let rows = if by_row { 1 } else { rows_changed(data) };
        if rows > 0 || event == Event::Truncate {
            Spi::connect_mut(|client| fire(client, fcinfo, data, event, by_row));
        }
    }
    Raw(pg_sys::Datum::null())
}

fn violated(what: &str) -> ! {
    Report::new(
        Code::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
        format!("pg_answer_capture must be called as {what}"),
    )
    .hint("create_source makes its triggers.")
    .raise()
}

/// # Safety
/// `data` and `fcinfo` are those of the running trigger.
unsafe fn fire(
    client: &mut SpiClient<'_>,
    fcinfo: pg_sys::FunctionCallInfo,
    data: *mut pg_sys::TriggerData,
    event: Event,
    by_row: bool,
) {
    let embeds = |plan: &Plan| plan.immediate && !plan.building && !by_row;
    let writes_chunks = |plan: &Plan| event == Event::Truncate || embeds(plan);
    let written = |plan: &Plan| if writes_chunks(plan) { plan.chunks_table } else { plan.queue_table };
    // SAFETY: the caller vouches for the trigger.
    let Some(known) = (unsafe { source_of(client, fcinfo, data, written) }) else { return };
    for target in &known.targets {
        let plan = &target.plan;
        let _acting = ActingAs::owner(plan.owner);
        if event == Event::Truncate {
            remove_orphans(client, plan);
        } else if embeds(plan) {
            // SAFETY: the transition tables live as long as the connection to SPI.
            unsafe { pg_sys::SPI_register_trigger_data(data) };
            embed_now(client, plan, event);
        } else {
            // SAFETY: the caller vouches for `data`.
            unsafe { queue(client, target, data, event, by_row) };
        }
    }
}

/// Queues the keys of the rows that were changed, and has the worker see to them.
///
/// # Safety
/// `data` is that of a running trigger for `event`.
unsafe fn queue(
    client: &mut SpiClient<'_>,
    target: &Target,
    data: *mut pg_sys::TriggerData,
    event: Event,
    by_row: bool,
) {
    let mut keys = Keys::new(&target.columns);
    let mut visit = |row| {
        keys.push(row);
        if keys.rows == ENTRY {
            store(client, target, &mut keys);
        }
    };
    // SAFETY: the caller vouches for `data`.
    unsafe { changed_rows(data, event, by_row, &target.columns, &mut visit) };
    if keys.rows > 0 {
        store(client, target, &mut keys);
    }
}

/// Adds an entry with `keys` to the queue.
fn store(client: &mut SpiClient<'_>, target: &Target, keys: &mut Keys<'_>) {
    let (arrays, types): (Vec<pg_sys::Datum>, Vec<pg_sys::Oid>) = keys.take().into_iter().unzip();
    let statement = target.queueing(client, &types);
    // SAFETY: the arrays are of these types.
    let arguments: Vec<DatumWithOid> = arrays
        .iter()
        .zip(&types)
        .map(|(&array, &of_type)| unsafe { DatumWithOid::new(Raw(array), of_type) })
        .collect();
    client.update(statement, None, &arguments).or_raise();
    for array in arrays {
        // SAFETY: they were made for this statement.
        unsafe { pg_sys::pfree(array.cast_mut_ptr()) };
    }
    worker::wake_at_commit();
}

/// Makes the chunks of the rows that the statement changed.
fn embed_now(client: &mut SpiClient<'_>, plan: &Plan, event: Event) {
    if event != Event::Insert {
        let keys = plan.join(", ", |_, k| k.name.clone());
        let gone = match event {
            Event::Update => {
                format!("(SELECT {keys} FROM pg_answer_old EXCEPT SELECT {keys} FROM pg_answer_new)")
            }
            _ => "pg_answer_old".to_owned(),
        };
        let sql =
            format!("DELETE FROM {} AS c USING {gone} AS s WHERE {}", plan.chunks, plan.same_key("s", "c"));
        latest::update(client, &sql, &[]);
        if event == Event::Delete {
            return;
        }
    }
    let new = format!("SELECT {} FROM pg_answer_new AS s", plan.row_as_text("s"));
    let sql = match event {
        Event::Update => {
            format!("{new} EXCEPT ALL SELECT {} FROM pg_answer_old AS s", plan.row_as_text("s"))
        }
        _ => new,
    };
    let mut cursor = client.open_cursor_mut(&sql, &[]);
    loop {
        let tuples = cursor.fetch(BATCH).or_raise();
        let rows: Vec<Row> = tuples.map(|tuple| Row::read(&tuple, plan, 1, 1 + plan.key.len())).collect();
        if rows.is_empty() {
            return;
        }
        replace(client, plan, &rows, &embed(plan, &rows), &|_| true);
    }
}
