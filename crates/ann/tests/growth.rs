//! Indexes that grow: lists are split, pages are used again, whatever happens meanwhile.

mod common;

use std::cell::Cell;

use common::{Index, Numbers, clustered, distance, nearest, recall};
use pg_answer_ann::check::check;
use pg_answer_ann::filter::{Filter, Test};
use pg_answer_ann::memory::MemoryChange;
use pg_answer_ann::meta::Meta;
use pg_answer_ann::store::{Block, PageStore};
use pg_answer_ann::sweep::sweep;
use pg_answer_ann::upkeep::upkeep;
use pg_answer_ann::vacuum::{remove, sizes};
use pg_answer_ann::{Error, Metric};
use proptest::prelude::*;

const MEMORY: usize = 64 << 20;

fn expect_rows(index: &Index, rows: &[Vec<f32>], want: impl Iterator<Item = u64>) {
    let mut found = Vec::new();
    for hit in index.found(&rows[0], Some(1), usize::MAX) {
        let exact = distance(index.meta.metric, &rows[0], &rows[hit.row as usize]);
        assert!(hit.bound <= exact || exact.is_nan(), "{}: {} > {exact}", hit.row, hit.bound);
        found.push(hit.row);
    }
    found.sort_unstable();
    let want: Vec<u64> = want.collect();
    assert!(found == want, "{} rows, not {}", found.len(), want.len());
    assert_eq!(check(&index.store, &index.meta, &index.space), Ok(want.len() as u64));
}

#[test]
fn an_index_of_nothing_gets_lists() {
    let all = clustered(8200, 48, 40, 9);
    let (rows, queries) = all.split_at(8000);
    for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine, Metric::L1] {
        let mut index = Index::build(metric, &[], 48, 1);
        for (id, row) in rows.iter().enumerate() {
            index.insert(id as u64, row).unwrap();
            if [1000, 3000, 7999].contains(&id) {
                let done = upkeep(&index.store, &index.space, None, MEMORY).unwrap();
                assert!(done.split > 0, "{metric:?} {id}");
                expect_rows(&index, rows, 0..=id as u64);
                // Parts may be long again; soon there is nothing left to be done.
                let mut rounds = (0..5).map(|_| upkeep(&index.store, &index.space, None, MEMORY).unwrap());
                assert!(rounds.any(|done| (done.split, done.calibrated) == (0, false)), "{metric:?} {id}");
            }
        }
        index.meta = Meta::read(&index.store).unwrap();
        let sizes = sizes(&index.store, &index.meta, &index.space).unwrap();
        assert!((20..=120).contains(&sizes.lists), "{sizes:?}");
        let recall = recall(&index, rows, queries, None, 10);
        let floor = if metric == Metric::InnerProduct { 0.9 } else { 0.93 };
        assert!(recall >= floor, "{metric:?}: {recall}");
        // The lists that a recall takes were measured: not all.
        assert!(index.meta.probes_for(0.8, sizes.lists as usize) < sizes.lists as usize, "{:?}", index.meta);
    }
}

#[test]
fn what_is_of_one_piece_is_not_split() {
    let rows = vec![vec![0.5; 32]; 3000];
    let index = Index::build(Metric::L2, &rows, 32, 1);
    for _ in 0..2 {
        assert_eq!(upkeep(&index.store, &index.space, None, MEMORY).unwrap().split, 0);
    }
    expect_rows(&index, &rows, 0..3000);
}

/// Rows that were there before the lists were split again and again are found as well as those that came last.
#[test]
fn the_oldest_rows_are_found() {
    let wave = |i: usize, j: usize| ((i as f32 * 0.37 + (j * j) as f32 * 1.7).sin(), (i * j) as f32 * 0.11);
    let row = |i| (1..=32).map(|j| wave(i, j)).map(|(a, b)| a + b.cos()).collect();
    let rows: Vec<Vec<f32>> = (1..=12_000).map(row).collect();
    let mut index = Index::build(Metric::Cosine, &rows[..1000], 32, 7);
    for id in 1000..rows.len() {
        index.insert(id as u64, &rows[id]).unwrap();
        if id % 200 == 199 {
            sweep(&index.store, &index.space).unwrap();
            upkeep(&index.store, &index.space, None, MEMORY).unwrap();
        }
    }
    expect_rows(&index, &rows, 0..12_000);
    index.meta = Meta::read(&index.store).unwrap();
    let is_found = |id: &usize| nearest(&index, &rows, &rows[*id], None, 1)[0] == *id as u64;
    let (oldest, newest) = (0..400, 11_600..12_000);
    let (oldest, newest) = (oldest.filter(is_found).count(), newest.filter(is_found).count());
    assert!(oldest >= 380 && newest >= 380, "{oldest} and {newest} of 400");
}

#[test]
fn lists_that_have_become_short_are_given_up() {
    let rows = clustered(8000, 48, 40, 3);
    let index = Index::build(Metric::L2, &rows, 48, 60);
    let lists = || sizes(&index.store, &index.meta, &index.space).unwrap().lists;
    let (before, pages) = (lists(), index.store.len());
    remove(&index.store, &index.meta, &index.space, |row| row % 20 != 0).unwrap();
    let merged: usize = (0..12)
        .map(|_| {
            sweep(&index.store, &index.space).unwrap();
            let merged = upkeep(&index.store, &index.space, None, MEMORY).unwrap().merged;
            expect_rows(&index, &rows, (0..8000).step_by(20));
            merged
        })
        .sum();
    assert!(merged > 0 && lists() <= 8, "{merged} given up, {} of {before} lists left", lists());
    sweep(&index.store, &index.space).unwrap();
    let (used, free) = (sizes(&index.store, &index.meta, &index.space).unwrap(), index.store.count_free());
    assert!(used.list_pages < 30, "{used:?}");
    assert!(index.store.len() <= 2 * pages && free > u64::from(pages) / 3, "{free} pages are free");
    // Pages of byte codes have room for later rows.
    (0..4000).for_each(|id| index.insert(10_000 + id, &rows[id as usize]).unwrap());
    assert_eq!(sizes(&index.store, &index.meta, &index.space).unwrap().code_pages, used.code_pages);
}

#[test]
fn extreme_vectors_and_keys_move_along() {
    let mut rows = clustered(3000, 16, 8, 5);
    rows.extend([vec![0.0; 16], vec![3e38; 16], vec![1e-30; 16], vec![-3e38; 16], vec![1e-44; 16]]);
    for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine, Metric::L1] {
        let index = Index::build_with_keys(metric, &rows, 16, 1, 2, |id| vec![id as i64, -(id as i64)]);
        assert!(upkeep(&index.store, &index.space, Some(20), MEMORY).unwrap().split > 0);
        expect_rows(&index, &rows, 0..3005);
        for id in [7, 3000, 3004] {
            let filter = Filter { conditions: vec![(1, Test::Within(-id, -id))] };
            let mut search = index.filtered(&rows[1], Some(1), filter);
            let found = search.next(&index.store, &index.space).unwrap().unwrap();
            assert_eq!(found.row, id as u64, "{metric:?}");
            assert_eq!(search.next(&index.store, &index.space), Ok(None));
        }
        if metric == Metric::Cosine {
            assert_eq!(index.found(&rows[0], None, usize::MAX).last().unwrap().row, 3000);
        }
    }
}

/// A directory entry of the widest vectors fills a page.
#[test]
fn the_directory_grows_by_pages() {
    let rows = clustered(60, 16_000, 6, 1);
    let index = Index::build(Metric::Cosine, &rows, 16_000, 1);
    assert_eq!(upkeep(&index.store, &index.space, Some(6), MEMORY).unwrap().split, 1);
    assert!(sizes(&index.store, &index.meta, &index.space).unwrap().lists > 3);
    expect_rows(&index, &rows, 0..60);
}

#[test]
fn searches_that_have_begun_go_on() {
    let rows = clustered(3000, 24, 10, 2);
    let index = Index::build(Metric::L2, &rows, 24, 3);
    index.store.set_reading(true);
    let mut search = index.search(&rows[0], Some(1));
    let mut found: Vec<u64> =
        (0..20).map(|_| search.next(&index.store, &index.space).unwrap().unwrap().row).collect();
    assert!(upkeep(&index.store, &index.space, Some(60), MEMORY).unwrap().split > 0);
    // What they read is not swept up.
    assert_eq!(sweep(&index.store, &index.space), Ok(0));
    for id in 0..200 {
        remove(&index.store, &index.meta, &index.space, |row| row == 10_000 + id).unwrap();
        index.insert(10_000 + id, &rows[id as usize]).unwrap();
    }
    found.extend(std::iter::from_fn(|| search.next(&index.store, &index.space).unwrap()).map(|f| f.row));
    found.sort_unstable();
    assert!(found.into_iter().eq(0..3000));
    index.store.set_reading(false);
    assert!(sweep(&index.store, &index.space).unwrap() > 10);
    let pages = index.store.len();
    for id in 0..500 {
        index.insert(20_000 + id, &rows[id as usize]).unwrap();
    }
    assert_eq!(index.store.len(), pages, "free pages are used first");
    assert_eq!(check(&index.store, &index.meta, &index.space), Ok(3700));
}

/// A store in which others insert a few rows whenever the process that works asks whether it may go on.
struct Busy<'a> {
    index: &'a Index,
    rows: &'a [Vec<f32>],
    next: Cell<usize>,
}

impl PageStore for Busy<'_> {
    type Change<'b>
        = MemoryChange<'b>
    where
        Self: 'b;

    fn read<R>(&self, block: Block, look: impl FnOnce(&[u8]) -> Result<R, Error>) -> Result<R, Error> {
        self.index.store.read(block, look)
    }

    fn change(&self) -> MemoryChange<'_> {
        self.index.store.change()
    }

    fn len(&self) -> Block {
        self.index.store.len()
    }

    fn append(&self, page: &[u8]) -> Result<Block, Error> {
        self.index.store.append(page)
    }

    fn free(&self, block: Block) {
        self.index.store.free(block);
    }

    fn count_free(&self) -> u64 {
        self.index.store.count_free()
    }

    fn now(&self) -> u64 {
        self.index.store.now()
    }

    fn is_over(&self, time: u64) -> bool {
        self.index.store.is_over(time)
    }

    fn check(&self) -> Result<(), Error> {
        let first = self.next.get();
        let mut rows = self.rows.iter().enumerate().skip(first).take(3);
        rows.try_for_each(|(id, row)| self.index.insert(id as u64, row))?;
        self.next.set((first + 3).min(self.rows.len()));
        Ok(())
    }
}

#[test]
fn rows_inserted_meanwhile_are_carried_over() {
    let rows = clustered(4000, 24, 10, 2);
    for metric in [Metric::L2, Metric::Cosine, Metric::L1] {
        let index = Index::build(metric, &rows[..1000], 24, 2);
        let busy = Busy { index: &index, rows: &rows, next: Cell::new(1000) };
        // A list that is locked must not be asked to wait: the store in memory fails if it is locked twice.
        while busy.next.get() < rows.len() {
            upkeep(&busy, &index.space, Some(60), MEMORY).unwrap();
            sweep(&busy, &index.space).unwrap();
        }
        expect_rows(&index, &rows, 0..4000);
        assert!(sizes(&index.store, &index.meta, &index.space).unwrap().lists > 40);
    }
}

/// A failure anywhere loses no row, and what it leaves behind is swept up.
#[test]
fn a_failure_leaves_a_whole_index() {
    let rows = clustered(1500, 32, 6, 6);
    for fail_after in 0..60 {
        let index = Index::build(Metric::L2, &rows[..1200], 32, 2);
        index.store.fail_after(Some(fail_after / 2));
        let failed = upkeep(&index.store, &index.space, Some(30), MEMORY);
        assert!(matches!(failed, Ok(_) | Err(Error::Store(_))), "{failed:?}");
        index.store.fail_after(None);
        expect_rows(&index, &rows, 0..1200);
        for (id, row) in rows.iter().enumerate().skip(1200) {
            index.insert(id as u64, row).unwrap();
        }
        expect_rows(&index, &rows, 0..1500);
        index.store.fail_after(Some(fail_after % 20));
        let _ = sweep(&index.store, &index.space);
        index.store.fail_after(None);
        sweep(&index.store, &index.space).unwrap();
        upkeep(&index.store, &index.space, Some(30), MEMORY).unwrap();
        expect_rows(&index, &rows, 0..1500);
    }
}

#[test]
fn churn_keeps_size_and_recall() {
    let rows = clustered(6000, 64, 40, 2);
    let queries = clustered(30, 64, 40, 2);
    let index = Index::build(Metric::L2, &rows, 64, 40);
    let (pages, before) = (index.store.len(), recall(&index, &rows, &queries, None, 10));
    let mut numbers = Numbers::new(3);
    for _ in 0..5 {
        let dead: Vec<bool> = rows.iter().map(|_| numbers.below(2) == 0).collect();
        remove(&index.store, &index.meta, &index.space, |row| dead[row as usize]).unwrap();
        sweep(&index.store, &index.space).unwrap();
        upkeep(&index.store, &index.space, None, MEMORY).unwrap();
        for (id, row) in rows.iter().enumerate().filter(|(id, _)| dead[*id]) {
            index.insert(id as u64, row).unwrap();
        }
    }
    expect_rows(&index, &rows, 0..6000);
    let after = recall(&index, &rows, &queries, None, 10);
    assert!(after >= before - 0.01, "{after}, {before} before");
    assert!(index.store.len() <= pages + pages / 10, "{} pages, {pages} before", index.store.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    /// Insertions, removals, splits, mergers and sweeps in any order leave what a set would hold, whether a page of the directory
    /// has room for many lists or few.
    #[test]
    fn like_a_set(dims in prop::sample::select(vec![20, 1500]), steps in prop::collection::vec((0u8..8, 0u64..900), 1..60)) {
        let rows = clustered(1000, dims, 7, 12);
        let index = Index::build(Metric::L2, &rows[..50], dims, 2);
        let mut present: std::collections::BTreeSet<u64> = (0..50).collect();
        for (what, from) in steps {
            match what {
                0..4 => for id in from..from + 100 {
                    if present.insert(id) {
                        index.insert(id, &rows[id as usize]).unwrap();
                    }
                },
                4 => {
                    let range = from..from + 50;
                    remove(&index.store, &index.meta, &index.space, |row| range.contains(&row)).unwrap();
                    present.retain(|row| !range.contains(row));
                }
                5 => drop(sweep(&index.store, &index.space).unwrap()),
                6 => index.store.set_reading(from % 2 == 0),
                _ => drop(upkeep(&index.store, &index.space, Some(present.len() / 20 + 1), MEMORY).unwrap()),
            }
        }
        expect_rows(&index, &rows, present.into_iter());
    }
}

/// A failure between adding a page and writing it leaves a blank page, which is used again.
#[test]
fn blank_pages_are_swept_up() {
    let rows = clustered(3000, 64, 8, 5);
    let index = Index::build(Metric::L2, &rows[..500], 64, 4);
    let mut left = 0;
    for (id, row) in rows.iter().enumerate().skip(500) {
        let before = index.store.len();
        index.store.fail_after(Some(0));
        let failed = index.insert(id as u64, row).is_err();
        index.store.fail_after(None);
        assert!(failed);
        left += index.store.len() - before;
        if left > 5 {
            break;
        }
        index.insert(id as u64, row).unwrap();
    }
    assert!(left > 5);
    let free = u64::from(left);
    assert_eq!(sweep(&index.store, &index.space).unwrap(), free);
    assert_eq!(sweep(&index.store, &index.space).unwrap(), 0);
    check(&index.store, &index.meta, &index.space).unwrap();
    let before = index.store.len();
    // A row takes two pages at most.
    (0..).map_while(|id| (index.store.count_free() > 1).then_some(id)).for_each(|id| {
        index.insert(10_000 + id, &rows[id as usize]).unwrap();
    });
    assert_eq!(index.store.len(), before);
    check(&index.store, &index.meta, &index.space).unwrap();
}
