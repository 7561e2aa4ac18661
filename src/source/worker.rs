//! The background worker of a database: embeds what is queued, at low priority, and ends when there is nothing left.
//!
//! Whoever queues rows starts it; a server that preloads the library also has a launcher, which starts the workers that a
//! crash or a restart left off. A worker holds an advisory lock of its database, so there is one at most.

use std::cell::Cell;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::prelude::*;
use pgrx::{PgTryBuilder, pg_sys};

// PostgreSQL 18 has the function under another name, behind a macro of the old one.
#[cfg(not(feature = "pg18"))]
use pg_sys::pqsignal;
#[cfg(feature = "pg18")]
use pg_sys::pqsignal_be as pqsignal;

use crate::error::OrRaise;
use crate::settings;

/// Key of the advisory lock that the worker of a database holds; the bytes of "pganswer".
const LOCK: i64 = 0x7067_616e_7377_6572;
/// How long a worker stays when nothing is queued. A model is loaded once per worker.
const LINGER: Duration = Duration::from_secs(10);
/// How often it looks.
const NAP: Duration = Duration::from_millis(200);
/// How often the launcher looks for databases without a worker.
const ROUND: Duration = Duration::from_secs(10);
/// Longest pause of a source whose batches fail as a whole, such as for want of its model.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Added to the worker's priority, where more is less.
const NICE: i32 = 10;

thread_local! {
    static WAKE: Cell<bool> = const { Cell::new(false) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
    static STARTED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Has the server start the launcher; called once, while libraries are preloaded.
pub fn register_launcher() {
    BackgroundWorkerBuilder::new("pg_answer launcher")
        .set_type("pg_answer launcher")
        .set_library("pg_answer")
        .set_function("pg_answer_launcher")
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(ROUND))
        .enable_spi_access()
        .load();
}

/// Starts the worker when this transaction has committed, unless one is there.
pub fn wake_at_commit() {
    WAKE.set(true);
    if !REGISTERED.replace(true) {
        // SAFETY: the callback lives as long as the library, which is never unloaded.
        unsafe { pg_sys::RegisterXactCallback(Some(at_transaction_end), std::ptr::null_mut()) }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn at_transaction_end(
    event: pg_sys::XactEvent::Type,
    _argument: *mut core::ffi::c_void,
) {
    match event {
        // Locks can be asked for only before the commit, workers be started only after it: one that starts earlier
        // could look into the queue too early.
        pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT if WAKE.get() => WAKE.set(should_start()),
        pg_sys::XactEvent::XACT_EVENT_COMMIT if WAKE.replace(false) => {
            start();
        }
        pg_sys::XactEvent::XACT_EVENT_ABORT | pg_sys::XactEvent::XACT_EVENT_PREPARE => WAKE.set(false),
        _ => {}
    }
}

fn should_start() -> bool {
    // A worker that was started a moment ago may not hold its lock yet.
    let just_started = STARTED.get().is_some_and(|at| at.elapsed() < Duration::from_secs(1));
    // SAFETY: reads a plain global.
    settings::background_worker() && !just_started && !is_running(unsafe { pg_sys::MyDatabaseId })
}

/// Whether a worker holds the lock of `database`.
fn is_running(database: pg_sys::Oid) -> bool {
    // The tag of pg_advisory_lock(LOCK) in that database.
    let tag = pg_sys::LOCKTAG {
        locktag_field1: database.to_u32(),
        locktag_field2: (LOCK >> 32) as u32,
        locktag_field3: LOCK as u32,
        locktag_field4: 1,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    };
    let mode = pg_sys::ShareLock as i32;
    // SAFETY: the tag is whole. Shared locks of several sessions that look at once do not get into each other's way.
    unsafe {
        let got = pg_sys::LockAcquire(&raw const tag, mode, true, true);
        if got == pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL {
            return true;
        }
        pg_sys::LockRelease(&raw const tag, mode, true);
    }
    false
}

/// Whether the server takes a worker for this database.
fn start() -> bool {
    STARTED.set(Some(Instant::now()));
    // SAFETY: reads a plain global.
    builder(unsafe { pg_sys::MyDatabaseId }, false).load_dynamic().is_ok()
}

fn builder(database: pg_sys::Oid, only_if_queued: bool) -> BackgroundWorkerBuilder {
    BackgroundWorkerBuilder::new("pg_answer worker")
        .set_type("pg_answer worker")
        .set_library("pg_answer")
        .set_function("pg_answer_worker")
        .set_argument(database.into_datum())
        .set_extra(if only_if_queued { "only if queued" } else { "" })
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(None)
        .enable_spi_access()
}

/// Starts the worker unless it runs. False when the server has no room for one.
#[pg_extern(sql = false)]
fn pg_answer_start_worker() -> bool {
    !should_start() || start()
}

// pgrx's own names for these are Rust functions around them, which no signal can call.
unsafe extern "C-unwind" {
    #[link_name = "die"]
    fn handle_sigterm(signal: i32);
    #[link_name = "SignalHandlerForConfigReload"]
    fn handle_sighup(signal: i32);
}

/// Starts the worker when the transaction has committed, unless it runs.
#[pg_extern(sql = false)]
fn pg_answer_wake_worker() {
    wake_at_commit();
}

/// Signals as in a session: SIGTERM ends at the next check for interrupts, SIGHUP reads the settings.
fn accept_signals() {
    // SAFETY: handlers of the server, for signals of this process.
    unsafe {
        pqsignal(pg_sys::SIGTERM as i32, Some(handle_sigterm));
        pqsignal(pg_sys::SIGHUP as i32, Some(handle_sighup));
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

/// Sleeps; ends the process when the server does.
fn nap(length: Duration) {
    // SAFETY: the process's own latch; a plain call.
    unsafe {
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as i32,
            i64::try_from(length.as_millis()).unwrap_or(i64::MAX),
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
        if pg_sys::ConfigReloadPending != 0 {
            pg_sys::ConfigReloadPending = 0;
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
    pgrx::check_for_interrupts!();
}

/// Runs `work` in a transaction of its own. An ERROR is logged as a warning, undone, and gives `None`.
fn transaction<R>(what: &str, work: impl FnOnce() -> R) -> Option<R> {
    // SAFETY: called outside of transactions, in a process that is connected to a database.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        // Whatever the database's default: a batch must see what others have committed before it.
        pg_sys::XactIsoLevel = pg_sys::XACT_READ_COMMITTED as i32;
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
    }
    let done = PgTryBuilder::new(AssertUnwindSafe(|| Some(work())))
        .catch_others(|error| {
            let message = match error {
                pg_sys::panic::CaughtError::PostgresError(report)
                | pg_sys::panic::CaughtError::ErrorReport(report)
                | pg_sys::panic::CaughtError::RustPanic { ereport: report, .. } => {
                    report.message().to_owned()
                }
            };
            pgrx::log!("pg_answer worker: {what}: {message}");
            None
        })
        .execute();
    // SAFETY: ends the transaction begun above.
    unsafe {
        if done.is_some() {
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
        } else {
            pg_sys::AbortCurrentTransaction();
        }
    }
    done
}

/// The schema of the extension, if this database has it.
fn schema() -> Option<String> {
    Spi::get_one(
        "SELECT pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_extension e
         JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_answer'",
    )
    .unwrap_or_default()
}

/// Pauses of sources whose batches fail as a whole.
type Pauses = HashMap<(pg_sys::Oid, bool), (Instant, Duration)>;

/// What a round over the sources found.
#[derive(PartialEq, Eq)]
enum Round {
    Worked,
    /// Nothing is due, but something waits to be tried again.
    Waits,
    Nothing,
}

/// Main function of the worker; `database` is the OID of its database.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_answer_worker(database: pg_sys::Datum) {
    accept_signals();
    // SAFETY: the argument is an OID; a plain system call.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, NICE);
        let database = pg_sys::Oid::from_datum(database, false);
        pg_sys::BackgroundWorkerInitializeConnectionByOid(
            database.unwrap_or(pg_sys::InvalidOid),
            pg_sys::InvalidOid,
            0,
        );
    }
    let only_if_queued = BackgroundWorker::get_extra() == "only if queued";
    let mut pauses = Pauses::new();
    if !transaction("lock", lock).unwrap_or(false) {
        return;
    }
    let mut last_work = Instant::now();
    loop {
        pgrx::check_for_interrupts!();
        if transaction("look", is_in_the_way).unwrap_or(true) || !settings::background_worker() {
            return;
        }
        match round(&mut pauses) {
            Round::Worked => {
                last_work = Instant::now();
                continue;
            }
            Round::Waits => {}
            Round::Nothing if only_if_queued || last_work.elapsed() > LINGER => {
                // Who queues rows and sees the lock relies on a look after it.
                transaction("unlock", unlock);
                nap(NAP);
                if round(&mut pauses) != Round::Worked || !transaction("lock", lock).unwrap_or(false) {
                    return;
                }
                last_work = Instant::now();
            }
            Round::Nothing => {}
        }
        nap(NAP);
    }
}

/// Takes the worker's lock. Sessions that look for it hold it for a moment.
fn lock() -> bool {
    (0..10).any(|i| {
        if i > 0 {
            nap(Duration::from_millis(20));
        }
        let sql = format!("SELECT pg_catalog.pg_try_advisory_lock({LOCK})");
        Spi::get_one::<bool>(&sql).ok().flatten() == Some(true)
    })
}

fn unlock() {
    Spi::run(&format!("SELECT pg_catalog.pg_advisory_unlock({LOCK})")).or_raise();
}

/// Whether somebody wants the database for himself: to drop, rename or copy it.
fn is_in_the_way() -> bool {
    let wanted = Spi::get_one::<bool>(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'object' AND classid = 1262
             AND objid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
             AND mode IN ('ShareLock', 'AccessExclusiveLock'))",
    );
    wanted.ok().flatten() == Some(true)
}

/// One batch of each source that has work.
fn round(pauses: &mut Pauses) -> Round {
    let Some(schema) = transaction("look", schema).flatten() else { return Round::Nothing };
    let sources = transaction("look", || sources(&schema)).unwrap_or_default();
    let mut found = Round::Nothing;
    for (source, building, name) in sources {
        let paused = pauses.get(&(source, building)).copied();
        if paused.is_some_and(|(until, _)| Instant::now() < until) {
            found = if found == Round::Worked { found } else { Round::Waits };
            continue;
        }
        pgrx::check_for_interrupts!();
        let batch = transaction(&name, || {
            let sql = format!("SELECT {schema}.pg_answer_process_batch($1, $2)");
            let keys = Spi::get_one_with_args::<i64>(&sql, &[source.into(), building.into()]).or_raise();
            if keys != Some(0) {
                return (keys, 0);
            }
            let sql = format!("SELECT waiting FROM {schema}.pg_answer_queue_state($1, $2)");
            let waiting = Spi::get_one_with_args::<i64>(&sql, &[source.into(), building.into()]).or_raise();
            (Some(0), waiting.unwrap_or(0))
        });
        match batch {
            Some((Some(0), waiting)) => {
                if waiting > 0 && found == Round::Nothing {
                    found = Round::Waits;
                }
                pauses.remove(&(source, building));
            }
            Some(_) => {
                found = Round::Worked;
                pauses.remove(&(source, building));
            }
            None => {
                let pause = paused.map_or(Duration::from_secs(1), |(_, last)| (last * 2).min(LONGEST_PAUSE));
                pauses.insert((source, building), (Instant::now() + pause, pause));
                found = if found == Round::Worked { found } else { Round::Waits };
            }
        }
    }
    found
}

/// Sources that are the worker's business. A manual one is built anew by the worker, too, when it is altered.
fn sources(schema: &str) -> Vec<(pg_sys::Oid, bool, String)> {
    Spi::connect(|client| {
        let sql = format!(
            "SELECT s.relation::pg_catalog.oid, s.building, s.relation::text FROM {schema}.pg_answer_sources s
             WHERE s.chunks IS NOT NULL AND (s.mode <> 'manual' OR s.building) ORDER BY 1, 2"
        );
        let rows = client.select(&sql, None, &[]).or_raise();
        rows.filter_map(|row| {
            let source = row.get::<pg_sys::Oid>(1).or_raise()?;
            Some((source, row.get::<bool>(2).or_raise()?, row.get::<String>(3).or_raise()?))
        })
        .collect()
    })
}

/// Main function of the launcher.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_answer_launcher(_argument: pg_sys::Datum) {
    accept_signals();
    BackgroundWorker::connect_worker_to_spi(None, None);
    loop {
        if settings::background_worker() {
            for database in transaction("look", databases).unwrap_or_default() {
                // One after the other, so that many databases need few places.
                if builder(database, true).load_dynamic().is_ok() {
                    nap(Duration::from_millis(50));
                }
            }
        }
        nap(ROUND);
    }
}

/// Databases that take connections and have no worker. The launcher is connected to none, so it cannot ask by a query.
fn databases() -> Vec<pg_sys::Oid> {
    let mut found = Vec::new();
    // SAFETY: the server's own way to read this catalogue: it is shared, and its rows have this form.
    unsafe {
        let lock = pg_sys::AccessShareLock as i32;
        let catalogue = pg_sys::table_open(pg_sys::DatabaseRelationId, lock);
        let scan = pg_sys::table_beginscan_catalog(catalogue, 0, std::ptr::null_mut());
        loop {
            let row = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if row.is_null() {
                break;
            }
            let database = &*pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_database>(row);
            if database.datallowconn && !database.datistemplate {
                found.push(database.oid);
            }
        }
        pg_sys::heap_endscan(scan);
        pg_sys::table_close(catalogue, lock);
    }
    found.retain(|&database| !is_running(database));
    found
}
