//! Work on a source's tables is done as their owner, as the server does for foreign keys: writers need no rights on
//! chunks and queues, and what the owner's tables make run has the owner's rights only.

use pgrx::PgSqlErrorCode as Code;
use pgrx::pg_sys;

use crate::error::Report;

/// Until it is dropped, or the transaction aborts, the current user is another.
pub struct ActingAs {
    user: pg_sys::Oid,
    context: i32,
}

impl ActingAs {
    /// Acts as `owner`. Policies that are forced on owners do not apply, since chunks must follow every row.
    pub fn owner(owner: pg_sys::Oid) -> Self {
        Self::with(owner, pg_sys::SECURITY_NOFORCE_RLS)
    }

    /// The same for work that nobody asked for in this session: what the owner's tables make run may not change it.
    pub fn owner_restricted(owner: pg_sys::Oid) -> Self {
        Self::with(owner, pg_sys::SECURITY_NOFORCE_RLS | pg_sys::SECURITY_RESTRICTED_OPERATION)
    }

    fn with(owner: pg_sys::Oid, flags: u32) -> Self {
        let mut acting = Self { user: pg_sys::InvalidOid, context: 0 };
        let flags = (flags | pg_sys::SECURITY_LOCAL_USERID_CHANGE) as i32;
        // SAFETY: plain calls with valid pointers; `drop` undoes them, and an abort does, too.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&raw mut acting.user, &raw mut acting.context);
            pg_sys::SetUserIdAndSecContext(owner, acting.context | flags);
        }
        acting
    }
}

impl Drop for ActingAs {
    fn drop(&mut self) {
        // SAFETY: these are the values that were in force before.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) }
    }
}

/// Owner of relation `relation`; an ERROR when there is none.
pub fn owner_of(relation: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: plain catalogue look-ups; the tuple is released before the end.
    unsafe {
        let tuple =
            pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::RELOID as i32, pg_sys::Datum::from(relation));
        if tuple.is_null() {
            Report::new(
                Code::ERRCODE_UNDEFINED_TABLE,
                format!("relation with OID {} does not exist", relation.to_u32()),
            )
            .raise();
        }
        let class = pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_class>(tuple);
        let owner = (*class).relowner;
        pg_sys::ReleaseSysCache(tuple);
        owner
    }
}

/// Raises an ERROR unless the current user has the rights of role `owner`.
pub fn must_be(owner: pg_sys::Oid, relation: pg_sys::Oid) {
    // SAFETY: plain look-ups.
    let (allowed, name) = unsafe {
        let allowed = pg_sys::has_privs_of_role(pg_sys::GetUserId(), owner);
        (allowed, pg_sys::get_rel_name(relation))
    };
    if !allowed {
        let name = if name.is_null() {
            relation.to_u32().to_string()
        } else {
            // SAFETY: a zero-terminated string of the server.
            unsafe { std::ffi::CStr::from_ptr(name) }.to_string_lossy().into_owned()
        };
        Report::new(Code::ERRCODE_INSUFFICIENT_PRIVILEGE, format!("must be owner of relation {name}"))
            .raise();
    }
}
