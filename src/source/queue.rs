//! Entries of a source's queue → chunks. What to take, and what becomes of rows that fail, is SQL:
//! see `sql/43_queue.sql`.

use std::cell::Cell;
use std::collections::HashSet;
use std::time::{Duration, Instant};

use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use pgrx::{PgSqlErrorCode as Code, pg_sys};

use super::embedding::{Piece, Row, embed, key_arrays, remove_gone, replace};
use super::owner::{ActingAs, must_be, owner_of};
use super::plan::{Plan, plans, schema_of};
use crate::error::{OrRaise, Report};

/// How long rows are embedded before a transaction ends; what is left goes back.
const BUDGET: Duration = Duration::from_millis(500);
/// Rows that are embedded before anybody looks at the clock.
const SMALLEST_SLICE: usize = 16;
const LARGEST_SLICE: usize = 512;
/// Keys that a transaction takes from a queue: what it has no time for was read in vain.
const FEWEST_KEYS: usize = 128;
const MOST_KEYS: usize = 1024;
/// How long rows wait that somebody is writing.
const BUSY: &str = "clock_timestamp() + interval '200 ms'";

thread_local! {
    /// As many rows as this session has embedded in half of the budget at least.
    static SLICE: Cell<usize> = const { Cell::new(SMALLEST_SLICE) };
    /// How many keys the next transaction takes: a few more than the last one had time for.
    static KEYS: Cell<usize> = const { Cell::new(FEWEST_KEYS) };
}

/// One transaction's work on the queue of a source, as the owner, on whose behalf the caller must be allowed to act.
/// Returns how many keys were taken from the queue; 0: none is due, or all are somebody else's.
#[pg_extern(sql = false)]
fn pg_answer_process_batch(source: pg_sys::Oid, building: bool, fcinfo: pg_sys::FunctionCallInfo) -> i64 {
    // SAFETY: plain calls with a zero-terminated name.
    unsafe {
        pg_sys::PreventCommandDuringRecovery(c"embedding of queued rows".as_ptr());
        pg_sys::PreventCommandIfReadOnly(c"embedding of queued rows".as_ptr());
    }
    as_owner(source, fcinfo, |client, schema| {
        let sql = format!("SELECT {schema}.pg_answer_take_batch($1, $2, $3)");
        let wanted = i64::try_from(KEYS.get()).unwrap_or(i64::MAX);
        let rows = client.update(&sql, None, &[source.into(), building.into(), wanted.into()]).or_raise();
        rows.first().get_one::<i64>().or_raise().unwrap_or(0)
    })
}

/// Queues the rows of the tables `joined`, which have become parts of `source`, or without any the chunks of rows that are
/// gone, as the owner, on whose behalf the caller must be allowed to act.
#[pg_extern(sql = false)]
fn pg_answer_queue_members(source: pg_sys::Oid, joined: Vec<pg_sys::Oid>, fcinfo: pg_sys::FunctionCallInfo) {
    as_owner(source, fcinfo, |client, schema| {
        let sql = format!("SELECT {schema}.pg_answer_queue_members_now($1, $2::pg_catalog.regclass[])");
        client.update(&sql, None, &[source.into(), joined.into()]).or_raise();
    });
}

/// Runs `work`, which gets the schema of the extension, as the owner of `source`, on whose behalf the caller must be allowed
/// to act.
fn as_owner<R>(
    source: pg_sys::Oid,
    fcinfo: pg_sys::FunctionCallInfo,
    work: impl FnOnce(&mut SpiClient<'_>, &str) -> R,
) -> R {
    let owner = owner_of(source);
    must_be(owner, source);
    // SAFETY: this is the frame of the running call.
    let schema = unsafe { schema_of(fcinfo) };
    let _acting = ActingAs::owner_restricted(owner);
    Spi::connect_mut(|client| work(client, &schema))
}

/// Embeds the rows whose keys stand in the entries `ids`, which the caller has locked, and removes the entries. Rows that
/// somebody is writing, and what does not fit the time, is queued again. Returns the number of keys.
#[pg_extern(sql = false)]
fn pg_answer_embed_entries(
    source: pg_sys::Oid,
    building: bool,
    ids: Vec<i64>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> i64 {
    // SAFETY: this is the frame of the running call.
    let schema = unsafe { schema_of(fcinfo) };
    Spi::connect_mut(|client| {
        let plans = plans(client, &schema, source);
        let Some(plan) = plans.iter().find(|plan| plan.building == building) else {
            Report::new(Code::ERRCODE_UNDEFINED_OBJECT, "the source has no chunks").raise();
        };
        let (rows, versions) = read(client, plan, &ids);
        let (mut pieces, mut done) = (Vec::new(), 0);
        let start = Instant::now();
        while done < rows.len() && start.elapsed() < BUDGET {
            let slice = SLICE.get();
            let now = &rows[done..rows.len().min(done + slice)];
            let began = Instant::now();
            let mut made = embed(plan, now);
            made.iter_mut().for_each(|piece| piece.row += done);
            pieces.extend(made);
            done += now.len();
            let took = began.elapsed();
            SLICE.set(
                match slice {
                    _ if took > BUDGET => slice / 2,
                    _ if now.len() == slice && took < BUDGET / 2 => slice * 2,
                    _ => slice,
                }
                .clamp(SMALLEST_SLICE, LARGEST_SLICE),
            );
        }
        let next = if done == rows.len() { 2 * done } else { done + done / 8 };
        KEYS.set(next.clamp(FEWEST_KEYS, MOST_KEYS));
        store(client, plan, (&rows[..done], &versions[..done]), &pieces, &ids);
        let rest: Vec<&Row> = rows[done..].iter().collect();
        queue_again(client, plan, &rest, &ids, "'-infinity'");
        let sql = format!("DELETE FROM {} WHERE id_of_entry = ANY ($1)", plan.queue);
        client.update(&sql, None, &[ids.clone().into()]).or_raise();
        i64::try_from(rows.len()).unwrap_or(i64::MAX)
    })
}

/// Of a row as it was read, the transaction that wrote it; none when there is no row.
type Version = Option<String>;

/// The rows whose keys stand in the entries `ids`, each once.
fn read(client: &mut SpiClient<'_>, plan: &Plan, ids: &[i64]) -> (Vec<Row>, Vec<Version>) {
    let keys = plan.chunk_key();
    let content: Vec<String> = plan.content.iter().map(|c| format!("s.{c}::text")).collect();
    // LATERAL ... OFFSET 0: a look-up of each key, however large the table.
    let sql = format!(
        "SELECT {}, r.* FROM (SELECT DISTINCT u.* FROM {} AS q, unnest({}) AS u({keys}) WHERE q.id_of_entry = ANY ($1)) AS u \
         LEFT JOIN LATERAL (SELECT s.xmin::text, {} FROM {} AS s WHERE {} OFFSET 0) AS r ON true",
        plan.join(", ", |_, k| format!("u.{}::text", k.chunk_name)),
        plan.queue,
        plan.join(", ", |_, k| format!("q.{}", k.chunk_name)),
        content.join(", "),
        plan.source,
        plan.same_key("s", "u"),
    );
    let version = plan.key.len() + 1;
    let rows = client.update(&sql, None, &[ids.to_vec().into()]).or_raise();
    rows.map(|tuple| (Row::read(&tuple, plan, 1, version + 1), tuple.get::<String>(version).or_raise()))
        .unzip()
}

/// Puts `pieces` in the place of the chunks of those rows that nobody has written since they were read; the others are
/// queued again, and of rows that are gone the chunks go.
fn store(
    client: &mut SpiClient<'_>,
    plan: &Plan,
    (rows, versions): (&[Row], &[Version]),
    pieces: &[Piece],
    ids: &[i64],
) {
    // Whoever writes a row queues it, so what was read is right unless it was written since; a lock keeps it so until
    // the chunks are committed. It is taken after the embedding: nobody waits for a model.
    let unchanged = lock_unchanged(client, plan, rows, versions);
    replace(client, plan, rows, pieces, &|row| unchanged.contains(&row));
    let left = rows.iter().zip(versions).enumerate().filter(|(row, _)| !unchanged.contains(row));
    let (busy, gone): (Vec<_>, Vec<_>) = left.map(|(_, row)| row).partition(|(_, version)| version.is_some());
    let [busy, gone] = [busy, gone].map(|some| some.into_iter().map(|(row, _)| row).collect::<Vec<&Row>>());
    remove_gone(client, plan, &gone);
    queue_again(client, plan, &busy, ids, BUSY);
}

/// Which of the rows nobody has written since they were read; these are locked against it.
fn lock_unchanged(
    client: &mut SpiClient<'_>,
    plan: &Plan,
    rows: &[Row],
    versions: &[Version],
) -> HashSet<usize> {
    if rows.is_empty() {
        return HashSet::new();
    }
    let version = plan.key.len() + 1;
    let sql = format!(
        "SELECT u.n FROM {} WITH ORDINALITY AS u({}, x, n) JOIN {} AS s ON {} AND s.xmin::text = u.x \
         FOR NO KEY UPDATE OF s SKIP LOCKED",
        plan.unnest(&format!(", ${version}::text[]")),
        plan.unnested(),
        plan.source,
        plan.join(" AND ", |i, k| format!("s.{} {} u.k{i}::{}", k.name, k.equal, k.type_name)),
    );
    let mut arguments = key_arrays(plan, rows.iter());
    arguments.push(versions.to_vec().into());
    let locked = client.update(&sql, None, &arguments).or_raise();
    locked
        .filter_map(|tuple| tuple.get::<i64>(1).or_raise())
        .filter_map(|n| usize::try_from(n - 1).ok())
        .collect()
}

/// Queues `rows` as one entry that is due at `due`, and is as old as the oldest of the entries `ids`.
fn queue_again(client: &mut SpiClient<'_>, plan: &Plan, rows: &[&Row], ids: &[i64], due: &str) {
    if rows.is_empty() {
        return;
    }
    let n = plan.key.len() + 1;
    let sql = format!(
        "INSERT INTO {0} ({1}, queued_at, due) \
         SELECT {2}, (SELECT min(q.queued_at) FROM {0} AS q WHERE q.id_of_entry = ANY (${n}::bigint[])), {due} FROM {3} AS u({4})",
        plan.queue,
        plan.chunk_key(),
        plan.join(", ", |i, k| format!("array_agg(u.k{i}::{})", k.type_name)),
        plan.unnest(""),
        plan.unnested(),
    );
    let mut arguments = key_arrays(plan, rows.iter().copied());
    arguments.push(ids.to_vec().into());
    client.update(&sql, None, &arguments).or_raise();
}

/// What waits in the queue of a source, for everybody who may read of the source: keys that wait, keys that were given
/// up, and when the oldest was queued.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn pg_answer_queue_state(
    source: pg_sys::Oid,
    building: bool,
    fcinfo: pg_sys::FunctionCallInfo,
) -> TableIterator<
    'static,
    (name!(waiting, i64), name!(failed, i64), name!(oldest, Option<TimestampWithTimeZone>)),
> {
    // SAFETY: this is the frame of the running call.
    let schema = unsafe { schema_of(fcinfo) };
    let row = Spi::connect(|client| {
        let sql = "SELECT pg_catalog.has_any_column_privilege($1, 'SELECT')";
        let allowed = client.select(sql, None, &[source.into()]).or_raise();
        if allowed.first().get_one::<bool>().or_raise() != Some(true) {
            must_be(owner_of(source), source);
        }
        let _acting = ActingAs::owner(owner_of(source));
        let sql = format!("SELECT * FROM {schema}.pg_answer_count_queue($1, $2)");
        let row = client.select(&sql, None, &[source.into(), building.into()]).or_raise().first();
        (
            row.get::<i64>(1).or_raise().unwrap_or(0),
            row.get::<i64>(2).or_raise().unwrap_or(0),
            row.get::<TimestampWithTimeZone>(3).or_raise(),
        )
    });
    TableIterator::once(row)
}
