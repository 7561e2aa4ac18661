//! Helper threads that only do arithmetic.
//!
//! They block every signal, so that a process's signal handlers run on its own main thread, and they sleep
//! while there is nothing to do. Work is claimed job by job: a helper that wakes late, because the machine has other
//! things to do, finds less to do, and nobody waits for a helper that has not begun. Pieces of work that follow each
//! other within microseconds, as those of a decoder do, find the helpers still awake ([`soon`]).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use crate::{Check, Error, Result};

/// A pool of helper threads. The calling thread works with them.
pub struct Pool {
    threads: usize,
    helpers: OnceLock<Helpers>,
    rayon: OnceLock<rayon::ThreadPool>,
}

impl Pool {
    /// A pool of `threads` threads; 1 runs everything on the calling thread, 0 means one per available core.
    ///
    /// # Errors
    /// None today: threads are made when they are first needed.
    pub fn new(threads: usize) -> Result<Self> {
        quiet_global_pool();
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        Ok(Self { threads, helpers: OnceLock::new(), rayon: OnceLock::new() })
    }

    /// No helpers: everything runs on the calling thread.
    pub(crate) fn alone() -> Self {
        Self { threads: 1, helpers: OnceLock::new(), rayon: OnceLock::new() }
    }

    /// How many threads work at once.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `work(state, i, chunk)` for each chunk `i` of `items`, each `size` items long but the last, on all
    /// threads; each thread makes a state of its own with `init`.
    ///
    /// `work` gets a check to pass on or to ask. On the calling thread it is `check`; once that has failed, the checks
    /// of the helpers do too. No chunk is begun after an error.
    ///
    /// # Errors
    /// The first that `work` or `check` returns.
    pub fn for_each<T: Send, S>(
        &self,
        items: &mut [T],
        size: usize,
        check: Check<'_>,
        init: impl Fn() -> S + Sync,
        work: impl Fn(&mut S, usize, &mut [T], Check<'_>) -> Result<()> + Sync,
    ) -> Result<()> {
        let size = size.max(1);
        let jobs = items.len().div_ceil(size);
        if self.threads == 1 || jobs < 2 {
            let mut state = init();
            return items
                .chunks_mut(size)
                .enumerate()
                .try_for_each(|(i, chunk)| work(&mut state, i, chunk, check));
        }
        let chunks =
            Chunks { first: items.as_mut_ptr(), length: items.len(), size, next: AtomicUsize::new(0) };
        let failure = Failure::default();
        let run = |check: Check<'_>| {
            let mut state = None;
            while !failure.stop.load(Ordering::Relaxed) {
                let Some((i, chunk)) = chunks.claim() else { break };
                if let Err(e) = work(state.get_or_insert_with(&init), i, chunk, check) {
                    failure.set(e);
                }
            }
        };
        let help = || {
            let mut check =
                || if failure.stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) };
            if catch_unwind(AssertUnwindSafe(|| run(&mut check))).is_err() {
                failure.set(Error::Internal("a helper thread panicked".to_owned()));
            }
        };
        self.helpers()?.run(&help, &failure.stop, || run(check));
        failure.first.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn helpers(&self) -> Result<&Helpers> {
        if let Some(helpers) = self.helpers.get() {
            return Ok(helpers);
        }
        let made =
            Helpers::new(self.threads - 1).map_err(|e| Error::Internal(format!("no helper thread: {e}")))?;
        Ok(self.helpers.get_or_init(|| made))
    }

    /// Runs `work` inside a pool of rayon: its parallel iterators in it use as many threads.
    /// A pool of one thread runs it on the calling thread, where they would use rayon's global pool:
    /// code in `work` must ask [`Pool::threads`] first.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        if self.threads == 1 {
            return work();
        }
        if self.rayon.get().is_none() {
            let pool = with_signals_blocked(|| {
                rayon::ThreadPoolBuilder::new()
                    .num_threads(self.threads)
                    .thread_name(|i| format!("pg_answer {i}"))
                    .build()
            });
            if let Ok(pool) = pool {
                let _ = self.rayon.set(pool);
            }
        }
        match self.rayon.get() {
            Some(pool) => pool.install(work),
            // Without threads rayon's global pool, which has one, does all of it.
            None => work(),
        }
    }
}

/// Items that threads take chunk by chunk.
struct Chunks<T> {
    first: *mut T,
    length: usize,
    size: usize,
    next: AtomicUsize,
}

// SAFETY: each item is handed out once, to one thread.
unsafe impl<T: Send> Sync for Chunks<T> {}

impl<T> Chunks<T> {
    /// The next chunk and its number.
    #[allow(clippy::mut_from_ref)]
    fn claim(&self) -> Option<(usize, &mut [T])> {
        let i = self.next.fetch_add(1, Ordering::Relaxed);
        let start = i.checked_mul(self.size).filter(|&start| start < self.length)?;
        let length = self.size.min(self.length - start);
        // SAFETY: the range is inside of the items, which are borrowed for as long as `self` is used, and `i` was
        // never handed out before.
        Some((i, unsafe { std::slice::from_raw_parts_mut(self.first.add(start), length) }))
    }
}

/// The first error of several threads.
#[derive(Default)]
struct Failure {
    stop: AtomicBool,
    first: Mutex<Option<Error>>,
}

impl Failure {
    fn set(&self, error: Error) {
        lock(&self.first).get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What helpers are asked to call.
type Job = &'static (dyn Fn() + Sync);

/// Threads that wait for a job.
struct Helpers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is a job, or the end.
    wake: Condvar,
    /// The last helper is done.
    done: Condvar,
    /// Counts jobs, so that a helper does not do one twice. Changed under the lock.
    number: AtomicUsize,
    /// Helpers inside of the job. Changed under the lock.
    running: AtomicUsize,
}

#[derive(Default)]
struct State {
    job: Option<Job>,
    /// Helpers that wait for `wake`.
    asleep: usize,
    /// Whether the caller waits for `done`.
    waited_for: bool,
    end: bool,
}

/// Looks of [`soon`]: about five microseconds, less than it takes to wake a thread.
const LOOKS: usize = 400;

/// Whether `ready` comes true within a few microseconds.
fn soon(ready: impl Fn() -> bool) -> bool {
    (0..LOOKS).any(|_| {
        std::hint::spin_loop();
        ready()
    })
}

impl Helpers {
    fn new(count: usize) -> std::io::Result<Self> {
        let mut helpers = Self { shared: Arc::default(), threads: Vec::new() };
        for i in 0..count {
            let shared = Arc::clone(&helpers.shared);
            let builder = std::thread::Builder::new().name(format!("pg_answer {i}")).stack_size(256 << 10);
            helpers.threads.push(with_signals_blocked(|| builder.spawn(move || shared.serve()))?);
        }
        Ok(helpers)
    }

    /// Runs `own` here while helpers run `job`, and returns when all that began have ended.
    fn run(&self, job: &(dyn Fn() + Sync), stop: &AtomicBool, own: impl FnOnce()) {
        /// Takes the job back, also when `own` unwinds.
        struct Recall<'a>(&'a Shared, &'a AtomicBool);
        impl Drop for Recall<'_> {
            fn drop(&mut self) {
                let Self(shared, stop) = self;
                if std::thread::panicking() {
                    stop.store(true, Ordering::Relaxed);
                }
                lock(&shared.state).job = None;
                let done = || shared.running.load(Ordering::Acquire) == 0;
                if done() || soon(done) {
                    return;
                }
                let mut state = lock(&shared.state);
                while !done() {
                    state.waited_for = true;
                    state = shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                state.waited_for = false;
            }
        }
        // SAFETY: `Recall` does not let go of the borrow before no helper has or can get the job.
        let job = unsafe { std::mem::transmute::<&(dyn Fn() + Sync), Job>(job) };
        let recall = Recall(&self.shared, stop);
        let asleep = {
            let mut state = lock(&self.shared.state);
            state.job = Some(job);
            self.shared.number.fetch_add(1, Ordering::Release);
            state.asleep
        };
        if asleep > 0 {
            self.shared.wake.notify_all();
        }
        own();
        drop(recall);
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        lock(&self.shared.state).end = true;
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            // A helper catches its panics.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// What a helper does.
    fn serve(&self) {
        let mut last = 0;
        let mut state = lock(&self.state);
        while !state.end {
            let number = self.number.load(Ordering::Relaxed);
            match state.job {
                Some(job) if number != last => {
                    last = number;
                    self.running.fetch_add(1, Ordering::Relaxed);
                    drop(state);
                    job();
                    state = lock(&self.state);
                    if self.running.fetch_sub(1, Ordering::Release) == 1 && state.waited_for {
                        self.done.notify_all();
                    }
                    drop(state);
                    soon(|| self.number.load(Ordering::Relaxed) != last);
                    state = lock(&self.state);
                }
                _ => {
                    state.asleep += 1;
                    state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                    state.asleep -= 1;
                }
            }
        }
    }
}

/// Nothing under these locks panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
pub(crate) fn with_signals_blocked<R>(work: impl FnOnce() -> R) -> R {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn is_helper() -> bool {
        std::thread::current().name().is_some_and(|name| name.starts_with("pg_answer"))
    }

    #[test]
    fn each_item_is_worked_on_once() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads).unwrap();
            for length in [0, 1, 2, 7, 100] {
                let mut items = vec![0; length];
                pool.for_each(
                    &mut items,
                    3,
                    &mut || Ok(()),
                    || 1,
                    |one, i, chunk, check| {
                        check()?;
                        chunk.iter_mut().enumerate().for_each(|(j, item)| *item += *one * (3 * i + j));
                        Ok(())
                    },
                )
                .unwrap();
                assert_eq!(items, (0..length).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn errors_and_panics_come_back_and_the_pool_lives_on() {
        let pool = Pool::new(3).unwrap();
        for round in 0..50 {
            let mut items = [0; 64];
            let got = pool.for_each(
                &mut items,
                1,
                &mut || Ok(()),
                || (),
                |(), i, _, _| {
                    if i == round { Err(Error::InvalidInput(i.to_string())) } else { Ok(()) }
                },
            );
            assert!(matches!(got, Err(Error::InvalidInput(text)) if text == round.to_string()));
            // Helpers are slow, so that some of the jobs are left for this thread.
            let work = |(): &mut (), _, _: &mut [i32], check: Check<'_>| {
                if is_helper() {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                check()
            };
            let unwound = catch_unwind(AssertUnwindSafe(|| {
                pool.for_each(&mut [0; 1000], 1, &mut || panic!("cancelled"), || (), work)
            }));
            assert!(unwound.is_err());
        }
        let panicked = pool.for_each(
            &mut [0; 64],
            1,
            &mut || Ok(()),
            || (),
            |(), _, _, _| {
                if std::thread::current().name().is_some_and(|n| n.starts_with("pg_answer")) {
                    panic!("in a helper");
                }
                std::thread::sleep(std::time::Duration::from_millis(1));
                Ok(())
            },
        );
        assert!(matches!(panicked, Ok(()) | Err(Error::Internal(_))));
    }

    #[test]
    fn helpers_block_all_signals() {
        let pool = Pool::new(2).unwrap();
        let mut blocked = [None; 256];
        pool.for_each(
            &mut blocked,
            1,
            &mut || Ok(()),
            || (),
            |(), _, slot, _| {
                std::thread::sleep(std::time::Duration::from_micros(200));
                if std::thread::current().name().is_some_and(|n| n.starts_with("pg_answer")) {
                    // SAFETY: plain calls with valid pointers to a local signal set.
                    slot[0] = Some(unsafe {
                        let mut set: libc::sigset_t = std::mem::zeroed();
                        libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &raw mut set);
                        [libc::SIGINT, libc::SIGTERM, libc::SIGALRM, libc::SIGUSR1]
                            .iter()
                            .all(|&signal| libc::sigismember(&raw const set, signal) == 1)
                    });
                }
                Ok(())
            },
        )
        .unwrap();
        assert!(blocked.iter().flatten().count() > 0);
        assert!(blocked.iter().flatten().all(|&all| all));
    }
}
