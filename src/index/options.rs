//! `WITH (…)` of an index.

use std::mem::offset_of;
use std::sync::OnceLock;

use pgrx::pg_sys::{self, Datum, Relation};

static KIND: OnceLock<pg_sys::relopt_kind::Type> = OnceLock::new();

/// Most lists of an index.
const MOST_LISTS: i32 = 65_536;

/// The options as PostgreSQL keeps them.
#[repr(C)]
struct Options {
    varlena: i32,
    lists: i32,
}

/// Makes the options known; called once when the library is loaded.
pub fn define() {
    // SAFETY: valid strings; called on the main thread while the library is loaded.
    KIND.get_or_init(|| unsafe {
        let kind = pg_sys::add_reloption_kind();
        pg_sys::add_int_reloption(
            kind,
            c"lists".as_ptr(),
            c"Lists that a build makes; 0 lets it choose by the number of rows".as_ptr(),
            0,
            0,
            MOST_LISTS,
            pg_sys::AccessExclusiveLock as i32,
        );
        kind
    });
}

/// `amoptions`.
#[pgrx::pg_guard]
#[allow(clippy::needless_update)] // from version 18 on there are more fields
pub unsafe extern "C-unwind" fn parse(options: Datum, validate: bool) -> *mut pg_sys::bytea {
    let elements = [pg_sys::relopt_parse_elt {
        optname: c"lists".as_ptr(),
        opttype: pg_sys::relopt_type::RELOPT_TYPE_INT,
        offset: offset_of!(Options, lists) as i32,
        ..Default::default()
    }];
    let kind = *KIND.get().expect("defined when the library was loaded");
    // SAFETY: the struct has the option at the offset given.
    unsafe {
        pg_sys::build_reloptions(options, validate, kind, size_of::<Options>(), elements.as_ptr(), 1).cast()
    }
}

/// Lists asked for; `None` lets the build choose.
///
/// # Safety
/// The index is open.
pub unsafe fn lists(index: Relation) -> Option<usize> {
    // SAFETY: the options of an index of this method are what `parse` made, or null.
    let options = unsafe { (*index).rd_options.cast::<Options>().as_ref() };
    options.and_then(|options| usize::try_from(options.lists).ok()).filter(|lists| *lists > 0)
}
