//! The view `pg_answer_stats`, and what it counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use pgrx::PgSqlErrorCode as Code;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use super::counters::{self, Counters};
use crate::error::{OrRaise, Report};

/// A run of a model, counted when it ends: by [`Run::succeeded`], by an error, or because it was cancelled.
pub struct Run {
    /// None when there is nowhere to count; the view says why.
    counters: Option<&'static Counters>,
    start: Instant,
    succeeded: bool,
}

impl Run {
    /// A run of model `name` begins, over `texts` with `tokens` tokens, `truncated` of which are cut.
    pub fn begin(name: &str, texts: usize, tokens: usize, truncated: usize) -> Self {
        let run =
            Self { counters: counters::of(name).ok().flatten(), start: Instant::now(), succeeded: false };
        run.add(|c| &c.texts, texts);
        run.add(|c| &c.tokens_in, tokens);
        run.add(|c| &c.truncated, truncated);
        run
    }

    /// It ends well, and wrote `tokens` tokens.
    pub fn succeeded(mut self, tokens: usize) {
        self.add(|c| &c.tokens_out, tokens);
        self.succeeded = true;
    }

    fn add(&self, counter: impl Fn(&Counters) -> &AtomicU64, n: usize) {
        if let Some(counters) = self.counters {
            counter(counters).fetch_add(n as u64, Ordering::Relaxed);
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.add(|c| &c.calls, 1);
        self.add(|c| &c.failed, usize::from(!self.succeeded));
        let microseconds = usize::try_from(self.start.elapsed().as_micros());
        self.add(|c| &c.microseconds, microseconds.unwrap_or(usize::MAX));
    }
}

/// All counters with the names of their models.
fn all() -> impl Iterator<Item = (String, &'static Counters)> {
    let failed =
        |e| Report::new(Code::ERRCODE_IO_ERROR, format!("the counters of the models cannot be read: {e}"));
    counters::all().map_err(failed).or_raise()
}

/// One row for each place of the file; the view adds up those of one model.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn pg_answer_counters() -> TableIterator<
    'static,
    (
        name!(model, String),
        name!(calls, i64),
        name!(failed, i64),
        name!(texts, i64),
        name!(tokens_in, i64),
        name!(tokens_out, i64),
        name!(truncated, i64),
        name!(total_time, f64),
        name!(stats_reset, TimestampWithTimeZone),
    ),
> {
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed).cast_signed();
    let rows = all().map(move |(model, c)| {
        let since = pgrx::datetime::to_timestamp(c.since.load(Ordering::Relaxed) as f64 / 1e6);
        (
            model,
            get(&c.calls),
            get(&c.failed),
            get(&c.texts),
            get(&c.tokens_in),
            get(&c.tokens_out),
            get(&c.truncated),
            get(&c.microseconds) as f64 / 1e3,
            since,
        )
    });
    TableIterator::new(rows.collect::<Vec<_>>())
}

/// Sets the counters of a model, or of all, to zero.
#[pg_extern(sql = false)]
fn pg_answer_stats_reset(model: Option<&str>) {
    for (name, counters) in all() {
        if model.is_none_or(|model| model == name) {
            counters.reset();
        }
    }
}
