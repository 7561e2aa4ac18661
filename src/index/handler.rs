//! What the access method can do.

use pgrx::pg_sys::{self, Datum, IndexAmRoutine};

use super::keys::LAST_SUPPORT;
use super::{build, cost, insert, options, scan, vacuum};
use crate::vector::call::Args;

fn handler(_: Args) -> Datum {
    // SAFETY: the node is allocated in the current memory context with the tag of its type.
    unsafe {
        let size = size_of::<IndexAmRoutine>();
        let routine = pg_sys::palloc0(size).cast::<IndexAmRoutine>();
        *routine = IndexAmRoutine {
            type_: pg_sys::NodeTag::T_IndexAmRoutine,
            amsupport: LAST_SUPPORT,
            amcanorderbyop: true,
            amcanmulticol: true,
            amoptionalkey: true,
            amsearcharray: true,
            amsearchnulls: true,
            amparallelvacuumoptions: pg_sys::VACUUM_OPTION_PARALLEL_BULKDEL as u8,
            amkeytype: pg_sys::InvalidOid,
            ambuild: Some(build::build),
            ambuildempty: Some(build::build_empty),
            aminsert: Some(insert::insert),
            ambulkdelete: Some(vacuum::bulk_delete),
            amvacuumcleanup: Some(vacuum::cleanup),
            amcostestimate: Some(cost::estimate),
            amoptions: Some(options::parse),
            ambuildphasename: Some(build::phase_name),
            amvalidate: Some(validate),
            ambeginscan: Some(scan::begin),
            amrescan: Some(scan::rescan),
            amgettuple: Some(scan::next),
            amendscan: Some(scan::end),
            ..Default::default()
        };
        Datum::from(routine)
    }
}

/// `amvalidate`. What an operator class lacks is an ERROR when an index of it is used.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn validate(_class: pg_sys::Oid) -> bool {
    true
}

sql_functions! {
    ann_handler => handler;
}
