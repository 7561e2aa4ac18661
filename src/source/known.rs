//! What a session knows of the sources of the triggers that fire in it. It is learned once, and again when somebody has
//! changed the declaration or one of its tables: the server tells of that by invalidations of its relation cache, which
//! `pg_answer_sources` sends for declarations, too.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::prelude::*;
use pgrx::spi::{OwnedPreparedStatement, SpiClient};
use pgrx::{PgOid, pg_sys};

use super::latest;
use super::owner::ActingAs;
use super::plan::{Plan, plans, schema_of};
use super::transition::Columns;
use crate::error::OrRaise;

/// A trigger's source.
pub struct Known {
    /// Chunks in use, then chunks that are being built.
    pub targets: Vec<Target>,
    tables: Vec<pg_sys::Oid>,
    is_stale: Cell<bool>,
}

/// One set of chunks.
pub struct Target {
    /// How they are kept.
    pub plan: Plan,
    /// The columns in the rows of the trigger's table.
    pub columns: Columns,
    queueing: OnceCell<OwnedPreparedStatement>,
}

impl Target {
    /// The statement that adds an entry to the queue; its arguments are arrays of `types`.
    pub fn queueing(&self, client: &mut SpiClient<'_>, types: &[pg_sys::Oid]) -> &OwnedPreparedStatement {
        self.queueing.get_or_init(|| {
            let sql = format!(
                "INSERT INTO {} ({}) VALUES ({})",
                self.plan.queue,
                self.plan.chunk_key(),
                self.plan.join(", ", |i, _| format!("${i}"))
            );
            let types: Vec<PgOid> = types.iter().map(|&t| PgOid::from(t)).collect();
            client.prepare_mut(&sql, &types).or_raise().keep()
        })
    }
}

thread_local! {
    static KNOWN: RefCell<HashMap<u32, Rc<Known>>> = RefCell::new(HashMap::new());
    /// Invalidations so far; none when nobody listens yet.
    static INVALIDATIONS: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The source of the table that the trigger is on; none when it is no source any more. The table that the trigger writes to,
/// as `written` says, is locked, so that what is known stays right until the transaction ends.
///
/// # Safety
/// `data` and `fcinfo` are those of a running trigger.
pub unsafe fn source_of(
    client: &mut SpiClient<'_>,
    fcinfo: pg_sys::FunctionCallInfo,
    data: *mut pg_sys::TriggerData,
    written: impl Fn(&Plan) -> pg_sys::Oid,
) -> Option<Rc<Known>> {
    listen();
    // SAFETY: the caller vouches for the trigger; the rest are plain calls.
    unsafe {
        let trigger = (*(*data).tg_trigger).tgoid.to_u32();
        pg_sys::AcceptInvalidationMessages();
        loop {
            let known = KNOWN.with_borrow(|all| all.get(&trigger).filter(|k| !k.is_stale.get()).cloned());
            let known = match known {
                Some(known) => known,
                None => {
                    let before = INVALIDATIONS.get();
                    let learned = learn(client, fcinfo, (*data).tg_relation);
                    if INVALIDATIONS.get() != before {
                        continue;
                    }
                    let learned = learned.map(Rc::new);
                    let forgotten: Vec<_> = KNOWN.with_borrow_mut(|all| {
                        let forgotten = all.extract_if(|_, known| known.is_stale.get()).collect();
                        all.extend(learned.iter().map(|known| (trigger, known.clone())));
                        forgotten
                    });
                    drop(forgotten);
                    learned?
                }
            };
            for target in &known.targets {
                pg_sys::LockRelationOid(written(&target.plan), pg_sys::RowExclusiveLock as i32);
            }
            // Whoever held the lock may have put something else in its place.
            if !known.is_stale.get() {
                return Some(known);
            }
        }
    }
}

/// # Safety
/// `relation` is open, `fcinfo` the frame of the running call.
unsafe fn learn(
    client: &mut SpiClient<'_>,
    fcinfo: pg_sys::FunctionCallInfo,
    relation: pg_sys::Relation,
) -> Option<Known> {
    // SAFETY: as the caller vouches.
    unsafe {
        let schema = schema_of(fcinfo);
        let _acting = ActingAs::owner((*(*relation).rd_rel).relowner);
        let sql = format!("SELECT {schema}.pg_answer_source_above($1)");
        let above = latest::query(client, &sql, &[(*relation).rd_id.into()], |row| {
            row.get::<pg_sys::Oid>(1).or_raise()
        });
        let source = above.into_iter().next().flatten()?;
        let plans = plans(client, &schema, source);
        let tables = plans.iter().flat_map(|p| [p.chunks_table, p.queue_table]);
        let tables = tables.chain([source, (*relation).rd_id]).collect();
        let targets = plans
            .into_iter()
            .map(|plan| Target { columns: Columns::find(&plan, relation), plan, queueing: OnceCell::new() })
            .collect();
        Some(Known { targets, tables, is_stale: Cell::new(false) })
    }
}

/// Has the server tell of what changes.
fn listen() {
    if INVALIDATIONS.get().is_some() {
        return;
    }
    INVALIDATIONS.set(Some(0));
    let none = pg_sys::Datum::null();
    // SAFETY: the callbacks live as long as the library, which is never unloaded.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), none);
        // Names of schemas stand in statements.
        pg_sys::CacheRegisterSyscacheCallback(
            pg_sys::SysCacheIdentifier::NAMESPACEOID as i32,
            Some(schema_changed),
            none,
        );
    }
}

// Called at any time: they only take notes.
#[pg_guard]
unsafe extern "C-unwind" fn relation_changed(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    mark_stale(|known| relation == pg_sys::InvalidOid || known.tables.contains(&relation));
}

#[pg_guard]
unsafe extern "C-unwind" fn schema_changed(_argument: pg_sys::Datum, _cache: core::ffi::c_int, _hash: u32) {
    mark_stale(|_| true);
}

fn mark_stale(concerned: impl Fn(&Known) -> bool) {
    INVALIDATIONS.set(INVALIDATIONS.get().map(|n| n + 1));
    KNOWN.with_borrow(|all| all.values().filter(|k| concerned(k)).for_each(|k| k.is_stale.set(true)));
}

/// Lets sessions learn anew how `relation`, which may be gone, is declared; they do when this transaction has committed.
#[pg_extern(sql = false)]
fn pg_answer_declaration_changed(relation: pg_sys::Oid) {
    // SAFETY: plain calls; the relation exists when it is told of.
    unsafe {
        let key = pg_sys::Datum::from(relation);
        let none = pg_sys::Datum::null();
        if pg_sys::SearchSysCacheExists(pg_sys::SysCacheIdentifier::RELOID as i32, key, none, none, none) {
            pg_sys::CacheInvalidateRelcacheByRelid(relation);
        }
    }
}
