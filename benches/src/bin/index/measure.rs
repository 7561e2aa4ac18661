//! Recall and speed of searches, measured in turns: a shared machine is not equally fast all the time.

use std::time::Instant;

use anyhow::{Result, ensure};
use pg_answer_tests::Cluster;
use pg_answer_vector::distance::inner_product;

use crate::contender::{Prepared, encode};
use crate::data::{CATEGORIES, Vectors};
use crate::session::Session;

/// Room for the rounding of two different orders of summation.
const TIE: f32 = 1e-6;

/// One point of a recall curve.
#[derive(Debug, Clone)]
pub struct Point {
    pub settings: String,
    /// Share of the k nearest rows that were found.
    pub recall: f64,
    /// Queries a second, median of the rounds.
    pub qps: f64,
    /// Milliseconds.
    pub p50: f64,
    pub p95: f64,
    /// Share of queries that got fewer rows than there were.
    pub short: f64,
}

/// Queries with what is right for them.
pub struct Task<'a> {
    pub rows: &'a Vectors,
    pub queries: &'a Vectors,
    pub k: usize,
    /// Rows of the first so many categories are searched; all when it is [`CATEGORIES`].
    pub categories: usize,
    /// Of each query, see [`crate::data::thresholds`].
    pub thresholds: &'a [f32],
}

/// One run of all queries with one setting.
struct Run {
    hits: usize,
    short: usize,
    /// Seconds, ascending.
    times: Vec<f64>,
    /// Whether the plan reads the index.
    indexed: bool,
}

impl Task<'_> {
    fn condition(&self) -> String {
        if self.categories == CATEGORIES {
            String::new()
        } else {
            format!("WHERE category < {}", self.categories)
        }
    }

    fn run(&self, cluster: &Cluster, prepared: &Prepared<'_>, settings: &str) -> Result<Run> {
        let sql = prepared.query(self.k, &self.condition());
        let mut client = cluster.client(&prepared.database)?;
        client.batch_execute(settings)?;
        let plan =
            client.query(&format!("EXPLAIN {}", sql.replace("$1", &literal(self.queries.get(0)))), &[])?;
        let indexed = plan.iter().any(|row| row.get::<_, &str>(0).contains("items_ann"));
        let mut session = session(cluster, prepared)?;
        session.execute(settings)?;
        session.prepare(&sql)?;
        let mut run = Run { hits: 0, short: 0, times: Vec::new(), indexed };
        // A look at some queries first fills the caches.
        let warm_up = (0..self.queries.len().min(50)).map(|i| (i, false));
        let counted = (0..self.queries.len()).map(|i| (i, true));
        let mut parameter = Vec::new();
        for (i, counts) in warm_up.chain(counted) {
            let query = self.queries.get(i);
            parameter.clear();
            encode(query, &mut |bytes| parameter.extend_from_slice(bytes));
            let start = Instant::now();
            let found = session.query(&parameter)?;
            let seconds = start.elapsed().as_secs_f64();
            if !counts {
                continue;
            }
            run.times.push(seconds);
            run.short += usize::from(found.len() < self.k);
            run.hits += found
                .iter()
                .filter(|id| inner_product(query, self.rows.get(**id as usize)) >= self.thresholds[i] - TIE)
                .count();
        }
        run.times.sort_by(f64::total_cmp);
        Ok(run)
    }
}

/// Runs all settings of all contenders in turns, `rounds` times.
pub fn measure(
    cluster: &Cluster,
    contenders: &[Prepared<'_>],
    task: &Task<'_>,
    rounds: usize,
    settings_of: impl for<'b> Fn(&'b Prepared<'_>) -> &'b [String],
) -> Result<Vec<Vec<Point>>> {
    ensure!(rounds > 0, "at least one round is needed");
    let mut runs: Vec<Vec<Vec<Run>>> = Vec::new();
    for _ in 0..rounds {
        for (c, prepared) in contenders.iter().enumerate() {
            for (s, settings) in settings_of(prepared).iter().enumerate() {
                let run = task.run(cluster, prepared, settings)?;
                if runs.len() <= c {
                    runs.push(Vec::new());
                }
                if runs[c].len() <= s {
                    runs[c].push(Vec::new());
                }
                runs[c][s].push(run);
            }
        }
    }
    Ok(contenders.iter().zip(runs).map(|(p, runs)| points(settings_of(p), runs, task)).collect())
}

fn points(settings: &[String], runs: Vec<Vec<Run>>, task: &Task<'_>) -> Vec<Point> {
    let point = |(settings, mut runs): (&String, Vec<Run>)| {
        runs.sort_by(|a, b| total(a).total_cmp(&total(b)));
        let run = &runs[runs.len() / 2];
        let n = run.times.len();
        let at = |share: f64| run.times[((n - 1) as f64 * share) as usize] * 1000.0;
        let name = if settings.is_empty() { "defaults" } else { settings.trim_start_matches("SET ") };
        Point {
            settings: if run.indexed { name.to_owned() } else { format!("{name} (no index scan)") },
            recall: run.hits as f64 / (n * task.k) as f64,
            qps: n as f64 / total(run),
            p50: at(0.5),
            p95: at(0.95),
            short: run.short as f64 / n as f64,
        }
    };
    settings.iter().zip(runs).map(point).collect()
}

fn total(run: &Run) -> f64 {
    run.times.iter().sum()
}

fn literal(vector: &[f32]) -> String {
    let numbers: Vec<String> = vector.iter().map(f32::to_string).collect();
    format!("'[{}]'", numbers.join(","))
}

fn session(cluster: &Cluster, prepared: &Prepared<'_>) -> Result<Session> {
    Session::connect(&cluster.config("postgres", &prepared.database))
}

/// Round trips a second of a look-up by primary key: what the protocol and the client allow.
pub fn floor(cluster: &Cluster, prepared: &Prepared<'_>) -> Result<f64> {
    const N: i32 = 5000;
    let mut session = session(cluster, prepared)?;
    session.prepare("SELECT category FROM items WHERE id = $1")?;
    let start = Instant::now();
    for id in 0..N {
        session.query(&id.to_be_bytes())?;
    }
    Ok(f64::from(N) / start.elapsed().as_secs_f64())
}
