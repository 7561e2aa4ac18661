//! Waiting for what other processes do, and interrupting them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use postgres::Client;
use postgres::error::DbError;

use crate::Cluster;
use crate::cluster::SUPERUSER;

/// Far beyond what anything here takes: reaching it means a hang, not a slow machine.
pub const HANG: Duration = Duration::from_secs(120);

/// Asks `condition` again and again until it holds.
///
/// # Errors
/// The condition's own, or that it did not hold within [`HANG`]; `what` says what was waited for.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !condition()? {
        if start.elapsed() > HANG {
            bail!("waited {} s for {what}", HANG.as_secs());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// How a statement ended that was interrupted.
#[derive(Debug)]
pub struct Interrupted {
    /// What the client was told; `None` when the connection ended without a word.
    pub error: Option<DbError>,
    /// From the interrupt to the end.
    pub delay: Duration,
}

/// Runs `sql` in `session`; from another session calls `interrupt` (SQL with `$1` for the process id) when `sql` has
/// run for `after`.
///
/// # Errors
/// When `sql` ends before it is interrupted, or does not end at all.
pub fn interrupt(
    cluster: &Cluster,
    session: &mut Client,
    sql: &str,
    after: Duration,
    interrupt: &str,
) -> Result<Interrupted> {
    let pid: i32 = session.query_one("SELECT pg_backend_pid()", &[])?.get(0);
    let mut other = cluster.client(SUPERUSER)?;
    std::thread::scope(|scope| {
        let interrupter = scope.spawn(move || -> Result<Instant> {
            let active = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND state = 'active'
                          AND clock_timestamp() - query_start >= $2::float8 * interval '1 s')";
            let seconds = after.as_secs_f64();
            wait_until("the statement to run", || Ok(other.query_one(active, &[&pid, &seconds])?.get(0)))?;
            let at = Instant::now();
            other.execute(interrupt, &[&pid])?;
            Ok(at)
        });
        let result = session.simple_query(sql);
        let end = Instant::now();
        let Err(error) = result else { bail!("it ended before it was interrupted: {sql}") };
        let at = interrupter.join().ok().context("the interrupting thread panicked")??;
        Ok(Interrupted { error: error.as_db_error().cloned(), delay: end.saturating_duration_since(at) })
    })
}
