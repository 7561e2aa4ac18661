//! What a session costs: its first calls, its memory, one text at a time, and eight sessions at once.
//!
//! Prints a table in Markdown. Needs the installed extension and prepared models. `PG_ANSWER_PEERS` names a Python with
//! ONNX Runtime, whose 8-bit model then embeds the same text in its own process, in turns.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use pg_answer_tests::{Cluster, ENCODER, ModelStore, Options};
use postgres::Client;

/// Twelve tokens.
const TEXT: &str = "Vacuum reclaims storage occupied by dead tuples.";
const EMBED: &str = "SELECT embed($1) IS NOT NULL";
const SESSIONS: usize = 8;

/// Costs of sessions.
#[derive(Parser)]
struct Arguments {
    /// Sessions whose first calls are timed.
    #[arg(long, default_value_t = 10)]
    first: usize,
    /// Rounds of the rates.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each rate.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    // `cargo bench` passes it to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let cluster = Options::default().models().start()?;
    let database = cluster.create_database("sessions")?;
    // It keeps both models open, so that what others hold beside them is their own.
    let mut other = cluster.client(&database)?;
    other.query_one(EMBED, &[&TEXT])?;
    other.batch_execute("SELECT generate('Hello', max_tokens => 1)")?;

    println!("| what | median | least | most |\n| --- | --- | --- | --- |");
    let calls = [
        ("first embed", format!("SELECT embed('{TEXT}')")),
        ("first count_tokens, which opens the decoder", format!("SELECT count_tokens('{TEXT}')")),
        ("first generate, one token", "SELECT generate('Hello', max_tokens => 1)".to_owned()),
    ];
    for (name, sql) in calls {
        let (mut times, mut sizes) = (Vec::new(), Vec::new());
        for _ in 0..arguments.first.max(1) {
            let mut client = cluster.client(&database)?;
            let start = Instant::now();
            client.batch_execute(&sql)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            sizes.push(private_megabytes(&mut client)?);
        }
        row(&format!("{name}, ms"), times);
        row("own memory after it, MB", sizes);
    }

    let mut peer = Peer::start()?;
    let mut columns: [Vec<f64>; 4] = Default::default();
    for _ in 0..arguments.rounds.max(1) {
        let seconds = Duration::from_secs_f64(arguments.seconds);
        let one = rate(&cluster, &database, 1, seconds)?;
        let all = rate(&cluster, &database, SESSIONS, seconds)?;
        columns[0].push(one);
        columns[1].push(all / one);
        if let Some(peer) = &mut peer {
            let theirs = peer.rate()?;
            columns[2].push(theirs);
            columns[3].push(one / theirs);
        }
    }
    let [one, shared, theirs, ratio] = columns;
    row("embed of 12 tokens in one session, texts/s", one);
    row(&format!("{SESSIONS} sessions together over one"), shared);
    if let Some(peer) = peer {
        row(&format!("{} in process, texts/s", peer.version), theirs);
        row("ours over it", ratio);
    }
    Ok(())
}

fn row(name: &str, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let (least, most) = (values[0], values[values.len() - 1]);
    println!("| {name} | {:.2} | {least:.2} | {most:.2} |", values[values.len() / 2]);
}

/// Memory of the session's process that no other process has mapped.
fn private_megabytes(client: &mut Client) -> Result<f64> {
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).context("no memory map")?;
    let private = smaps.lines().filter_map(|line| line.strip_prefix("Private_")?.split_whitespace().nth(1));
    let kilobytes: f64 = private.map(|kilobytes| kilobytes.parse::<f64>()).sum::<Result<_, _>>()?;
    Ok(kilobytes / 1024.0)
}

/// Texts a second that `sessions` embed together, each one text at a time with a prepared statement.
fn rate(cluster: &Cluster, database: &str, sessions: usize, time: Duration) -> Result<f64> {
    let mut clients = Vec::new();
    for _ in 0..sessions {
        let mut client = cluster.client(database)?;
        let statement = client.prepare(EMBED)?;
        client.query_one(&statement, &[&TEXT])?;
        clients.push((client, statement));
    }
    let start = Instant::now();
    let calls = std::thread::scope(|scope| {
        let run = |(mut client, statement): (Client, postgres::Statement)| -> Result<u32> {
            let mut calls = 0;
            while start.elapsed() < time {
                client.query_one(&statement, &[&TEXT])?;
                calls += 1;
            }
            Ok(calls)
        };
        let workers: Vec<_> = clients.into_iter().map(|session| scope.spawn(move || run(session))).collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).sum::<Result<u32>>()
    })?;
    Ok(f64::from(calls) / start.elapsed().as_secs_f64())
}

/// ONNX Runtime, run by the Python that `PG_ANSWER_PEERS` names.
struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    version: String,
}

impl Peer {
    fn start() -> Result<Option<Self>> {
        let Some(python) = std::env::var_os("PG_ANSWER_PEERS") else { return Ok(None) };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/encoder.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(ModelStore::find()?.path().join(ENCODER))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the Python of PG_ANSWER_PEERS")?;
        let input = child.stdin.take().context("no pipe")?;
        let output = BufReader::new(child.stdout.take().context("no pipe")?);
        let mut peer = Self { child, input, output, version: String::new() };
        peer.version = peer.line()?;
        Ok(Some(peer))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("benches/peers/encoder.py ended");
        }
        Ok(line.trim().to_owned())
    }

    fn rate(&mut self) -> Result<f64> {
        writeln!(self.input, "{TEXT}")?;
        self.line()?.parse().context("no number")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
