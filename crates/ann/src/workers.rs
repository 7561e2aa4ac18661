//! Threads that help with the arithmetic of a build. Who builds an index has them; they see numbers only, never a store.

use std::cell::RefCell;
use std::rc::Rc;

/// Threads, the calling one among them.
pub trait Team {
    /// How many work at once.
    fn threads(&self) -> usize;

    /// Runs all jobs, and returns when they have ended.
    fn run(&self, jobs: &mut [Job<'_>]);
}

/// A piece of work.
pub type Job<'a> = Box<dyn FnMut() + Send + 'a>;

thread_local! {
    static TEAM: RefCell<Option<Rc<dyn Team>>> = const { RefCell::new(None) };
}

/// Lets a team do what `work` computes.
pub fn with<R>(team: impl Team + 'static, work: impl FnOnce() -> R) -> R {
    /// Forgets the team, also when `work` unwinds.
    struct Forget;
    impl Drop for Forget {
        fn drop(&mut self) {
            TEAM.set(None);
        }
    }
    TEAM.set(Some(Rc::new(team)));
    let _forget = Forget;
    work()
}

/// Calls `work` with parts of both slices, one for each thread, of `least` items or more. An item is `length` elements of
/// `items` and `wide` of `out`.
pub(crate) fn share<T: Sync, U: Send>(
    (items, length): (&[T], usize),
    (out, wide): (&mut [U], usize),
    least: usize,
    work: impl Fn(&[T], &mut [U]) + Sync,
) {
    let n = items.len() / length;
    let team = TEAM.with_borrow(Clone::clone);
    let parts = team.as_ref().map_or(1, |team| team.threads()).min(n / least).max(1);
    let Some(team) = team.filter(|_| parts > 1) else { return work(items, out) };
    let (part, work) = (n.div_ceil(parts), &work);
    let shares = items.chunks(part * length).zip(out.chunks_mut(part * wide));
    let mut jobs: Vec<Job<'_>> =
        shares.map(|(items, out)| Box::new(move || work(items, out)) as Job<'_>).collect();
    team.run(&mut jobs);
}
