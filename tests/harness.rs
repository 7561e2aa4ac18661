//! The harness itself, on PostgreSQL without the extension.

use anyhow::Result;
use pg_answer_tests::installation::run;
use pg_answer_tests::timing::wait_until;
use pg_answer_tests::{Cluster, Options};

fn plain() -> Options {
    Options::default().plain()
}

#[test]
fn serves_clients_and_psql() -> Result<()> {
    let cluster = plain().setting("work_mem = 7MB").start()?;
    let db = cluster.create_database("serves")?;
    let row =
        cluster.client(&db)?.query_one("SELECT current_database(), current_setting('work_mem')", &[])?;
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), (db.as_str(), "7MB"));
    assert_eq!(cluster.psql(&db, &["-At"], "SELECT 1;\nSELECT 2;")?, "1\n2\n");
    let error = cluster.psql(&db, &[], "SELECT 1/0; SELECT 2;").unwrap_err().to_string();
    assert!(error.contains("division by zero"), "{error}");
    assert_ne!(cluster.create_database("serves")?, db);
    Ok(())
}

#[test]
fn a_dropped_cluster_leaves_nothing() -> Result<()> {
    let cluster = plain().start()?;
    let folder = cluster.folder().to_owned();
    let pid: i32 = cluster.client("postgres")?.query_one("SELECT pg_backend_pid()", &[])?.get(0);
    assert!(folder.exists());
    drop(cluster);
    assert!(!folder.exists(), "{} is left", folder.display());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "backend {pid} is left");
    Ok(())
}

#[test]
fn survives_a_crash() -> Result<()> {
    let mut cluster = plain().crash_safe().start()?;
    cluster.client("postgres")?.batch_execute("CREATE TABLE t AS SELECT 1 AS a")?;
    cluster.kill()?;
    assert!(cluster.client("postgres").is_err());
    cluster.start()?;
    let row = cluster.client("postgres")?.query_one("SELECT a FROM t", &[])?;
    assert_eq!(row.get::<_, i32>(0), 1);
    assert!(cluster.log().contains("database system was not properly shut down"));
    cluster.stop()?;
    cluster.start()?;
    Ok(())
}

#[test]
fn a_standby_follows() -> Result<()> {
    let primary = plain().start()?;
    let standby = primary.standby()?;
    primary.client("postgres")?.batch_execute("CREATE TABLE t AS SELECT 5 AS a")?;
    primary.wait_for_replay(&standby)?;
    let row = standby.client("postgres")?.query_one("SELECT a, pg_is_in_recovery() FROM t", &[])?;
    assert_eq!((row.get::<_, i32>(0), row.get::<_, bool>(1)), (5, true));
    Ok(())
}

/// A cluster must not outlive a test process that is killed: run one and kill it.
#[test]
fn a_killed_test_leaves_no_server() -> Result<()> {
    const CHILD: &str = "PG_ANSWER_TESTS_KILLED_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let cluster: &Cluster = Box::leak(Box::new(plain().start()?));
        println!("folder={}", cluster.folder().display());
        run(std::process::Command::new("kill").args(["-9", &std::process::id().to_string()]))?;
    }
    let output = std::process::Command::new(std::env::current_exe()?)
        .args(["--exact", "a_killed_test_leaves_no_server", "--nocapture"])
        .env(CHILD, "1")
        .output()?;
    assert!(!output.status.success());
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let folder = printed.split("folder=").nth(1).and_then(|rest| rest.lines().next()).expect("a folder");
    wait_until("the folder to go", || Ok(!std::path::Path::new(folder).exists()))
}
