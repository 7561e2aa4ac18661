//! Cancel, timeout and termination in the middle of long work.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pg_answer_tests::timing::{HANG, interrupt, wait_until};
use postgres::Client;

use crate::{QUESTION, docs, expect_code, one, session, shared};

/// Asks for more tokens than the interrupt leaves time for.
const GENERATE: &str =
    "SELECT generate('Write a very long story about a lighthouse keeper and the sea.', max_tokens => 4000)";
/// Takes long before the first token.
const LONG_PROMPT: &str = "SELECT generate(repeat('The keeper climbs the stairs. ', 3000), max_tokens => 4)";
/// Some 2,000 tokens: one reading and nothing else, no two passages of it alike.
const PROMPT_2000: &str = "SELECT generate((SELECT string_agg('Keeper ' || i || ' climbs the stairs of tower ' || i * 7 || '.', ' ')
    FROM generate_series(1, 140) AS i), max_tokens => 1)";
const SHORT: &str = "SELECT generate('What is the capital of France?', max_tokens => 24)";
const EMBED_MANY: &str = "SELECT count(*) FROM unnest(embed(array_fill(
    repeat('Vacuum reclaims the storage that dead tuples occupy. ', 60), ARRAY[5000]), 'all-MiniLM-L6-v2'))";
const EMBED_ROWS: &str = "SELECT count(embed(repeat('Vacuum reclaims storage. ', 100) || i))
    FROM generate_series(1, 100000) AS i";

/// Cancels `sql` after `after`, and expects 57014 and a session that goes on working.
fn cancel(client: &mut Client, sql: &str, after: Duration) -> Result<()> {
    let end = interrupt(shared(), client, sql, after, "SELECT pg_cancel_backend($1)")?;
    println!("{:>4} ms after the cancel: {sql:.60}", end.delay.as_millis());
    expect_code(&end.error.context("the session died")?, "57014")?;
    ensure!(end.delay < HANG);
    ensure!(one::<i32>(client, "SELECT 1")? == 1);
    Ok(())
}

#[test]
fn cancel_stops_long_work_and_nothing_else() -> Result<()> {
    let (_, mut client) = session("cancel")?;
    docs(&mut client)?;
    let before: String = one(&mut client, SHORT)?;
    let vector: String = one(&mut client, "SELECT embed('after a cancel')::text")?;
    let rag = format!(
        "SELECT rag_answer('{QUESTION}', array_fill(repeat('Quartz sand costs much. ', 60), ARRAY[40]), max_tokens => 2000)"
    );
    for (i, sql) in [GENERATE, LONG_PROMPT, EMBED_MANY, EMBED_ROWS, &rag].into_iter().enumerate() {
        cancel(&mut client, sql, Duration::from_millis(400 + 100 * i as u64))?;
    }
    // Cut the same work at several places: nothing half done may be left for the next call.
    for milliseconds in [0, 30, 150, 700] {
        cancel(&mut client, GENERATE, Duration::from_millis(milliseconds))?;
        ensure!(one::<String>(&mut client, SHORT)? == before, "another text after a cancel");
    }
    ensure!(one::<String>(&mut client, "SELECT embed('after a cancel')::text")? == vector);
    Ok(())
}

/// A prompt that is being read is left between two layers; what was read of it does not change the next answer.
#[test]
fn cancel_stops_the_reading_of_a_prompt() -> Result<()> {
    let (_, mut client) = session("reading")?;
    let tokens = PROMPT_2000
        .replace("generate((", "count_tokens((")
        .replace(", max_tokens => 1)", ", generation_model())");
    let tokens: i32 = one(&mut client, &tokens)?;
    ensure!((1800..2500).contains(&tokens), "{tokens} tokens");
    let before: String = one(&mut client, SHORT)?;
    for milliseconds in [20, 90, 250] {
        cancel(&mut client, PROMPT_2000, Duration::from_millis(milliseconds))?;
        ensure!(one::<String>(&mut client, SHORT)? == before, "another text after a cancel");
    }
    Ok(())
}

/// The first call of a session loads the model: that must stop too.
#[test]
fn cancel_stops_loading() -> Result<()> {
    let (database, _) = session("loading")?;
    for milliseconds in [0, 100, 300] {
        let mut client = shared().client(&database)?;
        cancel(&mut client, GENERATE, Duration::from_millis(milliseconds))?;
        ensure!(!one::<String>(&mut client, SHORT)?.is_empty());
    }
    Ok(())
}

#[test]
fn statement_timeout_stops_long_work() -> Result<()> {
    let (_, mut client) = session("timeout")?;
    let before: String = one(&mut client, SHORT)?;
    for sql in [GENERATE, LONG_PROMPT, EMBED_MANY] {
        client.batch_execute("SET statement_timeout = '500ms'")?;
        let start = Instant::now();
        let error = crate::error_of(&mut client, sql)?;
        println!(
            "{:>4} ms after the timeout: {sql:.60}",
            start.elapsed().saturating_sub(Duration::from_millis(500)).as_millis()
        );
        expect_code(&error, "57014")?;
        client.batch_execute("RESET statement_timeout")?;
        ensure!(one::<String>(&mut client, SHORT)? == before, "another text after a timeout");
    }
    Ok(())
}

/// Inside a transaction a savepoint brings everything back, the model's state too.
#[test]
fn a_savepoint_survives_a_timeout() -> Result<()> {
    let (_, mut client) = session("savepoint")?;
    let before: String = one(&mut client, SHORT)?;
    let mut transaction = client.transaction()?;
    transaction.batch_execute("CREATE TABLE kept AS SELECT 1 AS a; SET LOCAL statement_timeout = '300ms'")?;
    let mut savepoint = transaction.savepoint("s")?;
    expect_code(&crate::error_of(&mut savepoint, GENERATE)?, "57014")?;
    savepoint.rollback()?;
    transaction.batch_execute("SET LOCAL statement_timeout = 0")?;
    ensure!(one::<String>(&mut transaction, SHORT)? == before);
    transaction.commit()?;
    ensure!(one::<i32>(&mut client, "SELECT a FROM kept")? == 1);
    Ok(())
}

#[test]
fn terminate_ends_one_session_only() -> Result<()> {
    let (database, mut client) = session("terminate")?;
    let pid: i32 = one(&mut client, "SELECT pg_backend_pid()")?;
    let after = Duration::from_millis(500);
    let end = interrupt(shared(), &mut client, GENERATE, after, "SELECT pg_terminate_backend($1)")?;
    println!("{:>4} ms after the termination", end.delay.as_millis());
    // The driver may notice the end of the connection before the last word; the server's log has it in any case.
    if let Some(error) = end.error {
        expect_code(&error, "57P01")?;
    }
    wait_until("the last word", || Ok(shared().log().contains(&format!("[{pid}] FATAL:  57P01"))))?;
    let mut other = shared().client(&database)?;
    wait_until("the backend to go", || {
        Ok(other
            .query_one("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)", &[&pid])?
            .get(0))
    })?;
    ensure!(!one::<String>(&mut other, SHORT)?.is_empty());
    Ok(())
}
