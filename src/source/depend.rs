//! `pg_answer_depend(dependent, source)`: tables that go when their source goes.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::owner::{must_be, owner_of};

/// Lets table `dependent` be dropped together with table `source`, and with the extension. Both must belong to the same
/// role, whose rights the caller must have.
#[pg_extern(sql = false)]
fn pg_answer_depend(dependent: pg_sys::Oid, source: pg_sys::Oid) {
    let owner = owner_of(source);
    must_be(owner, source);
    must_be(owner_of(dependent), dependent);
    let relation =
        |oid| pg_sys::ObjectAddress { classId: pg_sys::RelationRelationId, objectId: oid, objectSubId: 0 };
    let dependent = relation(dependent);
    let source = relation(source);
    // SAFETY: the addresses are valid; both relations exist, and the extension does, whose function runs.
    unsafe {
        let extension = pg_sys::ObjectAddress {
            classId: pg_sys::ExtensionRelationId,
            objectId: pg_sys::get_extension_oid(c"pg_answer".as_ptr(), false),
            objectSubId: 0,
        };
        pg_sys::recordDependencyOn(
            &raw const dependent,
            &raw const source,
            pg_sys::DependencyType::DEPENDENCY_AUTO,
        );
        pg_sys::recordDependencyOn(
            &raw const dependent,
            &raw const extension,
            pg_sys::DependencyType::DEPENDENCY_AUTO_EXTENSION,
        );
    }
}
