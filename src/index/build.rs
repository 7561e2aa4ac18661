//! `ambuild`: a sample of the table is clustered, then one pass over the table encodes its rows.

use pg_answer_ann::build::{Builder, Plan, Trainer};
use pg_answer_ann::workers::{self, Job, Team};
use pg_answer_inference::Pool;
use pgrx::pg_sys::{self, IndexBuildResult, IndexInfo, Relation};
use pgrx::{PgSqlErrorCode, check_for_interrupts};

use super::keys::Keys;
use super::opclass::OpClass;
use super::options;
use super::pages::Pages;
use super::table::Table;
use crate::error::{OrRaise, Report};

/// Blocks of the table that tell how many rows a block has.
const FIRST_BLOCKS: u32 = 64;

const SAMPLE: i64 = 2;
const TRAIN: i64 = 3;
const LOAD: i64 = 4;
const WRITE: i64 = 5;

/// `ambuildphasename`.
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn phase_name(phase: i64) -> *mut core::ffi::c_char {
    let name = match phase {
        1 => c"initializing",
        SAMPLE => c"sampling rows",
        TRAIN => c"clustering the sample",
        LOAD => c"encoding rows",
        WRITE => c"writing lists",
        _ => return std::ptr::null_mut(),
    };
    name.as_ptr().cast_mut()
}

fn report_phase(phase: i64) {
    // SAFETY: a plain call; the parameter is one of a running CREATE INDEX.
    unsafe { pg_sys::pgstat_progress_update_param(pg_sys::PROGRESS_CREATEIDX_SUBPHASE as i32, phase) }
}

/// Adds the rows of about `wanted` random blocks to a trainer, until it has `rows`.
fn sample(table: &Table, wanted: u32, rows: usize, seed: u32, trainer: &mut Trainer) -> u32 {
    let mut sampler = pg_sys::BlockSamplerData::default();
    let mut seen = 0;
    // SAFETY: the sampler is initialised before it is used; the relations are open.
    unsafe {
        pg_sys::BlockSampler_Init(&raw mut sampler, table.blocks(), wanted as i32, seed);
        while trainer.len() < rows && pg_sys::BlockSampler_HasMore(&raw mut sampler) {
            check_for_interrupts!();
            let block = pg_sys::BlockSampler_Next(&raw mut sampler);
            table.scan(block..block + 1, false, &mut |_, x, _| trainer.push(x));
            seen += 1;
        }
    }
    seen
}

/// `ambuild`.
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn build(
    heap: Relation,
    index: Relation,
    info: *mut IndexInfo,
) -> *mut IndexBuildResult {
    // SAFETY: PostgreSQL passes an open table and an open, empty index.
    unsafe {
        match helpers() {
            Some(helpers) => workers::with(helpers, || build_index(heap, index, info)),
            None => build_index(heap, index, info),
        }
    }
}

/// Threads that only compute; the table is read and the index is written by this process alone.
struct Helpers(Pool);

impl Team for Helpers {
    fn threads(&self) -> usize {
        self.0.threads()
    }

    fn run(&self, jobs: &mut [Job<'_>]) {
        let run = |jobs: &mut [Job<'_>]| jobs.iter_mut().for_each(|job| job());
        let done = self.0.for_each(
            jobs,
            1,
            &mut || Ok(()),
            || (),
            |(), _, jobs, _| {
                run(jobs);
                Ok(())
            },
        );
        done.or_raise();
    }
}

/// As many helpers beside this process as the server's setting for such work says. `None`: it computes alone.
fn helpers() -> Option<Helpers> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // SAFETY: a plain variable of the server.
    let wanted = usize::try_from(unsafe { pg_sys::max_parallel_maintenance_workers }).unwrap_or(0);
    let threads = cores.min(1 + wanted);
    if threads > 1 { Pool::new(threads).ok().map(Helpers) } else { None }
}

unsafe fn build_index(heap: Relation, index: Relation, info: *mut IndexInfo) -> *mut IndexBuildResult {
    // SAFETY: as for `build`.
    unsafe {
        let table = Table::new(heap, index, info);
        let (dims, metric) = (dimensions(index), table.class.metric);
        let memory = usize::try_from(pg_sys::maintenance_work_mem).unwrap_or(0) * 1024;
        let seed = u64::from(rand_seed());
        let new_trainer = || Trainer::new(metric, dims, seed).or_raise();

        report_phase(SAMPLE);
        let mut trainer = new_trainer();
        let seen = sample(&table, FIRST_BLOCKS, usize::MAX, seed as u32, &mut trainer);
        let rows = trainer.len() as f64 / f64::from(seen.max(1)) * f64::from(table.blocks());
        let mut plan = Plan::new(rows, dims, memory);
        if let Some(lists) = options::lists(index) {
            plan.lists = lists;
            plan.sample = plan.sample.max(lists);
        }
        if trainer.len() < plan.sample && seen < table.blocks() {
            let wanted = plan.sample as f64 / rows.max(1.0) * f64::from(table.blocks());
            trainer = new_trainer();
            let wanted = (wanted as u32).clamp(FIRST_BLOCKS, i32::MAX as u32);
            // The blocks come in their order: to stop early would be to leave out the end of the table.
            sample(&table, wanted, plan.sample + plan.sample / 4, seed as u32, &mut trainer);
        }

        report_phase(TRAIN);
        let check = || {
            check_for_interrupts!();
            Ok(())
        };
        let trained = trainer.train(plan, check).or_raise();

        report_phase(LOAD);
        let pages = Pages::new(index);
        let mut builder = Builder::new(&pages, trained, seed, table.keys.len()).or_raise();
        let mut done: i64 = 0;
        let heap_tuples = table.scan(0..pg_sys::InvalidBlockNumber, true, &mut |row, x, keys| {
            done += 1;
            if done % 1024 == 0 {
                let counter = pg_sys::PROGRESS_CREATEIDX_TUPLES_DONE as i32;
                pg_sys::pgstat_progress_update_param(counter, done);
            }
            builder.add(row, x, keys)
        });

        report_phase(WRITE);
        let index_tuples = builder.finish().or_raise() as f64;
        pages.log_all();
        let result = pg_sys::palloc0(size_of::<IndexBuildResult>()).cast::<IndexBuildResult>();
        *result = IndexBuildResult { heap_tuples, index_tuples };
        result
    }
}

/// `ambuildempty`: the index of an unlogged table as it is after a crash.
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn build_empty(index: Relation) {
    // SAFETY: PostgreSQL passes an open index without an init fork.
    unsafe {
        let pages = Pages::init_fork(index);
        write_empty(&pages, index).or_raise();
        pages.log_all();
    }
}

unsafe fn write_empty(pages: &Pages, index: Relation) -> pg_answer_ann::Result<u64> {
    // SAFETY: the caller passes an open index.
    let (keys, class, dims) = unsafe { (Keys::of(index), OpClass::of(index), dimensions(index)) };
    let seed = u64::from(rand_seed());
    let trained = Trainer::new(class.metric, dims, seed)?.train(Plan { lists: 1, sample: 0 }, || Ok(()))?;
    Builder::new(pages, trained, seed, keys.len())?.finish()
}

/// A seed for the rotation, different for each build.
fn rand_seed() -> u32 {
    // SAFETY: a plain call; never fails by contract, and another seed would do no harm.
    unsafe { pg_sys::GetCurrentTimestamp() as u32 ^ pg_sys::MyProcPid as u32 }
}

/// Dimensions of the indexed column or expression.
unsafe fn dimensions(index: Relation) -> usize {
    // SAFETY: an index has at least one column.
    let typmod = unsafe { pgrx::PgTupleDesc::from_pg_unchecked((*index).rd_att).get(0).map(|a| a.atttypmod) };
    match typmod.map(usize::try_from) {
        Some(Ok(dims)) if dims > 0 => dims,
        _ => Report::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, "column does not have dimensions")
            .hint("Declare it as vector(n), or index an expression that ends in ::vector(n).")
            .raise(),
    }
}
