//! Helper threads that only do arithmetic.
//!
//! They block every signal, so that a process's signal handlers run on its own main thread, and they sleep
//! while there is nothing to do.

use crate::{Error, Result};

/// A pool of helper threads. The calling thread waits while they work.
pub struct Pool {
    pool: Option<rayon::ThreadPool>,
    threads: usize,
}

impl Pool {
    /// A pool of `threads` threads; 1 runs everything on the calling thread, 0 means one per available core.
    ///
    /// # Errors
    /// [`Error::Internal`] when the operating system gives no thread.
    pub fn new(threads: usize) -> Result<Self> {
        quiet_global_pool();
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        if threads == 1 {
            return Ok(Self { pool: None, threads });
        }
        let pool = with_signals_blocked(|| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .thread_name(|i| format!("pg_answer {i}"))
                .build()
        });
        let pool = pool.map_err(|e| Error::Internal(e.to_string()))?;
        Ok(Self { pool: Some(pool), threads })
    }

    /// How many threads work at once.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `work` inside the pool: rayon's parallel iterators in it use the pool's threads.
    /// A pool of one thread runs it on the calling thread, where they would use rayon's global pool:
    /// code in `work` must ask [`Pool::threads`] first.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}

/// Libraries that ask rayon for the number of threads outside of a pool start its global one: a thread per
/// core with all signals open. Start it before them, with one thread and none.
fn quiet_global_pool() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // It fails only when somebody was faster; then there is nothing to do.
        let _ = with_signals_blocked(|| rayon::ThreadPoolBuilder::new().num_threads(1).build_global());
    });
}

/// New threads inherit the signal mask of the thread that makes them: block all signals meanwhile.
fn with_signals_blocked<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: plain calls with valid pointers to initialised local signal sets.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut old: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old);
        let result = work();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const old, std::ptr::null_mut());
        result
    }
}
