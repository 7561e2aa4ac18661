//! `pg_answer_capture()`: the trigger that tells of changes to a source. Statement triggers with transition tables, so a
//! statement costs one batch or a few entries in the queue, however many rows it changes; a row trigger for what logical
//! replication applies, which fires no other.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;

use pgrx::prelude::*;
use pgrx::spi::{OwnedPreparedStatement, SpiClient};
use pgrx::{PgSqlErrorCode as Code, pg_sys};

use super::embedding::{Row, embed, remove_orphans, replace};
use super::owner::ActingAs;
use super::plan::{Plan, plans, schema_of};
use super::worker;
use crate::error::{OrRaise, Report};
use crate::returned::Raw;

/// Keys in one entry of a queue.
const ENTRY: i64 = 128;
/// Keys in one array that is cut into entries.
const LONGEST_ARRAY: i64 = 65_536;
/// Rows of a statement that are embedded together.
const BATCH: i64 = 512;

/// What happened to rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Event {
    Insert,
    Update,
    Delete,
    Truncate,
}

/// What a session knows of a trigger's source.
struct Known {
    source: pg_sys::Oid,
    /// Names, owners and versions of the declarations it was made from.
    revisions: Vec<String>,
    plans: Vec<Plan>,
    /// Statements that queue the keys of changed rows, by plan, event and number of keys.
    queueing: HashMap<(usize, Event, Size), OwnedPreparedStatement>,
}

/// How many keys a statement queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Size {
    /// One entry holds them.
    Entry,
    /// One array does, which is cut into entries: the cheapest way, but for long arrays, in which the server looks for
    /// each cut from the beginning.
    Array,
    More,
}

impl Size {
    fn of(keys: i64) -> Self {
        if keys <= ENTRY {
            Self::Entry
        } else if keys <= LONGEST_ARRAY {
            Self::Array
        } else {
            Self::More
        }
    }
}

thread_local! {
    static KNOWN: RefCell<HashMap<u32, Known>> = RefCell::new(HashMap::new());
    static REVISIONS: RefCell<Option<(String, OwnedPreparedStatement)>> = const { RefCell::new(None) };
}

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
            let schema = schema_of(fcinfo);
            let _acting = ActingAs::owner((*(*(*data).tg_relation).rd_rel).relowner);
            Spi::connect_mut(|client| fire(client, &schema, data, event, by_row, rows));
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

/// Rows in the transition tables of a statement; 0 if the trigger has none.
///
/// # Safety
/// `data` is that of a running trigger.
unsafe fn rows_changed(data: *mut pg_sys::TriggerData) -> i64 {
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

/// # Safety
/// `data` is that of the running trigger.
unsafe fn fire(
    client: &mut SpiClient<'_>,
    schema: &str,
    data: *mut pg_sys::TriggerData,
    event: Event,
    by_row: bool,
    rows: i64,
) {
    // SAFETY: the caller vouches for `data`; the tables live as long as the connection to SPI.
    let (trigger, relation) = unsafe {
        pg_sys::SPI_register_trigger_data(data);
        ((*(*data).tg_trigger).tgoid.to_u32(), (*(*data).tg_relation).rd_id)
    };
    // Taken out while it is in use: embedding rows may fire other triggers.
    let known = KNOWN.with_borrow_mut(|known| known.remove(&trigger));
    let Some(mut known) = current(client, schema, relation, known) else { return };
    for i in 0..known.plans.len() {
        let plan = &known.plans[i];
        let _acting = ActingAs::owner(plan.owner);
        if event == Event::Truncate {
            remove_orphans(client, plan);
        } else if by_row {
            // SAFETY: as above.
            unsafe { queue_row(client, plan, data, event) };
            worker::wake_at_commit();
        } else if plan.immediate && !plan.building {
            embed_now(client, plan, event);
        } else {
            queue_keys(client, &mut known, i, event, rows);
            worker::wake_at_commit();
        }
    }
    KNOWN.with_borrow_mut(|all| all.insert(trigger, known));
}

/// What is known of the source of `relation`, learned anew when it has changed; none when it is no source any more.
fn current(
    client: &mut SpiClient<'_>,
    schema: &str,
    relation: pg_sys::Oid,
    known: Option<Known>,
) -> Option<Known> {
    let source = match &known {
        Some(known) => known.source,
        None => {
            let sql = format!("SELECT {schema}.pg_answer_source_above($1)");
            let rows = client.update(&sql, None, &[relation.into()]).or_raise();
            rows.first().get_one::<pg_sys::Oid>().or_raise()?
        }
    };
    let revisions = revisions(client, schema, source);
    match known {
        _ if revisions.is_empty() => None,
        Some(known) if known.revisions == revisions => Some(known),
        _ => {
            let plans = plans(client, schema, source);
            Some(Known { source, revisions, plans, queueing: HashMap::new() })
        }
    }
}

fn revisions(client: &mut SpiClient<'_>, schema: &str, source: pg_sys::Oid) -> Vec<String> {
    let kept = REVISIONS.with_borrow_mut(Option::take).filter(|(of, _)| of == schema);
    let (of, statement) = kept.unwrap_or_else(|| {
        let sql = format!(
            "SELECT concat_ws(' ', s.xmin, s.relation, s.chunks, s.queue, c.relowner) FROM {schema}.pg_answer_sources AS s \
             JOIN pg_class AS c ON c.oid = s.relation WHERE s.relation = $1 AND s.chunks IS NOT NULL ORDER BY s.building"
        );
        let arguments = pgrx::oids_of![pg_sys::Oid];
        (schema.to_owned(), client.prepare_mut(&sql, &arguments).or_raise().keep())
    });
    let rows = client.update(&statement, None, &[source.into()]).or_raise();
    let revisions = rows.filter_map(|row| row.get::<String>(1).or_raise()).collect();
    REVISIONS.with_borrow_mut(|kept| *kept = Some((of, statement)));
    revisions
}

/// A query for the keys of changed rows, under their names in the source.
fn changed_keys(plan: &Plan, event: Event) -> String {
    let keys = plan.join(", ", |_, k| k.name.clone());
    match event {
        Event::Insert | Event::Truncate => format!("SELECT {keys} FROM pg_answer_new"),
        Event::Delete => format!("SELECT {keys} FROM pg_answer_old"),
        // Rows that look the same as before are left alone.
        Event::Update => {
            let texts: Vec<String> = plan.content.iter().map(|c| format!("{c}::text")).collect();
            let row = format!("{keys}, {}", texts.join(", "));
            format!(
                "SELECT DISTINCT {keys} FROM (\
                 (SELECT {row} FROM pg_answer_new EXCEPT ALL SELECT {row} FROM pg_answer_old) UNION ALL \
                 (SELECT {row} FROM pg_answer_old EXCEPT ALL SELECT {row} FROM pg_answer_new)) AS r"
            )
        }
    }
}

fn queue_keys(client: &mut SpiClient<'_>, known: &mut Known, plan: usize, event: Event, rows: i64) {
    let size = Size::of(rows);
    let Known { plans, queueing, .. } = known;
    let statement = queueing
        .entry((plan, event, size))
        .or_insert_with(|| client.prepare_mut(&queue_sql(&plans[plan], event, size), &[]).or_raise().keep());
    client.update(&*statement, None, &[]).or_raise();
}

fn queue_sql(plan: &Plan, event: Event, size: Size) -> String {
    let arrays = plan.join(", ", |i, k| format!("array_agg(r.{}) AS a{i}", k.name));
    let from = changed_keys(plan, event);
    let select = match size {
        Size::Entry => format!("{arrays} FROM ({from}) AS r HAVING count(*) > 0"),
        Size::Array => format!(
            "{} FROM (SELECT {arrays} FROM ({from}) AS r) AS a, generate_series(1, cardinality(a.a1), {ENTRY}) AS i",
            plan.join(", ", |i, _| format!("a.a{i}[i:i + {ENTRY} - 1]"))
        ),
        Size::More => format!(
            "{arrays} FROM (SELECT *, (row_number() OVER () - 1) / {ENTRY} AS part FROM ({from}) AS k) AS r GROUP BY part"
        ),
    };
    format!("INSERT INTO {} ({}) SELECT {select}", plan.queue, plan.chunk_key())
}

/// Queues the keys of one row, before and after the change.
///
/// # Safety
/// `data` is that of a running row trigger.
unsafe fn queue_row(client: &mut SpiClient<'_>, plan: &Plan, data: *mut pg_sys::TriggerData, event: Event) {
    let sql = format!(
        "INSERT INTO {} ({}) VALUES ({})",
        plan.queue,
        plan.chunk_key(),
        plan.join(", ", |i, k| format!("ARRAY[${i}::text::{}]", k.type_name))
    );
    // SAFETY: the caller vouches for `data`; a trigger has its row, and on UPDATE the one that replaces it.
    let keys = unsafe {
        let new = (event == Event::Update).then(|| key_of(plan, data, (*data).tg_newtuple));
        [Some(key_of(plan, data, (*data).tg_trigtuple)), new]
    };
    let mut keys: Vec<Vec<Option<String>>> = keys.into_iter().flatten().collect();
    keys.dedup();
    for key in keys {
        let arguments: Vec<_> = key.into_iter().map(Into::into).collect();
        client.update(&sql, None, &arguments).or_raise();
    }
}

/// # Safety
/// `row` is one of the trigger's.
unsafe fn key_of(plan: &Plan, data: *mut pg_sys::TriggerData, row: pg_sys::HeapTuple) -> Vec<Option<String>> {
    // SAFETY: the row has the columns of the relation's descriptor; texts are copied.
    unsafe {
        let desc = (*(*data).tg_relation).rd_att;
        let text = |column: &super::plan::KeyColumn| {
            let number = pg_sys::SPI_fnumber(desc, column.column.as_ptr());
            let text = pg_sys::SPI_getvalue(row, desc, number);
            (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        };
        plan.key.iter().map(text).collect()
    }
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
        client.update(&sql, None, &[]).or_raise();
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
