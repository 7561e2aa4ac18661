//! Vector indexes side by side in one cluster: recall, speed, build, size, inserts, VACUUM, filters.
//!
//! Every index that the file of contenders names and the server has gets a database with the same table. Without
//! files of vectors the data are drawn at random. Prints tables in Markdown and writes a plot.

mod contender;
mod data;
mod measure;
mod report;
mod session;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use pg_answer_tests::Options;

use contender::Contenders;
use data::{CATEGORIES, Vectors, thresholds};
use measure::{Task, measure};
use report::{Changes, Figures};

/// Rows that are inserted one by one.
const SINGLE_INSERTS: usize = 1000;

/// Benchmark of vector indexes.
#[derive(Parser)]
struct Arguments {
    /// What to compare
    #[arg(long, default_value = "benches/index.toml")]
    contenders: PathBuf,
    /// Only contenders whose names contain this
    #[arg(long)]
    only: Option<String>,
    /// File of little-endian f32 vectors, one after the other; random ones when absent
    #[arg(long, requires = "queries")]
    vectors: Option<PathBuf>,
    /// The same for queries
    #[arg(long)]
    queries: Option<PathBuf>,
    /// Elements of a vector
    #[arg(long, default_value_t = 384)]
    dims: usize,
    /// Rows of the table
    #[arg(long, default_value_t = 50_000)]
    rows: usize,
    /// Rows that are inserted later, in one statement
    #[arg(long, default_value_t = 5_000)]
    inserts: usize,
    /// Rounds of all searches; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Neighbours that are looked for
    #[arg(long, default_value_t = 10)]
    k: usize,
    /// max_parallel_maintenance_workers of the builds
    #[arg(long, default_value_t = 0)]
    workers: u32,
    /// shared_buffers of the server
    #[arg(long, default_value = "2GB")]
    shared_buffers: String,
    /// maintenance_work_mem of the builds
    #[arg(long, default_value = "1GB")]
    maintenance_work_mem: String,
    /// Further settings of the server, such as huge_pages=on
    #[arg(long)]
    setting: Vec<String>,
    /// Neither inserts nor deletes rows afterwards
    #[arg(long)]
    searches_only: bool,
    /// Where the plot goes
    #[arg(long)]
    plot: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let text = std::fs::read_to_string(&arguments.contenders)
        .with_context(|| format!("cannot read {}", arguments.contenders.display()))?;
    let mut contenders: Contenders = toml::from_str(&text)?;
    if let Some(part) = &arguments.only {
        contenders.contender.retain(|c| c.name.contains(part));
    }
    let Arguments { rows: n, inserts, k, rounds, dims, .. } = arguments;
    let all_rows = n + inserts + SINGLE_INSERTS;
    let (all, queries) = match (&arguments.vectors, &arguments.queries) {
        (Some(vectors), Some(queries)) => {
            (Vectors::read(vectors, dims, all_rows)?, Vectors::read(queries, dims, 1000)?)
        }
        _ => (Vectors::generate(all_rows, dims, 1), Vectors::generate(1000, dims, 2)),
    };
    ensure!(all.len() == all_rows, "{} vectors are needed, there are {}", all_rows, all.len());
    let rows = all.part(0, n);
    let later = all.part(n, inserts);
    let single = all.part(n + inserts, SINGLE_INSERTS);

    let options =
        arguments.setting.iter().fold(Options::default(), |options, setting| options.setting(setting));
    let cluster = options
        .plain()
        .setting(format!("shared_buffers = '{}'", arguments.shared_buffers))
        .setting(format!("maintenance_work_mem = '{}'", arguments.maintenance_work_mem))
        .setting("max_wal_size = '16GB'")
        .setting("autovacuum = off")
        .start()?;
    let mut client = cluster.client("postgres")?;
    let mut prepared = Vec::new();
    for contender in &contenders.contender {
        if !contender.is_available(&mut client)? {
            eprintln!("{}: not installed, left out", contender.name);
            continue;
        }
        eprintln!("{}: loading {n} rows and building", contender.name);
        prepared.push(contender.prepare(&cluster, &rows, arguments.workers)?);
    }
    let first = prepared.first().context("no contender is installed")?;
    let lookups = measure::floor(&cluster, first)?;

    eprintln!("searching");
    let exact = thresholds(&rows, &queries, k, CATEGORIES);
    let search = measure(
        &cluster,
        &prepared,
        &Task { rows: &rows, queries: &queries, k, categories: CATEGORIES, thresholds: &exact },
        rounds,
        |p| &p.contender.search,
    )?;
    let mut filters = Vec::new();
    for categories in [CATEGORIES / 10, CATEGORIES / 100] {
        eprintln!("searching {categories} of {CATEGORIES} categories");
        let exact = thresholds(&rows, &queries, k, categories);
        filters.push(measure(
            &cluster,
            &prepared,
            &Task { rows: &rows, queries: &queries, k, categories, thresholds: &exact },
            rounds,
            |p| &p.contender.filter,
        )?);
    }
    let mut all = Vec::new();
    for (i, (p, search)) in prepared.iter().zip(search).enumerate() {
        let mut changes = None;
        if !arguments.searches_only {
            eprintln!("{}: inserting, deleting, vacuuming", p.contender.name);
            changes = Some(Changes {
                insert_at_once: p.insert_at_once(&cluster, &later, n)?,
                insert_one_by_one: p.insert_one_by_one(&cluster, &single, n + inserts)?,
                vacuum_seconds: p.vacuum(&cluster)?,
            });
        }
        all.push(Figures {
            name: p.contender.name.clone(),
            build_seconds: p.build_seconds,
            index_bytes: p.index_bytes,
            wal_bytes: p.wal_bytes,
            search,
            filters: [filters[0][i].clone(), filters[1][i].clone()],
            changes,
        });
    }
    let version: String = client.query_one("SHOW server_version", &[])?.get(0);
    println!(
        "PostgreSQL {version}, {n} × {dims}, k = {k}, one client, shared_buffers {}, maintenance_work_mem {}, \
         {} parallel workers, fsync off{}; look-ups by primary key: {lookups:.0} a second.\n",
        arguments.shared_buffers,
        arguments.maintenance_work_mem,
        arguments.workers,
        arguments.setting.iter().map(|setting| format!(", {setting}")).collect::<String>()
    );
    report::print(&all);
    arguments.plot.map_or(Ok(()), |path| report::plot(&all, &path))
}
