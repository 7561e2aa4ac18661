//! What SQL users wait for: embedding, distances and generation through a live cluster.
//!
//! Each statement runs several times in one session, the first run uncounted; the median counts. Prints a table in
//! Markdown. Needs the installed extension and the models, as the SQL tests do.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use pg_answer_tests::Options;
use postgres::Client;

/// SQL-level benchmarks of pg_answer.
#[derive(Parser)]
struct Arguments {
    /// Counted runs of each statement.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Rows of the table that distances are computed over.
    #[arg(long, default_value_t = 20_000)]
    rows: u32,
    // `cargo bench` passes it to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A statement, and how many units of work it does.
struct Case {
    name: &'static str,
    unit: &'static str,
    amount: f64,
    sql: &'static str,
}

/// It begins anew each time: what a session's last prompt began with is not read again.
const PROMPT: &str =
    "SELECT generate(random() || repeat(' PostgreSQL stores rows in pages.', 80), max_tokens => 1)";

fn cases(rows: u32) -> [Case; 7] {
    [
        Case {
            name: "embed one short text",
            unit: "texts/s",
            amount: 1.0,
            sql: "SELECT embed('a short text about database indexes and how they grow')",
        },
        Case {
            name: "embed 32 short texts as a batch",
            unit: "texts/s",
            amount: 32.0,
            sql: "SELECT embed(array_agg('summary number ' || i || ' of a package that parses text')) \
                  FROM generate_series(1, 32) i",
        },
        Case {
            name: "embed 16 passages of 250 tokens as a batch",
            unit: "passages/s",
            amount: 16.0,
            sql: "SELECT embed(array_agg(i || repeat(' rows and pages', 82))) FROM generate_series(1, 16) i",
        },
        Case {
            name: "exact search over the table, 384 dimensions",
            unit: "rows/s",
            amount: f64::from(rows),
            sql: "SET enable_indexscan = off; \
                  SELECT id FROM points ORDER BY v <=> (SELECT v FROM points WHERE id = 1) LIMIT 10",
        },
        Case {
            name: "the same by an index",
            unit: "searches/s",
            amount: 1.0,
            sql: "SET enable_indexscan = on; \
                  SELECT id FROM points ORDER BY v <=> (SELECT v FROM points WHERE id = 1) LIMIT 10",
        },
        Case { name: "read a prompt of about 590 tokens", unit: "tokens/s", amount: 590.0, sql: PROMPT },
        Case {
            name: "write 64 tokens",
            unit: "tokens/s",
            amount: 64.0,
            sql: "SELECT generate('Tell a story about a lighthouse keeper.', max_tokens => 64)",
        },
    ]
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let cluster = Options::default().models().start()?;
    let mut client = cluster.client(&cluster.create_database("bench")?)?;
    client.batch_execute(&format!(
        "CREATE TABLE points (id int PRIMARY KEY, v vector(384));
         INSERT INTO points SELECT i, array_agg(random() - 0.5)::vector
             FROM generate_series(1, {}) i, generate_series(1, 384) GROUP BY i;
         CREATE INDEX ON points USING ann (v vector_cosine_ops);
         ANALYZE points",
        arguments.rows
    ))?;
    println!("| statement | median, ms | rate |\n| --- | --- | --- |");
    for case in cases(arguments.rows) {
        let median = median(&mut client, case.sql, arguments.runs.max(1))?;
        let rate = case.amount / median.as_secs_f64();
        println!("| {} | {:.2} | {rate:.0} {} |", case.name, median.as_secs_f64() * 1e3, case.unit);
    }
    Ok(())
}

/// The median time of `runs` runs after one that does not count.
fn median(client: &mut Client, sql: &str, runs: usize) -> Result<Duration> {
    client.batch_execute(sql)?;
    let mut times = (0..runs)
        .map(|_| {
            let start = Instant::now();
            client.batch_execute(sql)?;
            Ok(start.elapsed())
        })
        .collect::<Result<Vec<_>>>()?;
    times.sort();
    Ok(times[times.len() / 2])
}
