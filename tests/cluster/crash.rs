//! SIGKILL in the middle of an INSERT that embeds.

use std::time::Duration;

use anyhow::{Result, ensure};
use pg_answer_tests::timing::wait_until;
use pg_answer_tests::{Cluster, Options};

use crate::{docs, one};

const INSERT_MANY: &str = "INSERT INTO docs (body) SELECT 'row ' || i FROM generate_series(1, 1000000) AS i";

/// Committed rows are there with their vectors, no other row is, and the table takes more.
fn check(cluster: &Cluster, database: &str, rows: i64) -> Result<()> {
    let mut client = cluster.client(database)?;
    let (found, whole): (i64, i64) = {
        let row = client.query_one(
            "SELECT count(*), count(*) FILTER (WHERE embedding <-> embed(body) < 1e-5) FROM docs",
            &[],
        )?;
        (row.get(0), row.get(1))
    };
    ensure!((found, whole) == (rows, rows), "{found} rows, {whole} of them whole, instead of {rows}");
    client
        .batch_execute("INSERT INTO docs (body) VALUES ('after'); DELETE FROM docs WHERE body = 'after'")?;
    Ok(())
}

#[test]
fn committed_rows_survive_and_no_other() -> Result<()> {
    let mut cluster = Options::default().models().crash_safe().start()?;
    let database = cluster.create_database("crash")?;
    let mut client = cluster.client(&database)?;
    docs(&mut client)?;
    let rows: i64 = one(&mut client, "SELECT count(*) FROM docs")?;

    // A backend: the server restarts by itself and the connection ends without a word, or with 57P02.
    let pid: i32 = one(&mut client, "SELECT pg_backend_pid()")?;
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(700));
        std::process::Command::new("kill").args(["-9", &pid.to_string()]).status()
    });
    ensure!(client.batch_execute(INSERT_MANY).is_err());
    ensure!(killer.join().expect("no panic")?.success());
    // Until the postmaster has noticed, it still lets connections in, only to end them.
    wait_until("the server to recover", || {
        Ok(cluster.log().contains("reinitializing") && cluster.client(&database).is_ok())
    })?;
    check(&cluster, &database, rows)?;

    // The whole server.
    let mut client = cluster.client(&database)?;
    let writer = std::thread::spawn(move || client.batch_execute(INSERT_MANY).is_err());
    let mut watcher = cluster.client(&database)?;
    wait_until("rows to be written", || one(&mut watcher, "SELECT pg_relation_size('docs') > 1000000"))?;
    cluster.kill()?;
    ensure!(writer.join().expect("no panic"));
    cluster.start()?;
    check(&cluster, &database, rows)?;
    ensure!(one::<i64>(&mut cluster.client(&database)?, "SELECT count(*) FROM pg_answer_sources")? == 1);
    Ok(())
}
