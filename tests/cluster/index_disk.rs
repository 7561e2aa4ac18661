//! The index `ann` when the disk is full: the statement fails, nothing else does.
//!
//! Instead of filling a disk, the server process of one session is forbidden to write files beyond a size. Its segments of the WAL
//! are smaller, and so is the table, whose index is on a long expression.

use anyhow::{Context, Result, ensure};
use pg_answer_tests::installation::run;
use pg_answer_tests::{Cluster, Options};
use postgres::Client;

use crate::{error_of, one};

/// More than a segment of the WAL.
const LIMIT: u32 = 17 << 20;

/// A cluster with a table `t(id)` whose index would need about 2.7 kB a row.
fn cluster() -> Result<(Cluster, String)> {
    let cluster = Options::default().setting("autovacuum = off").start()?;
    let database = cluster.create_database("disk")?;
    cluster.client(&database)?.batch_execute(
        "CREATE TABLE t (id int PRIMARY KEY);
         CREATE FUNCTION wide(i int) RETURNS vector(1920) LANGUAGE sql IMMUTABLE AS $$ SELECT
             ((SELECT array_agg(sin(i * 0.37 + j * j * 1.7)) FROM generate_series(1, 16) j)::real[]
                 || array_fill(0.1::real, ARRAY[1904]))::public.vector $$",
    )?;
    Ok((cluster, database))
}

const CREATE: &str = "CREATE INDEX wide ON t USING ann ((wide(id)::vector(1920)) vector_l2_ops)";

fn insert(from: i32, to: i32) -> String {
    format!("INSERT INTO t SELECT generate_series({from}, {to})")
}

/// A session whose server process can write no file beyond [`LIMIT`].
fn limited(cluster: &Cluster, database: &str) -> Result<Client> {
    let mut client = cluster.client(database)?;
    let pid: i32 = one(&mut client, "SELECT pg_backend_pid()")?;
    run(cluster
        .installation()
        .command("/usr/bin/prlimit")
        .args([format!("--pid={pid}"), format!("--fsize={LIMIT}:unlimited")]))?;
    Ok(client)
}

/// Fails unless `sql` ends because a file cannot grow, and the session goes on.
fn expect_full(client: &mut Client, sql: &str) -> Result<()> {
    let error = error_of(client, sql)?;
    ensure!(error.message().contains("could not"), "{error:?}");
    ensure!(error.message().contains("File too large"), "{error:?}");
    ensure!(one::<i32>(client, "SELECT 1")? == 1);
    Ok(())
}

/// Fails unless index and table agree, and a scan returns `rows` rows.
fn expect_rows(client: &mut Client, rows: i64) -> Result<()> {
    one::<i64>(client, "SELECT ann_check('wide', heap => true)")?;
    client.batch_execute("SET enable_seqscan = off; SET enable_sort = off")?;
    let scan = "SELECT count(*) || ' ' || count(DISTINCT id) FROM
                (SELECT id FROM t ORDER BY wide(id)::vector(1920) <-> wide(5) OFFSET 0) AS x";
    let found: String = one(client, scan)?;
    ensure!(found == format!("{rows} {rows}"), "{found} of {rows} rows");
    let size: i64 = one(client, "SELECT pg_relation_size('wide')")?;
    println!("{rows} rows in {size} bytes");
    Ok(())
}

#[test]
fn a_build_that_finds_no_room_leaves_nothing() -> Result<()> {
    let (cluster, database) = cluster()?;
    let mut client = cluster.client(&database)?;
    client.batch_execute(&insert(1, 8500))?;
    let mut full = limited(&cluster, &database)?;
    expect_full(&mut full, CREATE)?;
    ensure!(one::<bool>(&mut full, "SELECT to_regclass('wide') IS NULL")?);
    client.batch_execute(CREATE)?;
    expect_full(&mut full, "REINDEX INDEX wide")?;
    expect_rows(&mut client, 8500)
}

#[test]
fn an_insertion_that_finds_no_room_is_rolled_back() -> Result<()> {
    let (cluster, database) = cluster()?;
    let mut client = cluster.client(&database)?;
    client.batch_execute(&insert(1, 5000))?;
    client.batch_execute(CREATE)?;
    let mut full = limited(&cluster, &database)?;
    expect_full(&mut full, &insert(10_001, 13_000))?;
    expect_rows(&mut client, 5000)?;
    // What was rolled back has filled the index, and VACUUM makes it room, with the disk still full.
    expect_full(&mut full, &insert(20_001, 20_200))?;
    full.batch_execute("VACUUM t").context("VACUUM while the disk is full")?;
    full.batch_execute(&insert(30_001, 30_200)).context("insertion after VACUUM")?;
    expect_rows(&mut full, 5200)?;
    client.batch_execute(&insert(10_001, 13_000))?;
    expect_rows(&mut client, 8200)
}

#[test]
fn a_vacuum_that_finds_no_room_loses_nothing() -> Result<()> {
    let (cluster, database) = cluster()?;
    let mut client = cluster.client(&database)?;
    client.batch_execute(CREATE)?;
    client.batch_execute(&insert(1, 6500))?;
    client.batch_execute("DELETE FROM t WHERE id % 10 = 0")?;
    // To split the one list means to write all rows once more.
    let mut full = limited(&cluster, &database)?;
    expect_full(&mut full, "VACUUM t")?;
    expect_rows(&mut client, 5850)?;
    expect_full(&mut full, "VACUUM t").context("a second time")?;
    client.batch_execute("VACUUM t")?;
    ensure!(one::<i64>(&mut client, "SELECT (ann_stats('wide')->>'lists')::bigint")? > 20);
    expect_rows(&mut client, 5850)?;
    // What the failed ones had written becomes room, and so do the byte codes of the rows that were deleted.
    let size = "SELECT pg_relation_size('wide')";
    client.batch_execute("CREATE TABLE later ()")?;
    client.batch_execute("VACUUM t")?;
    let before: i64 = one(&mut client, size)?;
    client.batch_execute(&insert(10_001, 10_600))?;
    let after: i64 = one(&mut client, size)?;
    ensure!(after == before, "{after} bytes, {before} before");
    expect_rows(&mut client, 6450)
}

/// Pages that a server had added when it crashed, and not yet written.
#[test]
fn blank_pages_become_room() -> Result<()> {
    let (mut cluster, database) = cluster()?;
    let mut client = cluster.client(&database)?;
    client.batch_execute(&insert(1, 500))?;
    client.batch_execute(CREATE)?;
    let path: String =
        one(&mut client, "SELECT current_setting('data_directory') || '/' || pg_relation_filepath('wide')")?;
    drop(client);
    cluster.stop()?;
    let file = std::fs::File::options().write(true).open(&path)?;
    let pages = file.metadata()?.len() / 8192;
    file.set_len((pages + 40) * 8192)?;
    drop(file);
    cluster.start()?;
    let mut client = cluster.client(&database)?;
    expect_rows(&mut client, 500)?;
    let standby = cluster.standby()?;
    client.batch_execute("VACUUM t")?;
    client.batch_execute(&insert(1001, 1100))?;
    let now: i64 = one(&mut client, "SELECT pg_relation_size('wide') / 8192")?;
    ensure!(now == pages as i64 + 40, "{now} pages, {} before", pages + 40);
    expect_rows(&mut client, 600)?;
    cluster.wait_for_replay(&standby)?;
    let mut replica = standby.client(&database)?;
    ensure!(one::<i64>(&mut replica, "SELECT (ann_stats('wide')->>'rows')::bigint")? == 600);
    Ok(())
}
