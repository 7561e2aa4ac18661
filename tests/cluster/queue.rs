//! The queue of a source outlives crashes, dumps, standbys and replication.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pg_answer_tests::timing::wait_until;
use pg_answer_tests::{Cluster, Options};
use postgres::{Client, NoTls};

use crate::chunks::wrong_chunks;
use crate::dump::dump_and_restore;
use crate::{error_of, expect_code, one, session, shared};

const SOURCE: &str = "CREATE TABLE notes (id int PRIMARY KEY, body text);
    SELECT create_source('notes', content => 'body', mode => 'queued')";
const CUT: &str = "'recursive', 256, 0";
const WORKERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_answer worker'";

const KILLS: usize = 20;
const WRITERS: i32 = 3;
/// Statements of a writer; each round of three changes 100 rows.
const ROUNDS: i32 = 67;

/// Changes 100 rows in three statements. After a crash it is done again, whatever of it was committed.
fn write_round(client: &mut Client, writer: i32, round: i32) -> Result<(), postgres::Error> {
    let first = writer * 1_000_000 + round * 60;
    let last = first + 59;
    for sql in [
        format!(
            "INSERT INTO notes SELECT i, 'note ' || i FROM generate_series({first}, {last}) i
                 ON CONFLICT (id) DO UPDATE SET body = excluded.body"
        ),
        format!(
            "UPDATE notes SET body = 'changed ' || id WHERE id BETWEEN {first} AND {last} AND id % 2 = 0"
        ),
        format!("DELETE FROM notes WHERE id BETWEEN {first} AND {last} AND id % 6 = 0"),
    ] {
        client.batch_execute(&sql)?;
    }
    Ok(())
}

/// What the crashes have come to.
#[derive(Default)]
struct Crashes {
    finished: AtomicBool,
    /// The server could not be crashed or started.
    failed: AtomicBool,
}

/// Writes all rounds, again from the first while the crashes go on; a lost connection is made anew.
fn write(config: &postgres::Config, writer: i32, crashes: &Crashes) -> Result<()> {
    let mut client: Option<Client> = None;
    loop {
        for round in 0..ROUNDS {
            // Spread over all the crashes.
            std::thread::sleep(Duration::from_millis(500));
            loop {
                let connected = client.take().filter(|c| !c.is_closed());
                if let Some(mut c) = connected.or_else(|| config.connect(NoTls).ok()) {
                    match write_round(&mut c, writer, round) {
                        Ok(()) => {
                            client = Some(c);
                            break;
                        }
                        // A statement fails because the server dies, and for no other reason.
                        Err(e) if c.is_closed() || e.code().is_some_and(|s| s.code().starts_with("57P")) => {}
                        Err(e) => return Err(e.into()),
                    }
                }
                ensure!(!crashes.failed.load(Ordering::Relaxed), "there is no server any more");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        if crashes.finished.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
}

#[test]
fn twenty_crashes_lose_no_row() -> Result<()> {
    let mut cluster =
        Options::default().models().crash_safe().setting("shared_preload_libraries = 'pg_answer'").start()?;
    let database = cluster.create_database("kill")?;
    cluster.client(&database)?.batch_execute(SOURCE)?;
    let config = cluster.config("postgres", &database);
    let crashes = Crashes::default();
    std::thread::scope(|scope| -> Result<()> {
        let writers: Vec<_> = (0..WRITERS)
            .map(|w| {
                let (config, crashes) = (&config, &crashes);
                scope.spawn(move || write(config, w, crashes))
            })
            .collect();
        let mut random = 4711u64;
        let killed = (0..KILLS).try_for_each(|_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            std::thread::sleep(Duration::from_millis(100 + (random >> 33) % 900));
            cluster.kill()?;
            cluster.start()
        });
        crashes.failed.store(killed.is_err(), Ordering::Relaxed);
        crashes.finished.store(true, Ordering::Relaxed);
        let written = writers.into_iter().try_for_each(|w| w.join().expect("no panic"));
        killed.and(written)
    })?;
    let mut client = cluster.client(&database)?;
    let rows: i64 = one(&mut client, "SELECT count(*) FROM notes")?;
    ensure!(rows == i64::from(WRITERS * ROUNDS * 50), "{rows} rows");
    wait_until("the queue to be empty", || {
        one(&mut client, "SELECT rows_left = 0 AND rows_failed = 0 FROM pg_answer_source_progress")
    })?;
    ensure!(one::<i64>(&mut client, "SELECT count(*) FROM notes_chunks")? == rows);
    ensure!(wrong_chunks(&mut client, "notes", "notes_chunks", CUT)? == 0);
    Ok(())
}

/// With its data a restored database goes on with what was queued; without, the source is declared again.
#[test]
fn queues_are_dumped_and_restored() -> Result<()> {
    let (database, mut client) = session("queue_dump")?;
    client.batch_execute("SET pg_answer.background_worker = off")?;
    client.batch_execute(SOURCE)?;
    client.batch_execute("INSERT INTO notes SELECT i, 'done ' || i FROM generate_series(1, 50) i")?;
    client.batch_execute("CALL process_queue()")?;
    client.batch_execute("SELECT alter_source('notes', mode => 'manual')")?;
    client.batch_execute("INSERT INTO notes SELECT i, 'waits ' || i FROM generate_series(51, 70) i")?;
    const STATE: &str =
        "SELECT concat_ws('|', s.relation, s.mode, s.chunks, s.queue, s.chunk_tokens, p.rows_left,
        (SELECT md5(string_agg(c::text, '' ORDER BY id)) FROM notes_chunks c),
        (SELECT string_agg(polname || pg_get_expr(polqual, polrelid), '') FROM pg_policy))
        FROM pg_answer_sources s JOIN pg_answer_source_progress p ON p.source = s.relation";
    let before: String = one(&mut client, STATE)?;
    ensure!(before.contains("|20|"), "{before}");
    let restored = shared().create_empty_database("queue_restored")?;
    dump_and_restore(&database, &restored, "postgres", &[])?;
    let mut there = shared().client(&restored)?;
    ensure!(one::<String>(&mut there, STATE)? == before);
    there.batch_execute("UPDATE notes SET body = 'changed there' WHERE id = 1")?;
    there.batch_execute("CALL process_queue()")?;
    ensure!(wrong_chunks(&mut there, "notes", "notes_chunks", CUT)? == 0);
    // The dependency is there again.
    there.batch_execute("DROP TABLE notes")?;
    ensure!(one::<bool>(&mut there, "SELECT to_regclass('notes_chunks') IS NULL")?);

    let bare = shared().create_empty_database("queue_schema")?;
    dump_and_restore(&database, &bare, "postgres", &["--schema-only"])?;
    let mut there = shared().client(&bare)?;
    there.batch_execute("INSERT INTO notes VALUES (1, 'not lost')")?;
    there.batch_execute("SELECT create_source('notes', content => 'body', mode => 'manual')")?;
    there.batch_execute("INSERT INTO notes VALUES (2, 'new')")?;
    there.batch_execute("CALL process_queue()")?;
    ensure!(one::<i64>(&mut there, "SELECT count(*) FROM notes_chunks")? == 2);
    Ok(())
}

/// Rows that logical replication brings, and those of a session that says it is one.
#[test]
fn replicated_rows_are_queued() -> Result<()> {
    let publisher = Options::default().models().setting("wal_level = logical").start()?;
    let subscriber = Options::default().models().start()?;
    let from = publisher.create_database("publisher")?;
    let to = subscriber.create_database("subscriber")?;
    let mut source = publisher.client(&from)?;
    source.batch_execute(
        "CREATE TABLE notes (id int PRIMARY KEY, body text); INSERT INTO notes VALUES (1, 'before'), (2, 'also');
         CREATE PUBLICATION p FOR TABLE notes",
    )?;
    let mut target = subscriber.client(&to)?;
    target.batch_execute(
        "CREATE TABLE notes (id int PRIMARY KEY, body text);
         SELECT create_source('notes', content => 'body', mode => 'queued', replica => true)",
    )?;
    let connection = format!("host={} user=postgres dbname={from}", publisher.folder().display());
    target.batch_execute(&format!("CREATE SUBSCRIPTION s CONNECTION '{connection}' PUBLICATION p"))?;
    source.batch_execute(
        "INSERT INTO notes VALUES (3, 'after'); UPDATE notes SET body = 'changed' WHERE id = 1;
         UPDATE notes SET id = 4 WHERE id = 2; INSERT INTO notes VALUES (5, 'gone'); DELETE FROM notes WHERE id = 5",
    )?;
    let expected = "1changed|3after|4also";
    let chunks = "SELECT coalesce(string_agg(id || chunk, '|' ORDER BY id), '') FROM notes_chunks";
    wait_until("the chunks to follow", || Ok(one::<String>(&mut target, chunks)? == expected))?;
    target.batch_execute("DROP SUBSCRIPTION s")?;
    Ok(())
}

#[test]
fn a_standby_searches_chunks() -> Result<()> {
    let primary = Options::default().models().setting("shared_preload_libraries = 'pg_answer'").start()?;
    let database = primary.create_database("standby")?;
    let standby = primary.standby()?;
    let mut client = primary.client(&database)?;
    client.batch_execute(SOURCE)?;
    client.batch_execute(
        "INSERT INTO notes VALUES (1, 'Quartz sand costs 38 euros.'), (2, 'The choir sings.')",
    )?;
    ensure!(one::<bool>(&mut client, "SELECT wait_for_source('notes', '60 s')")?);
    primary.wait_for_replay(&standby)?;
    let mut replica = standby.client(&database)?;
    let sql = "SELECT content FROM rag_retrieve('price of sand', 'notes', 1)";
    ensure!(one::<String>(&mut replica, sql)? == "Quartz sand costs 38 euros.");
    ensure!(one::<i64>(&mut replica, "SELECT rows_left FROM pg_answer_source_progress")? == 0);
    expect_code(&error_of(&mut replica, "CALL process_queue('notes')")?, "25006")?;
    Ok(())
}

/// When the primary is gone, its standby goes on with the queue: nobody has to write first.
#[test]
fn a_promoted_standby_goes_on() -> Result<()> {
    let mut primary =
        Options::default().models().setting("shared_preload_libraries = 'pg_answer'").start()?;
    let database = primary.create_database("promoted")?;
    let mut standby = primary.standby()?;
    let mut client = primary.client(&database)?;
    client.batch_execute("ALTER SYSTEM SET pg_answer.background_worker = off")?;
    client.batch_execute("SELECT pg_reload_conf()")?;
    client.batch_execute(SOURCE)?;
    client.batch_execute("INSERT INTO notes SELECT i, 'note ' || i FROM generate_series(1, 300) i")?;
    ensure!(one::<i64>(&mut client, "SELECT rows_left FROM pg_answer_source_progress")? == 300);
    primary.wait_for_replay(&standby)?;
    drop(client);
    primary.kill()?;
    standby.promote()?;
    let mut client = standby.client(&database)?;
    wait_until("the queue to be empty", || {
        one(&mut client, "SELECT rows_left = 0 FROM pg_answer_source_progress")
    })?;
    ensure!(wrong_chunks(&mut client, "notes", "notes_chunks", CUT)? == 0);
    Ok(())
}

/// pg_upgrade carries chunks and what waits over, and the new server goes on.
#[test]
fn pg_upgrade_keeps_sources() -> Result<()> {
    let old = Options::default().models().setting("pg_answer.background_worker = off").start()?;
    let database = old.create_database("upgraded")?;
    let mut client = old.client(&database)?;
    client.batch_execute(SOURCE)?;
    client.batch_execute("INSERT INTO notes SELECT i, 'done ' || i FROM generate_series(1, 50) i")?;
    client.batch_execute("CALL process_queue()")?;
    client.batch_execute("INSERT INTO notes SELECT i, 'waits ' || i FROM generate_series(51, 70) i")?;
    const CHUNKS: &str = "SELECT md5(string_agg(c::text, '' ORDER BY id)) FROM notes_chunks c";
    let before: String = one(&mut client, CHUNKS)?;
    drop(client);
    let new = old.upgraded()?;
    let mut client = new.client(&database)?;
    ensure!(one::<String>(&mut client, CHUNKS)? == before);
    ensure!(one::<i64>(&mut client, "SELECT rows_left FROM pg_answer_source_progress")? == 20);
    client.batch_execute("UPDATE notes SET body = 'changed there' WHERE id = 1")?;
    client.batch_execute("CALL process_queue()")?;
    ensure!(wrong_chunks(&mut client, "notes", "notes_chunks", CUT)? == 0);
    client.batch_execute("DROP TABLE notes")?;
    ensure!(one::<bool>(&mut client, "SELECT to_regclass('notes_chunks') IS NULL")?);
    Ok(())
}

/// Workers end by themselves, and for those who want the database for themselves.
#[test]
fn no_worker_is_left_behind() -> Result<()> {
    let cluster: Cluster = Options::default().models().start()?;
    let database = cluster.create_database("left")?;
    let mut client = cluster.client(&database)?;
    client.batch_execute(SOURCE)?;
    client.batch_execute("INSERT INTO notes SELECT i, 'note ' || i FROM generate_series(1, 20000) i")?;
    let mut watcher = cluster.client("postgres")?;
    wait_until("a worker", || Ok(one::<i64>(&mut watcher, WORKERS)? == 1))?;
    drop(client);
    // It is in the middle of its work.
    watcher.batch_execute(&format!("DROP DATABASE {database}")).context("the worker is in the way")?;
    wait_until("the worker to end", || Ok(one::<i64>(&mut watcher, WORKERS)? == 0))?;

    let database = cluster.create_database("left")?;
    let mut client = cluster.client(&database)?;
    client.batch_execute(SOURCE)?;
    client.batch_execute("INSERT INTO notes SELECT i, 'note ' || i FROM generate_series(1, 2000) i")?;
    wait_until("a worker", || Ok(one::<i64>(&mut watcher, WORKERS)? == 1))?;
    client.batch_execute("SET client_min_messages = warning; DROP EXTENSION pg_answer CASCADE")?;
    wait_until("the worker to end", || Ok(one::<i64>(&mut watcher, WORKERS)? == 0))?;
    ensure!(one::<bool>(
        &mut client,
        "SELECT to_regclass('notes_chunks') IS NULL AND to_regclass('notes') IS NOT NULL"
    )?);
    ensure!(!cluster.log().contains("PANIC"), "{}", cluster.log());
    Ok(())
}
