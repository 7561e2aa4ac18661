//! What `pg_answer_stats` counts: in all sessions and databases, across crashes.

use std::time::Duration;

use anyhow::{Result, ensure};
use pg_answer_tests::timing::{interrupt, wait_until};
use pg_answer_tests::{Cluster, DECODER, ENCODER, Options};

use crate::{error_of, expect_code, one};

/// Calls, failed calls, texts, tokens read, tokens written, truncated texts of a model.
type Row = [i64; 6];

fn row(cluster: &Cluster, database: &str, model: &str) -> Result<Row> {
    let sql =
        "SELECT calls, failed, texts, tokens_in, tokens_out, truncated, total_time > 0, stats_reset <= now()
        FROM pg_answer_stats WHERE model = $1";
    let row = cluster.client(database)?.query_one(sql, &[&model])?;
    ensure!(row.get::<_, Option<bool>>(7) == Some(true), "{row:?}");
    let counts: Row = std::array::from_fn(|i| row.get(i));
    ensure!(row.get::<_, bool>(6) == (counts[0] > 0), "no time was counted");
    Ok(counts)
}

#[test]
fn counts_are_those_of_all_sessions_and_outlive_a_crash() -> Result<()> {
    let mut cluster = Options::default().models().crash_safe().start()?;
    let [first, second] = [cluster.create_database("stats")?, cluster.create_database("stats")?];
    let mut one_session = cluster.client(&first)?;
    let mut other = cluster.client(&second)?;
    ensure!(one::<i64>(&mut one_session, "SELECT count(*) FROM pg_answer_stats")? == 0);

    one_session.batch_execute("SELECT embed('one two three')")?;
    ensure!(row(&cluster, &second, ENCODER)? == [1, 0, 1, 5, 0, 0]);
    other.batch_execute("SELECT embed(ARRAY['one', NULL, repeat('word ', 1000)])")?;
    ensure!(row(&cluster, &first, ENCODER)? == [2, 0, 3, 5 + 3 + 256, 0, 1]);
    other
        .batch_execute("SELECT count_tokens('counts for nothing'), generate('Say yes.', max_tokens => 3)")?;
    let decoder = row(&cluster, &first, DECODER)?;
    ensure!(decoder[..3] == [1, 0, 1] && decoder[3] > 3 && (1..=3).contains(&decoder[4]), "{decoder:?}");

    // Chunks that a source embeds count as well, and so does what is cancelled.
    one_session.batch_execute(
        "CREATE TABLE t (id int PRIMARY KEY, body text);
         SELECT create_source('t', content => 'body', chunking => 'none', mode => 'immediate');
         INSERT INTO t VALUES (1, 'one two three')",
    )?;
    ensure!(row(&cluster, &first, ENCODER)? == [3, 0, 4, 264 + 5, 0, 1]);
    // Long to embed, soon tokenised: what is cancelled before the model begins is no call.
    let sql = "SELECT embed(array_fill(repeat('word ', 200), ARRAY[800]))";
    let cancel = "SELECT pg_cancel_backend($1)";
    let end = interrupt(&cluster, &mut other, sql, Duration::from_millis(800), cancel)?;
    ensure!(end.error.is_some());
    ensure!(row(&cluster, &first, ENCODER)?[..3] == [4, 1, 804]);

    // Many sessions at once lose nothing.
    let before = row(&cluster, &first, ENCODER)?;
    let sessions: Vec<_> = (0..4)
        .map(|_| {
            let mut client = cluster.client(&first)?;
            Ok(std::thread::spawn(move || {
                client.batch_execute(
                    "SELECT count(embed('one two three ' || i)) FROM generate_series(1, 100) AS i",
                )
            }))
        })
        .collect::<Result<_>>()?;
    for session in sessions {
        session.join().expect("no panic")?;
    }
    ensure!(row(&cluster, &first, ENCODER)?[0] == before[0] + 400);

    // A backend that dies takes the others with it, but not what was counted; nor does a restart.
    let before = row(&cluster, &first, ENCODER)?;
    let pid: i32 = one(&mut one_session, "SELECT pg_backend_pid()")?;
    ensure!(std::process::Command::new("kill").args(["-9", &pid.to_string()]).status()?.success());
    wait_until("the server to recover", || {
        Ok(cluster.log().contains("reinitializing") && cluster.client(&first).is_ok())
    })?;
    ensure!(row(&cluster, &first, ENCODER)? == before);
    cluster.stop()?;
    cluster.start()?;
    ensure!(row(&cluster, &first, ENCODER)? == before);

    let mut client = cluster.client(&first)?;
    client.batch_execute("CREATE ROLE reader LOGIN")?;
    let mut reader = cluster.client_as("reader", &first)?;
    ensure!(one::<i64>(&mut reader, "SELECT count(*) FROM pg_answer_stats")? == 2);
    expect_code(&error_of(&mut reader, "SELECT pg_answer_stats_reset()")?, "42501")?;
    client.batch_execute(&format!("SELECT pg_answer_stats_reset('{ENCODER}')"))?;
    ensure!(row(&cluster, &second, ENCODER)? == [0; 6]);
    ensure!(row(&cluster, &second, DECODER)? == decoder);
    client.batch_execute("SELECT pg_answer_stats_reset()")?;
    ensure!(row(&cluster, &second, DECODER)? == [0; 6]);
    Ok(())
}
