//! Pages of the index `ann`: bytes of a whole index are replaced.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pg_answer_ann::build::{Builder, Plan, Trainer};
use pg_answer_ann::check::check;
use pg_answer_ann::insert::{NewRow, insert};
use pg_answer_ann::memory::MemoryStore;
use pg_answer_ann::meta::Meta;
use pg_answer_ann::search::{Effort, Search};
use pg_answer_ann::upkeep::upkeep;
use pg_answer_ann::store::PageStore;
use pg_answer_ann::sweep::sweep;
use pg_answer_ann::vacuum::remove;
use pg_answer_ann::{Filter, Metric, Result};

const DIMS: usize = 16;
const ROWS: usize = 300;

/// Some vector.
fn row(id: usize) -> Vec<f32> {
    (0..DIMS).map(|i| ((id * 31 + i * 17) % 101) as f32 / 50.0 - 1.0).collect()
}

/// A whole index of a few lists, with one filter key.
static PAGES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let store = MemoryStore::default();
    let mut trainer = Trainer::new(Metric::L2, DIMS, 1).expect("dimensions");
    (0..ROWS).for_each(|id| trainer.push(&row(id)).expect("a row"));
    let trained = trainer.train(Plan { lists: 4, sample: ROWS }, || Ok(())).expect("trained");
    let mut builder = Builder::new(&store, trained, 1, 1).expect("a builder");
    (0..ROWS).for_each(|id| builder.add(id as u64, &row(id), &[id as i64 % 7]).expect("a row"));
    builder.finish().expect("an index");
    (0..store.len()).map(|block| store.read(block, |page| Ok(page.to_vec())).expect("a page")).collect()
});

fn try_index(store: &MemoryStore) -> Result<()> {
    let meta = Meta::read(store)?;
    let space = meta.space(store)?;
    if meta.dims as usize == DIMS && meta.key_columns == 1 {
        let effort = Effort { recall: 0.95, probes: Some(1) };
        let mut search = Search::new(store, &meta, &space, &row(3), effort, Filter::default())?;
        while search.next(store, &space)?.is_some() {}
        insert(store, &meta, &space, NewRow { id: 5, vector: &row(7), keys: &[5] })?;
    }
    remove(store, &meta, &space, |row| row % 3 == 0)?;
    sweep(store, &space)?;
    upkeep(store, &space, Some(20), 1 << 20)?;
    check(store, &meta, &space).map(|_| ())
}

fuzz_target!(|changes: Vec<(u8, u16, u8)>| {
    let store = MemoryStore::default();
    for page in PAGES.iter() {
        store.append(page).expect("room");
    }
    for (block, at, value) in changes {
        let block = u32::from(block) % PAGES.len() as u32;
        store.damage(block, |page| page[usize::from(at) % page.len()] = value);
    }
    let _ = try_index(&store);
});
