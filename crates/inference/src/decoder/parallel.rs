//! Work split into jobs whose results do not depend on who runs them.

use rayon::prelude::*;

/// Runs `f` on every job, on several threads when the caller is inside a pool of more than one.
pub fn for_each<J: Send>(threads: usize, jobs: Vec<J>, f: impl Fn(J) + Send + Sync) {
    if threads == 1 || jobs.len() < 2 {
        jobs.into_iter().for_each(f);
    } else {
        jobs.into_par_iter().with_max_len(1).for_each(f);
    }
}

/// How many of `items` a job should take: a few jobs for each thread, so that a delayed thread delays little.
pub fn share(items: usize, threads: usize, multiple: usize) -> usize {
    let jobs = if threads == 1 { 1 } else { threads * 4 };
    items.div_ceil(jobs).next_multiple_of(multiple).max(multiple)
}
