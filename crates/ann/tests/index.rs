//! The index as a whole: every row once, true bounds, recall, changes, failures, damage.

mod common;

use common::{Index, Numbers, clustered, distance, recall, take_nearest, take_nearest_while};
use pg_answer_ann::check::check;
use pg_answer_ann::filter::{Filter, NULL_KEY, Test};
use pg_answer_ann::insert::{NewRow, insert};
use pg_answer_ann::meta::Meta;
use pg_answer_ann::search::{Effort, Search};
use pg_answer_ann::store::PageStore;
use pg_answer_ann::sweep::sweep;
use pg_answer_ann::upkeep::upkeep;
use pg_answer_ann::vacuum::{remove, sizes};
use pg_answer_ann::{Error, Metric};
use proptest::prelude::*;

const METRICS: [Metric; 4] = [Metric::L2, Metric::InnerProduct, Metric::Cosine, Metric::L1];

/// Ids of all rows that a search returns, in order of their numbers.
fn all_rows(index: &Index, query: &[f32]) -> Vec<u64> {
    let mut rows: Vec<u64> = index.found(query, Some(1), usize::MAX).iter().map(|found| found.row).collect();
    rows.sort_unstable();
    rows
}

#[test]
fn every_row_comes_back_once_with_a_true_bound() {
    for metric in METRICS {
        for (dims, n, lists) in
            [(1, 300, 3), (3, 500, 1), (64, 1500, 7), (100, 2000, 9), (385, 400, 2), (2100, 200, 3)]
        {
            let rows = clustered(n, dims, 5, 3);
            let index = Index::build(metric, &rows, dims, lists);
            for query in clustered(3, dims, 5, 4) {
                let found = index.found(&query, Some(1), usize::MAX);
                for found in &found {
                    let exact = distance(metric, &query, &rows[found.row as usize]);
                    assert!(found.bound <= exact, "{metric:?} {dims}: {} > {exact}", found.bound);
                }
                let mut ids: Vec<u64> = found.iter().map(|found| found.row).collect();
                ids.sort_unstable();
                assert!(ids.into_iter().eq(0..n as u64), "{metric:?} {dims}");
            }
        }
    }
}

#[test]
fn widest_vectors_have_an_index() {
    let rows = clustered(40, 16_000, 3, 1);
    let index = Index::build(Metric::Cosine, &rows, 16_000, 2);
    assert_eq!(recall(&index, &rows, &rows[..3], None, 5), 1.0);
}

#[test]
fn recall_is_high() {
    for metric in METRICS {
        let rows = clustered(6000, 96, 60, 11);
        let index = Index::build(metric, &rows, 96, 24);
        let queries = clustered(40, 96, 60, 11);
        let recall = recall(&index, &rows, &queries, None, 10);
        // The largest products are those of long rows, which clusters of near rows do not gather.
        let floor = if metric == Metric::InnerProduct { 0.9 } else { 0.95 };
        assert!(recall >= floor, "{metric:?}: {recall}");
    }
}

/// What a build measures on its own rows holds for queries that it has not seen, and a lower target takes less work.
#[test]
fn targets_are_met() {
    let all = clustered(12_300, 16, 1, 21);
    let (rows, queries) = all.split_at(12_000);
    for metric in METRICS {
        let index = Index::build(metric, rows, 16, 100);
        let mut before = 0;
        for target in [0.8, 0.9, 0.93, 0.95, 0.99] {
            let (mut hits, mut visited) = (0, 0);
            for query in queries {
                let mut exact: Vec<f64> = rows.iter().map(|row| distance(metric, query, row)).collect();
                let worst = *exact.select_nth_unstable_by(9, f64::total_cmp).1 + 1e-9;
                let effort = Effort { recall: target, probes: None };
                let none = Filter::default();
                let mut search =
                    Search::new(&index.store, &index.meta, &index.space, query, effort, none).unwrap();
                let found = take_nearest(&index, &mut search, rows, query, 10);
                hits += found
                    .iter()
                    .filter(|row| distance(metric, query, &rows[**row as usize]) <= worst)
                    .count();
                visited += search.work().visited;
            }
            let recall = hits as f64 / (10 * queries.len()) as f64;
            assert!(recall >= target - 0.02, "{metric:?}, {target}: {recall}");
            assert!(visited > before && visited < 100 * queries.len(), "{metric:?}, {target}: {visited}");
            before = visited;
            let mean = visited as f64 / queries.len() as f64;
            let told = index.meta.probes_for(target, 100) as f64;
            assert!((0.6..1.6).contains(&(mean / told)), "{metric:?}, {target}: {mean} lists, {told} told");
        }
    }
}

/// A caller that throws rows away still finds the nearest of the others.
#[test]
fn conditions_of_the_caller_keep_recall() {
    let all = clustered(20_200, 16, 1, 22);
    let (rows, queries) = all.split_at(20_000);
    let passes = |id: u64| id.is_multiple_of(50);
    for metric in [Metric::L2, Metric::Cosine] {
        let index = Index::build(metric, rows, 16, 150);
        let (mut hits, mut visited) = (0, 0);
        for query in queries {
            let to = |id: &u64| distance(metric, query, &rows[*id as usize]);
            let mut exact: Vec<f64> = (0..20_000).filter(|id| passes(*id)).map(|id| to(&id)).collect();
            let worst = *exact.select_nth_unstable_by(9, f64::total_cmp).1 + 1e-9;
            let mut search = index.search(query, None);
            // Of the rows in their order, the first ten that pass.
            let mut n = 0;
            let found = take_nearest_while(&index, &mut search, rows, query, |row| {
                n += usize::from(passes(row));
                n < 10
            });
            hits += found.iter().filter(|row| passes(**row) && to(row) <= worst).count();
            visited += search.work().visited;
        }
        let recall = hits as f64 / (10 * queries.len()) as f64;
        assert!(recall >= 0.93, "{metric:?}: {recall}");
        assert!(visited < 130 * queries.len(), "{metric:?}: {visited}");
    }
}

#[test]
fn one_value_many_times() {
    let mut rows = vec![vec![0.5; 32]; 3000];
    rows.push(vec![-0.5; 32]);
    let index = Index::build(Metric::L2, &rows, 32, 8);
    assert_eq!(all_rows(&index, &[0.25; 32]).len(), 3001);
    assert_eq!(recall(&index, &rows, &[vec![-0.5; 32]], Some(1), 1), 1.0);
}

#[test]
fn extreme_vectors_come_back_too() {
    let mut rows = clustered(50, 16, 3, 5);
    rows.extend([vec![0.0; 16], vec![3e38; 16], vec![1e-30; 16], vec![-3e38; 16], vec![1e-44; 16]]);
    for metric in METRICS {
        let index = Index::build(metric, &rows, 16, 1);
        for query in [&rows[0], &rows[50], &rows[51], &rows[52], &vec![1e19; 16]] {
            assert_eq!(all_rows(&index, query).len(), rows.len(), "{metric:?}");
            for found in index.found(query, None, usize::MAX) {
                let exact = distance(metric, query, &rows[found.row as usize]);
                let undefined = exact.is_nan() || found.bound.is_nan();
                assert!(undefined || found.bound <= exact, "{metric:?}: {} > {exact}", found.bound);
            }
        }
        // Under cosine, what has no direction comes last.
        if metric == Metric::Cosine {
            assert_eq!(index.found(&rows[0], None, usize::MAX).last().unwrap().row, 50);
        }
    }
}

#[test]
fn an_index_of_nothing_grows() {
    let rows = clustered(3000, 48, 10, 9);
    for metric in METRICS {
        let index = Index::build(metric, &[], 48, 1);
        assert!(all_rows(&index, &rows[0]).is_empty());
        for (id, row) in rows.iter().enumerate() {
            index.insert(id as u64, row).unwrap();
        }
        assert!(all_rows(&index, &rows[0]).into_iter().eq(0..3000));
        let recall = recall(&index, &rows, &clustered(20, 48, 10, 9), None, 10);
        assert!(recall >= 0.95, "{metric:?}: {recall}");
    }
}

#[test]
fn deleted_entries_are_used_again() {
    let rows = clustered(4000, 64, 10, 2);
    let index = Index::build(Metric::L2, &rows, 64, 6);
    let pages = index.store.len();
    for round in 0..5u64 {
        let dead = |row: u64| row % 2 == round % 2;
        let removed = remove(&index.store, &index.meta, &index.space, dead).unwrap();
        assert_eq!((removed.kept, removed.removed), (2000, 2000));
        assert_eq!(all_rows(&index, &rows[0]).len(), 2000);
        for (id, row) in rows.iter().enumerate().filter(|(id, _)| dead(*id as u64)) {
            index.insert(id as u64, row).unwrap();
        }
        assert!(all_rows(&index, &rows[0]).into_iter().eq(0..4000));
    }
    // The first page of a list is filled before the holes of others are.
    assert!(index.store.len() <= pages + pages / 10, "{} pages, {pages} before", index.store.len());
    assert_eq!(sizes(&index.store, &index.meta, &index.space).unwrap().rows, 4000);
    assert_eq!(check(&index.store, &index.meta, &index.space), Ok(4000));
}

/// Keys of the tests: a number below ten, NULL for each seventh; and the row's own number.
fn keys_of(id: u64) -> Vec<i64> {
    vec![if id.is_multiple_of(7) { NULL_KEY } else { id as i64 % 10 }, id as i64]
}

#[test]
fn a_filter_finds_all_that_passes_and_nothing_else() {
    let rows = clustered(3000, 40, 20, 4);
    let index = Index::build_with_keys(Metric::L2, &rows[..2000], 40, 9, 2, keys_of);
    for (id, row) in rows.iter().enumerate().skip(2000) {
        index.insert_with_keys(id as u64, row, &keys_of(id as u64)).unwrap();
    }
    assert!(matches!(index.insert(1, &rows[0]), Err(Error::Corrupt { .. })));
    remove(&index.store, &index.meta, &index.space, |row| row % 11 == 3).unwrap();
    type Passes = fn(&[i64]) -> bool;
    let cases: [(Vec<(usize, Test)>, Passes); 7] = [
        (vec![(0, Test::Within(3, 3))], |k| k[0] == 3),
        (vec![(0, Test::Within(2, 5)), (1, Test::Within(100, 2500))], |k| {
            (2..=5).contains(&k[0]) && (100..=2500).contains(&k[1])
        }),
        (vec![(0, Test::Within(NULL_KEY, NULL_KEY))], |k| k[0] == NULL_KEY),
        (vec![(0, Test::OneOf(vec![1, 4, 9])), (1, Test::Within(i64::MIN, 1500))], |k| {
            [1, 4, 9].contains(&k[0]) && k[1] <= 1500
        }),
        (vec![(1, Test::OneOf(vec![77]))], |k| k[1] == 77),
        (vec![(0, Test::OneOf(Vec::new()))], |_| false),
        (vec![(0, Test::Within(5, 4))], |_| false),
    ];
    for (conditions, passes) in cases {
        let mut want: Vec<u64> = (0..3000).filter(|id| id % 11 != 3 && passes(&keys_of(*id))).collect();
        let filter = Filter { conditions };
        let query = &rows[5];
        let mut search = index.filtered(query, Some(1), filter.clone());
        let mut found: Vec<u64> =
            std::iter::from_fn(|| search.next(&index.store, &index.space).unwrap()).map(|f| f.row).collect();
        found.sort_unstable();
        assert!(found == want, "{filter:?}: {} rows, not {}", found.len(), want.len());
        // Without help the nearest are found: of few rows there is less to miss.
        want.sort_by(|a, b| {
            let to = |id: &u64| distance(Metric::L2, query, &rows[*id as usize]);
            to(a).total_cmp(&to(b))
        });
        want.truncate(10);
        let found = take_nearest(&index, &mut index.filtered(query, None, filter.clone()), &rows, query, 10);
        let hits = found.iter().filter(|row| want.contains(row)).count();
        assert!(hits * 10 >= want.len() * 9, "{filter:?}: {hits} of {}", want.len());
    }
    let beyond = Filter { conditions: vec![(2, Test::Within(0, 0))] };
    let effort = Effort { recall: 0.9, probes: None };
    let search = Search::new(&index.store, &index.meta, &index.space, &rows[0], effort, beyond);
    assert!(matches!(search.err(), Some(Error::Corrupt { .. })));
}

#[test]
fn an_index_of_another_version_is_told_from_a_damaged_one() {
    let index = Index::build(Metric::L2, &clustered(50, 16, 2, 1), 16, 1);
    for (at, version) in [(3, true), (2, false)] {
        index.store.damage(0, |page| page[at] = b'0');
        let read = Meta::read(&index.store);
        assert_eq!(matches!(read, Err(Error::Version { block: 0 })), version, "{read:?}");
        assert!(read.is_err());
    }
}

/// A failure between two changes loses no row and invents none.
#[test]
fn a_failure_leaves_a_whole_index() {
    let rows = clustered(600, 64, 4, 6);
    for fail_after in 0..40 {
        let index = Index::build(Metric::Cosine, &rows[..300], 64, 2);
        index.store.fail_after(Some(fail_after));
        let (mut inserted, mut failed): (Vec<u64>, Vec<u64>) = ((0..300).collect(), Vec::new());
        for (id, row) in rows.iter().enumerate().skip(300) {
            match index.insert(id as u64, row) {
                Ok(_) => inserted.push(id as u64),
                Err(error) => {
                    assert!(matches!(error, Error::Store(_)), "{error}");
                    failed.push(id as u64);
                }
            }
        }
        index.store.fail_after(None);
        // The first failure may come between the two entries of a row, which is there then; its transaction is not.
        let all = all_rows(&index, &rows[0]);
        if all.contains(&failed[0]) {
            inserted.push(failed[0]);
        }
        assert_eq!(all, inserted);
        check(&index.store, &index.meta, &index.space).unwrap();
        index.store.fail_after(Some(fail_after % 5));
        let _ = remove(&index.store, &index.meta, &index.space, |row| row < 100);
        index.store.fail_after(None);
        remove(&index.store, &index.meta, &index.space, |row| row < 100).unwrap();
        assert!(all_rows(&index, &rows[0]).into_iter().eq(inserted.into_iter().filter(|row| *row >= 100)));
    }
}

#[test]
fn what_is_not_whole_is_found() {
    let rows = clustered(500, 64, 4, 6);
    let index = Index::build(Metric::L2, &rows, 64, 3);
    assert_eq!(check(&index.store, &index.meta, &index.space), Ok(500));
    // The first page behind the meta page is one of codes, whose kind and count matter; of a list page the owner does, too.
    let first_of = |kind: u8| {
        let is_one = |block: &u32| index.store.read(*block, |page| Ok(page[4] == kind)).unwrap();
        (1..index.store.len()).find(is_one).unwrap()
    };
    let (list, codes) = (first_of(3), first_of(4));
    for (block, at, value) in [(codes, 4, 3), (codes, 6, 1), (list, 4, 4), (list, 8, 200)] {
        let mut before = 0;
        index.store.damage(block, |page| before = std::mem::replace(&mut page[at], value));
        assert!(check(&index.store, &index.meta, &index.space).is_err(), "page {block}, byte {at}");
        index.store.damage(block, |page| page[at] = before);
    }
    assert_eq!(check(&index.store, &index.meta, &index.space), Ok(500));
}

/// Whatever is on the pages, nothing panics and everything ends.
#[test]
fn damaged_pages_are_errors() {
    let rows = clustered(700, 64, 4, 6);
    let mut numbers = Numbers::new(8);
    let mut errors = 0;
    for _ in 0..400 {
        let index = Index::build(Metric::L2, &rows[..400], 64, 3);
        for _ in 0..1 + numbers.below(4) {
            let block = numbers.below(index.store.len() as usize) as u32;
            // Headers are small, and matter most.
            let reach = if numbers.below(2) == 0 { 64 } else { 8168 };
            let (at, value) = (numbers.below(reach), numbers.below(256) as u8);
            index.store.damage(block, |page| page[at] = value);
        }
        let outcome = (|| {
            let meta = Meta::read(&index.store)?;
            let space = meta.space(&index.store)?;
            let effort = Effort { recall: 0.95, probes: Some(1) };
            if meta.dims == 64 {
                let mut search =
                    Search::new(&index.store, &meta, &space, &rows[0], effort, Filter::default())?;
                while search.next(&index.store, &space)?.is_some() {}
                insert(&index.store, &meta, &space, NewRow { id: 5, vector: &rows[500], keys: &[] })?;
            }
            remove(&index.store, &meta, &space, |row| row % 3 == 0)?;
            sweep(&index.store, &space)?;
            upkeep(&index.store, &space, Some(20), 1 << 20)?;
            check(&index.store, &meta, &space)?;
            sizes(&index.store, &meta, &space)
        })();
        errors += usize::from(outcome.is_err());
    }
    assert!(errors > 20, "{errors}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    /// Insertions and removals in any order leave what a set would hold.
    #[test]
    fn like_a_set(steps in prop::collection::vec((any::<bool>(), 0u64..400), 1..600), lists in 1usize..5) {
        let rows = clustered(400, 20, 4, 12);
        let index = Index::build(Metric::L2, &rows[..50], 20, lists);
        let mut present: std::collections::BTreeSet<u64> = (0..50).collect();
        for (add, id) in steps {
            if add && present.insert(id) {
                index.insert(id, &rows[id as usize]).unwrap();
            } else if !add {
                let range = id..id + 20;
                remove(&index.store, &index.meta, &index.space, |row| range.contains(&row)).unwrap();
                present.retain(|row| !range.contains(row));
            }
        }
        prop_assert_eq!(check(&index.store, &index.meta, &index.space), Ok(present.len() as u64));
        prop_assert!(all_rows(&index, &rows[0]).into_iter().eq(present));
    }
}

/// Random vectors of many dimensions are all about as far from each other: one-bit codes tell little, and more are refined.
#[test]
fn random_vectors_are_found() {
    let mut numbers = Numbers::new(8);
    let mut vectors = |n| (0..n).map(|_| (0..384).map(|_| numbers.uniform()).collect()).collect();
    let (rows, queries): (Vec<Vec<f32>>, Vec<Vec<f32>>) = (vectors(6000), vectors(40));
    for metric in [Metric::L2, Metric::Cosine] {
        let index = Index::build(metric, &rows, 384, 46);
        let recall = recall(&index, &rows, &queries, None, 10);
        assert!(recall >= 0.93, "{metric:?}: {recall}");
    }
}
