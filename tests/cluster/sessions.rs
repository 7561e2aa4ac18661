//! Several sessions and workers at once.

use anyhow::{Context, Result, ensure};

use crate::{error_of, expect_code, one, session, shared};

/// What one session computes: text of the decoder, vector of the encoder.
const BOTH: &str = "SELECT generate('Name three colours.', max_tokens => 32) || embed('two sessions')::text";

#[test]
fn sessions_at_once_compute_what_one_computes() -> Result<()> {
    let (database, mut client) = session("sessions")?;
    let alone: String = one(&mut client, BOTH)?;
    let results = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| -> Result<String> { one(&mut shared().client(&database)?, BOTH) }))
            .collect();
        workers.into_iter().map(|w| w.join().expect("no panic")).collect::<Result<Vec<_>>>()
    })?;
    ensure!(results.iter().all(|r| *r == alone), "sessions differ: {alone}\n{results:?}");
    Ok(())
}

#[test]
fn one_thread_computes_what_two_compute() -> Result<()> {
    let (_, mut client) = session("threads")?;
    let two: String = one(&mut client, BOTH)?;
    client.batch_execute("SET pg_answer.threads = 1")?;
    ensure!(one::<String>(&mut client, BOTH)? == two);
    Ok(())
}

#[test]
fn candle_computes_nearly_the_same() -> Result<()> {
    let (database, mut client) = session("kernels")?;
    // Short, since candle takes a tenth of a second a token.
    let capital = "SELECT generate('Capital of France?', system => 'One word.', max_tokens => 1)";
    let vector = "SELECT embed('two ways to compute')::text";
    let (text, ours): (String, String) = (one(&mut client, capital)?, one(&mut client, vector)?);
    client.batch_execute("SET pg_answer.kernels = candle")?;
    ensure!(one::<String>(&mut client, capital)? == text);
    let candle: String = one(&mut client, vector)?;
    ensure!(candle != ours, "the same kernels");
    let cosine = format!("SELECT '{candle}'::vector <=> '{ours}'");
    ensure!(one::<f64>(&mut client, &cosine)? < 1e-3);
    client.batch_execute("RESET pg_answer.kernels")?;
    ensure!(one::<String>(&mut client, vector)? == ours);
    client.batch_execute("CREATE ROLE kernels_user LOGIN")?;
    let mut user = shared().client_as("kernels_user", &database)?;
    ensure!(!one::<String>(&mut user, "SELECT embedding_model()")?.is_empty());
    expect_code(&error_of(&mut user, "SET pg_answer.kernels = candle")?, "42501")
}

/// Of a prepared model a session holds little beside what all map.
#[test]
fn sessions_share_the_weights() -> Result<()> {
    let (database, mut first) = session("memory")?;
    let embed = "SELECT embed('whose are the weights?')::text";
    let vector: String = one(&mut first, embed)?;
    let mut second = shared().client(&database)?;
    ensure!(one::<String>(&mut second, embed)? == vector);
    let pid: i32 = one(&mut second, "SELECT pg_backend_pid()")?;
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let kilobytes = |name: &str| -> Result<u64> {
        let line = smaps.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    let private = kilobytes("Private_Dirty:")? + kilobytes("Private_Clean:")?;
    println!("{private} kB of a session's memory are its own");
    ensure!(private < 15 << 10, "{private} kB");
    Ok(())
}

#[test]
fn parallel_workers_embed() -> Result<()> {
    let (_, mut client) = session("parallel")?;
    client.batch_execute(
        "CREATE TABLE texts AS SELECT i AS id, 'text number ' || i AS body FROM generate_series(1, 400) AS i;
         ANALYZE texts; ALTER TABLE texts SET (parallel_workers = 2);
         SET max_parallel_workers_per_gather = 0",
    )?;
    let sql = "SELECT sum(embed(body))::text, count(*) FILTER (WHERE embed(body, 'all-MiniLM-L6-v2') <=> embed('x') < 2)
               FROM texts";
    let serial = client.query_one(sql, &[])?;
    client.batch_execute(
        "SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
         SET min_parallel_table_scan_size = 0",
    )?;
    let plan = client.query(&format!("EXPLAIN (ANALYZE, COSTS off, TIMING off) {sql}"), &[])?;
    let plan: Vec<&str> = plan.iter().map(|row| row.get(0)).collect();
    let plan = plan.join("\n");
    ensure!(plan.contains("Partial Aggregate") && plan.contains("Workers Launched: 2"), "{plan}");
    let parallel = client.query_one(sql, &[])?;
    ensure!(serial.get::<_, i64>(1) == 400 && parallel.get::<_, i64>(1) == 400);
    let distance: f64 = client
        .query_one(
            "SELECT $1::text::vector <-> $2::text::vector",
            &[&serial.get::<_, &str>(0), &parallel.get::<_, &str>(0)],
        )?
        .get(0);
    // The order of additions differs.
    ensure!(distance < 1e-3, "the sums are {distance} apart");
    Ok(())
}

/// Wherever SQL can stand: generated column, expression index, view, PL/pgSQL, prepared statement, set operation.
#[test]
fn embed_works_everywhere() -> Result<()> {
    let (_, mut client) = session("everywhere")?;
    client.batch_execute(
        "CREATE TABLE t (id int PRIMARY KEY, body text,
             e vector(384) GENERATED ALWAYS AS (embed(body, 'all-MiniLM-L6-v2')) STORED);
         CREATE UNIQUE INDEX t_expression ON t ((embed(body, 'all-MiniLM-L6-v2')));
         INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, NULL);
         UPDATE t SET body = 'three' WHERE id = 2;
         CREATE VIEW v AS SELECT id, body, embed(body) AS e FROM t;
         CREATE MATERIALIZED VIEW m AS SELECT * FROM v;
         CREATE FUNCTION nearest(q text) RETURNS text LANGUAGE plpgsql STABLE AS $$
         DECLARE result text; v vector := embed(q);
         BEGIN
             SELECT body INTO result FROM t WHERE e IS NOT NULL ORDER BY e <=> v LIMIT 1;
             RETURN result;
         END $$;",
    )?;
    let same: bool = one(
        &mut client,
        "SELECT bool_and(t.e IS NOT DISTINCT FROM v.e AND t.e IS NOT DISTINCT FROM m.e)
         FROM t JOIN v USING (id) JOIN m USING (id)",
    )?;
    ensure!(same, "column, view and materialized view differ");
    ensure!(one::<bool>(&mut client, "SELECT e IS NULL FROM t WHERE id = 3")?);
    ensure!(one::<String>(&mut client, "SELECT nearest('drei: three')")? == "three");
    client.batch_execute("SET enable_seqscan = off")?;
    let sql = "SELECT id FROM t WHERE embed(body, 'all-MiniLM-L6-v2') = embed('one', 'all-MiniLM-L6-v2')";
    let plan: Vec<String> =
        client.query(&format!("EXPLAIN (COSTS off) {sql}"), &[])?.iter().map(|row| row.get(0)).collect();
    ensure!(plan[0].contains("t_expression"), "{plan:?}");
    ensure!(one::<i32>(&mut client, sql)? == 1);
    let error = crate::error_of(&mut client, "INSERT INTO t VALUES (4, 'one')")?;
    crate::expect_code(&error, "23505")?;
    // Vectors come back in a row; an array of rows of texts would lose its shape.
    let error = crate::error_of(&mut client, "SELECT embed(ARRAY[['one', 'two'], ['three', 'four']])")?;
    crate::expect_code(&error, "2202E")
}

/// `pg_answer.max_memory` refuses a context before it is allocated; the session goes on.
#[test]
fn an_oversize_context_is_refused() -> Result<()> {
    let (_, mut client) = session("memory")?;
    let before: String = one(&mut client, BOTH)?;
    let pid: i32 = one(&mut client, "SELECT pg_backend_pid()")?;
    // Anonymous memory, in kB: the weights are a file's.
    let memory = || -> Result<usize> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    client.batch_execute("SET pg_answer.max_memory = '20MB'")?;
    let held = memory()?;
    for sql in [
        "SELECT generate(repeat('The keeper climbs the stairs. ', 3000), max_tokens => 4)",
        "SELECT generate('Hello', max_tokens => 30000)",
    ] {
        let error = error_of(&mut client, sql)?;
        expect_code(&error, "53400")?;
        ensure!(error.hint().is_some_and(|hint| hint.contains("pg_answer.max_memory")), "{error:?}");
    }
    let grown = memory()?.saturating_sub(held);
    println!("{grown} kB more after two refusals");
    // The keys and values of the first would be 190 MB.
    ensure!(grown < 50_000, "{grown} kB");
    ensure!(one::<String>(&mut client, BOTH)? == before);
    client.batch_execute("RESET pg_answer.max_memory")?;
    ensure!(one::<String>(&mut client, BOTH)? == before);
    Ok(())
}
