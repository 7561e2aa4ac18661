//! The index `ann` under crashes, on a standby, with several sessions, and when it is cancelled or damaged.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pg_answer_tests::{Cluster, Options};
use postgres::{Client, GenericClient};

use crate::{error_of, expect_code, one};

/// Makes the table `t(id, v)` with an index of each distance and `rows` rows.
fn table(client: &mut impl GenericClient, rows: i32) -> Result<()> {
    client.batch_execute(
        "CREATE TABLE t (id int PRIMARY KEY, v vector(32));
         CREATE FUNCTION vector_of(i int) RETURNS vector(32) LANGUAGE sql IMMUTABLE RETURN
             (SELECT array_agg(sin(i * 0.37 + j * j * 1.7) + cos(i * j * 0.11)) FROM generate_series(1, 32) j)::real[]::vector;",
    )?;
    client.execute("INSERT INTO t SELECT i, vector_of(i) FROM generate_series(1, $1) i", &[&rows])?;
    client.batch_execute(
        "CREATE INDEX t_l2 ON t USING ann (v vector_l2_ops);
         CREATE INDEX t_cosine ON t USING ann (v vector_cosine_ops);
         CREATE INDEX t_l1 ON t USING ann (v vector_l1_ops);
         CREATE INDEX t_keys ON t USING ann (v vector_ip_ops, id);
         ANALYZE t",
    )?;
    Ok(())
}

const BY_INDEX: &str = "SET enable_seqscan = off; SET enable_sort = off; SET enable_bitmapscan = off";

/// Fails unless a scan of the index returns what the table holds, each row once, and finds near rows.
fn expect_whole(client: &mut Client) -> Result<()> {
    client.batch_execute("RESET ALL")?;
    let sum = "SELECT count(*) || ' ' || count(DISTINCT id) || ' ' || coalesce(sum(id), 0) FROM";
    let table: String = one(client, &format!("{sum} t"))?;
    // Its lock cannot be had during recovery.
    let indexes: &[&str] = if one(client, "SELECT pg_is_in_recovery()")? {
        &[]
    } else {
        &["t_l2", "t_cosine", "t_l1", "t_keys"]
    };
    for index in indexes {
        // More than the table's rows: those of transactions that died wait for VACUUM.
        let checked = format!("SELECT ann_check('{index}', heap => true) >= (SELECT count(*) FROM t)");
        ensure!(one::<bool>(client, &checked)?, "{index} lacks rows");
    }
    client.batch_execute(BY_INDEX)?;
    for operator in ["<->", "<=>", "<+>"] {
        let scan = format!("{sum} (SELECT id FROM t ORDER BY v {operator} vector_of(1000000) OFFSET 0) AS x");
        let index: String = one(client, &scan)?;
        ensure!(index == table, "the index has {index}, the table {table}");
        let missed: i64 = one(
            client,
            &format!(
                "SELECT count(*) FROM (SELECT * FROM t ORDER BY id LIMIT 400) AS q
                 WHERE q.v <> (SELECT v FROM t ORDER BY t.v {operator} q.v LIMIT 1)"
            ),
        )?;
        // The default target lets 20 be missed, and chance half as many more (2.8 standard deviations).
        ensure!(missed <= 32, "{missed} of 400 rows do not find themselves by {operator}");
    }
    for condition in ["id BETWEEN 50 AND 700", "id = 77", "id > 900 AND id < 2000"] {
        let table: String = one(client, &format!("{sum} t WHERE {condition}"))?;
        let scan =
            format!("{sum} (SELECT id FROM t WHERE {condition} ORDER BY v <#> vector_of(5) OFFSET 0) AS x");
        let index: String = one(client, &scan)?;
        ensure!(index == table, "{condition}: the index has {index}, the table {table}");
    }
    Ok(())
}

fn cluster_with_table(options: Options, rows: i32) -> Result<(Cluster, String)> {
    let cluster = options.start()?;
    let database = cluster.create_database("index")?;
    table(&mut cluster.client(&database)?, rows)?;
    Ok((cluster, database))
}

/// Runs statements until the server dies or `stop`.
fn work(client: &mut Client, statements: &[String]) -> Result<()> {
    for statement in statements {
        client.batch_execute(statement)?;
    }
    Ok(())
}

#[test]
fn survives_kills_during_changes() -> Result<()> {
    survives(10)
}

#[test]
#[ignore = "minutes: for changes of how pages are written"]
fn survives_many_kills_during_changes() -> Result<()> {
    survives(30)
}

fn survives(kills: usize) -> Result<()> {
    let (mut cluster, database) = cluster_with_table(Options::default().crash_safe(), 2000)?;
    for round in 0..kills {
        let mut next: i32 = one(&mut cluster.client(&database)?, "SELECT max(id) + 1 FROM t")?;
        let mut statements = Vec::new();
        for i in 0..400 {
            statements.push(match i % 20 {
                7 => format!("DELETE FROM t WHERE id % 17 = {}", (round + i) % 17),
                9 => "VACUUM t".to_owned(),
                13 => "REINDEX INDEX t_cosine".to_owned(),
                _ => format!(
                    "INSERT INTO t SELECT i, vector_of(i) FROM generate_series({next}, {next} + 19) i"
                ),
            });
            next += 20;
        }
        let mut client = cluster.client(&database)?;
        let worker = std::thread::spawn(move || work(&mut client, &statements));
        std::thread::sleep(Duration::from_millis(30 + 271 * round as u64 % 700));
        cluster.kill()?;
        // The worker's session has died, or it was done before.
        let _ = worker.join().map_err(|_| anyhow::anyhow!("the worker panicked"))?;
        cluster.start()?;
        expect_whole(&mut cluster.client(&database)?).with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

#[test]
fn unlogged_index_is_empty_after_a_crash() -> Result<()> {
    let (mut cluster, database) = cluster_with_table(Options::default().crash_safe(), 10)?;
    let mut client = cluster.client(&database)?;
    client.batch_execute("ALTER TABLE t SET UNLOGGED; CHECKPOINT")?;
    drop(client);
    cluster.kill()?;
    cluster.start()?;
    let mut client = cluster.client(&database)?;
    ensure!(one::<i64>(&mut client, "SELECT count(*) FROM t")? == 0);
    client.batch_execute("INSERT INTO t SELECT i, vector_of(i) FROM generate_series(1, 500) i")?;
    expect_whole(&mut client)
}

/// The standby replays with the server's own comparison of every page that a WAL record changes.
#[test]
fn standby_gives_the_same_rows() -> Result<()> {
    let options = Options::default().setting("wal_consistency_checking = 'all'");
    let (cluster, database) = cluster_with_table(options, 1500)?;
    let standby = cluster.standby()?;
    let mut client = cluster.client(&database)?;
    for statement in [
        "INSERT INTO t SELECT i, vector_of(i) FROM generate_series(1501, 3000) i",
        "DELETE FROM t WHERE id % 4 = 0",
        "VACUUM t",
        "INSERT INTO t SELECT i, vector_of(i) FROM generate_series(3001, 3500) i",
        "REINDEX TABLE t",
        "INSERT INTO t SELECT i, vector_of(i) FROM generate_series(3501, 12000) i",
        // Splits lists, frees the pages of the old ones, and uses them again.
        "VACUUM t",
        "VACUUM t",
        "INSERT INTO t SELECT i, vector_of(i) FROM generate_series(12001, 13000) i",
        "DELETE FROM t WHERE id % 3 = 0",
        "VACUUM t",
    ] {
        client.batch_execute(statement)?;
        cluster.wait_for_replay(&standby)?;
        let rows = "SELECT string_agg(id::text, ' ') FROM (SELECT id FROM t ORDER BY v <=> vector_of(77) LIMIT 50) AS x";
        let mut other = standby.client(&database)?;
        for session in [&mut client, &mut other] {
            session.batch_execute(BY_INDEX)?;
        }
        let (here, there): (String, String) = (one(&mut client, rows)?, one(&mut other, rows)?);
        ensure!(here == there, "after {statement}: {here} here, {there} on the standby");
    }
    expect_whole(&mut standby.client(&database)?)
}

#[test]
fn writers_readers_and_vacuum_at_once() -> Result<()> {
    all_at_once(120)
}

#[test]
#[ignore = "minutes: for changes of how lists are kept"]
fn writers_readers_and_vacuum_at_once_for_long() -> Result<()> {
    all_at_once(480)
}

/// Each writer inserts and deletes in `rounds` transactions of 20 rows.
fn all_at_once(rounds: i32) -> Result<()> {
    let (cluster, database) = cluster_with_table(Options::default(), 1000)?;
    // Rows that nobody changes must be in every result.
    let stable =
        "SELECT count(*) FROM (SELECT id FROM t ORDER BY v <-> vector_of(5) OFFSET 0) AS x WHERE id <= 1000";
    let (writing, vacuums) = (&AtomicUsize::new(4), &AtomicUsize::new(0));
    std::thread::scope(|scope| -> Result<()> {
        let mut workers = Vec::new();
        for writer in 0..4 {
            let mut client = cluster.client(&database)?;
            let first = 10_000 * (writer + 1);
            let statements: Vec<String> = (0..rounds)
                .flat_map(|i| {
                    let from = first + 20 * i;
                    [
                        format!(
                            "INSERT INTO t SELECT i, vector_of(i) FROM generate_series({from}, {from} + 19) i"
                        ),
                        format!(
                            "DELETE FROM t WHERE id BETWEEN {from} - 40 AND {from} - 36 AND id >= {first}"
                        ),
                    ]
                })
                .collect();
            workers.push(scope.spawn(move || {
                // However slow VACUUM is, one begins while each of the writers is at another part of its rows.
                let (before, after) = statements.split_at(statements.len() * (writer as usize + 1) / 5);
                let done = work(&mut client, before).and_then(|()| {
                    let ended = vacuums.load(Relaxed);
                    while vacuums.load(Relaxed) < ended.saturating_add(2) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    work(&mut client, after)
                });
                writing.fetch_sub(1, Relaxed);
                done
            }));
        }
        let mut client = cluster.client(&database)?;
        workers.push(scope.spawn(move || {
            let mut done = Ok(());
            while writing.load(Relaxed) > 0 && done.is_ok() {
                done = client.batch_execute("VACUUM t");
                vacuums.fetch_add(1, Relaxed);
            }
            // Nobody is to wait for one that has failed.
            vacuums.store(usize::MAX, Relaxed);
            Ok(done?)
        }));
        for _ in 0..2 {
            let mut client = cluster.client(&database)?;
            workers.push(scope.spawn(move || {
                client.batch_execute(BY_INDEX)?;
                while writing.load(Relaxed) > 0 {
                    let count: i64 = one(&mut client, stable)?;
                    ensure!(count == 1000, "{count} of 1000 rows");
                }
                Ok(())
            }));
        }
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| anyhow::bail!("a panic")))
    })?;
    let mut client = cluster.client(&database)?;
    let lists: i64 = one(&mut client, "SELECT (ann_stats('t_l2')->>'lists')::bigint")?;
    ensure!(lists > 20, "{lists} lists: none was split");
    expect_whole(&mut client)
}

/// An index of an empty table becomes one that is not scanned whole, and what its growth leaves behind is used again.
#[test]
fn vacuum_splits_lists_that_have_grown() -> Result<()> {
    let (cluster, database) = cluster_with_table(Options::default(), 0)?;
    let mut client = cluster.client(&database)?;
    let insert = |from: i32, to: i32| {
        format!("INSERT INTO t SELECT i, vector_of(i) FROM generate_series({from}, {to}) i")
    };
    let lists = "SELECT (ann_stats('t_l2')->>'lists')::bigint";
    client.batch_execute(&insert(1, 8000))?;
    ensure!(one::<i64>(&mut client, lists)? == 1);
    client.batch_execute("VACUUM t")?;
    let split: i64 = one(&mut client, lists)?;
    ensure!((30..=100).contains(&split), "{split} lists");
    let visited: i64 = one(&mut client, "SELECT (ann_stats('t_l2')->'lists_for_recall'->>'0.95')::bigint")?;
    ensure!(visited < split, "{visited} of {split} lists to visit");
    let recall: f64 = one(&mut client, "SELECT ann_recall('t_l2', 10, 50)")?;
    ensure!(recall >= 0.9, "recall {recall}");
    // Any transaction later, the pages of the one list are free; byte codes have stayed where they were.
    client.batch_execute("CREATE TABLE later ()")?;
    client.batch_execute("VACUUM t")?;
    let size = "SELECT pg_relation_size('t_l2')";
    let before: i64 = one(&mut client, size)?;
    client.batch_execute(&insert(8001, 12000))?;
    let after: i64 = one(&mut client, size)?;
    ensure!(after <= before + before / 8, "{after} bytes, {before} before");
    expect_whole(&mut client)
}

#[test]
fn a_build_can_be_cancelled() -> Result<()> {
    let (cluster, database) = cluster_with_table(Options::default(), 4000)?;
    let mut client = cluster.client(&database)?;
    for milliseconds in [5, 20, 60] {
        client.batch_execute(&format!("SET statement_timeout = {milliseconds}"))?;
        let build = "CREATE INDEX slow ON t USING ann (v vector_l2_ops) WITH (lists = 2000)";
        expect_code(&error_of(&mut client, build)?, "57014")?;
        client.batch_execute("RESET statement_timeout")?;
        ensure!(one::<i64>(&mut client, "SELECT count(*) FROM pg_class WHERE relname = 'slow'")? == 0);
    }
    expect_whole(&mut client)
}

/// Whatever a build and the threads that help it are doing, a cancel ends it, and leaves nothing.
#[test]
fn a_build_can_be_cancelled_in_each_phase() -> Result<()> {
    let (cluster, database) = cluster_with_table(Options::default(), 20_000)?;
    let (mut builder, mut other) = (cluster.client(&database)?, cluster.client(&database)?);
    builder.batch_execute("SET max_parallel_maintenance_workers = 2")?;
    other.batch_execute(
        "CREATE FUNCTION cancel_in(wanted text) RETURNS bool LANGUAGE plpgsql AS $$
         DECLARE seen text;
         BEGIN
             LOOP
                 PERFORM pg_stat_clear_snapshot();
                 SELECT phase INTO seen FROM pg_stat_progress_create_index;
                 IF seen = 'building index: ' || wanted THEN
                     RETURN (SELECT bool_or(pg_cancel_backend(pid)) FROM pg_stat_progress_create_index);
                 END IF;
                 IF NOT EXISTS (SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'CREATE INDEX slow%') THEN
                     RETURN false;
                 END IF;
             END LOOP;
         END $$",
    )?;
    for phase in ["sampling rows", "clustering the sample", "encoding rows", "writing lists"] {
        let mut cancelled = 0;
        // A short phase may have passed before it was seen, or before the signal came.
        for _ in 0..50 {
            let build = "CREATE INDEX slow ON t USING ann (v vector_l2_ops) WITH (lists = 1000)";
            let built = std::thread::scope(|scope| {
                let built = scope.spawn(|| builder.batch_execute(build));
                let running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'CREATE INDEX slow%'";
                while !built.is_finished() && one::<i64>(&mut other, running)? == 0 {}
                other.query_one("SELECT cancel_in($1)", &[&phase])?;
                let at = Instant::now();
                let built = built.join().map_err(|_| anyhow::anyhow!("the builder panicked"));
                println!("{phase}: ended {} ms after the cancel", at.elapsed().as_millis());
                built
            })?;
            match built {
                Ok(()) => builder.batch_execute("DROP INDEX slow")?,
                Err(error) => {
                    expect_code(error.as_db_error().context("not the server's error")?, "57014")?;
                    cancelled += 1;
                    ensure!(
                        one::<i64>(&mut builder, "SELECT count(*) FROM pg_class WHERE relname = 'slow'")?
                            == 0
                    );
                }
            }
            if cancelled == 3 {
                break;
            }
        }
        ensure!(cancelled == 3, "{phase}: cancelled {cancelled} times");
    }
    expect_whole(&mut builder)
}

/// Pages of garbage are an ERROR with a hint, and the session goes on.
#[test]
fn damaged_pages_are_an_error() -> Result<()> {
    // With checksums, which are the default from version 18 on, the server itself would refuse the pages.
    let options = Options::default().setting("ignore_checksum_failure = on");
    let (mut cluster, database) = cluster_with_table(options, 3000)?;
    let mut client = cluster.client(&database)?;
    let path: String =
        one(&mut client, "SELECT current_setting('data_directory') || '/' || pg_relation_filepath('t_l2')")?;
    drop(client);
    cluster.stop()?;
    let mut bytes = std::fs::read(&path)?;
    let pages = bytes.len() / 8192;
    // All pages but the first, behind PostgreSQL's header and ours.
    for page in 1..pages {
        bytes[page * 8192 + 24..page * 8192 + 28].copy_from_slice(b"junk");
    }
    std::fs::write(&path, bytes)?;
    cluster.start()?;
    let mut client = cluster.client(&database)?;
    client.batch_execute(BY_INDEX)?;
    let error = error_of(&mut client, "SELECT id FROM t ORDER BY v <-> vector_of(3) LIMIT 3")?;
    expect_code(&error, "XX002")?;
    ensure!(error.hint().is_some_and(|hint| hint.contains("REINDEX")), "{error:?}");
    client.batch_execute("REINDEX INDEX t_l2")?;
    expect_whole(&mut client)
}

/// What another session may not see yet, or no more, it does not see through the index.
#[test]
fn scans_see_what_their_snapshot_sees() -> Result<()> {
    let (cluster, database) = cluster_with_table(Options::default(), 1000)?;
    let (mut writer, mut reader) = (cluster.client(&database)?, cluster.client(&database)?);
    reader.batch_execute(BY_INDEX)?;
    let by_index = "SELECT count(*) || ' ' || count(DISTINCT id) || ' ' || sum(id) FROM \
                    (SELECT id FROM t ORDER BY v <-> vector_of(3) OFFSET 0) AS x";
    let before: String = one(&mut reader, by_index)?;

    // Inserted and rolled back, also to a savepoint.
    let insert = |from: i32| {
        format!("INSERT INTO t SELECT i, vector_of(i) FROM generate_series({from}, {from} + 99) i")
    };
    writer.batch_execute(&format!(
        "BEGIN; {}; SAVEPOINT s; {}; ROLLBACK TO s",
        insert(2000),
        insert(3000)
    ))?;
    ensure!(one::<String>(&mut reader, by_index)? == before, "rows before their commit");
    writer.batch_execute("ROLLBACK")?;
    ensure!(one::<String>(&mut reader, by_index)? == before, "rows that were rolled back");

    // A snapshot outlives changes, removals that wait for it, and the splits of VACUUM.
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ")?;
    ensure!(one::<String>(&mut reader, by_index)? == before);
    reader
        .batch_execute("DECLARE c CURSOR FOR SELECT id FROM t ORDER BY v <-> vector_of(3); MOVE 10 IN c")?;
    for statement in [
        "INSERT INTO t SELECT i, vector_of(i) FROM generate_series(2000, 9999) i",
        "DELETE FROM t WHERE id % 2 = 0",
        "VACUUM t",
        "UPDATE t SET v = vector_of(-id) WHERE id < 500",
        "VACUUM t",
        "INSERT INTO t SELECT i, vector_of(i) FROM generate_series(12000, 12999) i",
        "VACUUM t",
    ] {
        writer.batch_execute(statement)?;
    }
    ensure!(one::<String>(&mut reader, by_index)? == before, "not what the snapshot holds");
    let rest = reader.query("FETCH ALL FROM c", &[])?.len();
    ensure!(rest == 990, "{rest} rows behind the first 10 of 1000");
    reader.batch_execute("COMMIT")?;
    expect_whole(&mut writer)?;

    // Updates of other columns stay on their page and leave the index alone.
    writer.batch_execute("ALTER TABLE t ADD note text; ALTER TABLE t SET (fillfactor = 50)")?;
    writer.batch_execute("VACUUM FULL t")?;
    let entries: i64 = one(&mut writer, "SELECT ann_check('t_l2')")?;
    writer.batch_execute(
        "UPDATE t SET note = 'x' WHERE id % 5 = 0; UPDATE t SET note = 'y' WHERE id % 10 = 5",
    )?;
    let grown = one::<i64>(&mut writer, "SELECT ann_check('t_l2')")? - entries;
    ensure!(grown < entries / 50, "{grown} entries more after updates of another column");
    expect_whole(&mut writer)
}
