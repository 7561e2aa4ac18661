//! Return values of `#[pg_extern]` functions that pgrx has no type for.

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::pg_sys;

use crate::vector::datum::copy;

/// A datum of the declared return type.
pub struct Raw(pub pg_sys::Datum);

// SAFETY: the datum is handed over as it is; whoever makes a `Raw` vouches for its type.
unsafe impl BoxRet for Raw {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        // SAFETY: the caller returns it to the function's caller.
        unsafe { fcinfo.return_raw_datum(self.0) }
    }
}

/// A one-dimensional `vector[]` with NULLs where an element is absent.
///
/// # Safety
/// `fcinfo` is that of a running call of a function declared to return `vector[]`.
pub unsafe fn vector_array(elements: &[Option<Vec<f32>>], fcinfo: pg_sys::FunctionCallInfo) -> Raw {
    let mut nulls: Vec<bool> = elements.iter().map(Option::is_none).collect();
    let mut datums: Vec<pg_sys::Datum> =
        elements.iter().map(|e| e.as_deref().map_or_else(pg_sys::Datum::null, copy)).collect();
    let mut dims = [i32::try_from(elements.len()).expect("it was an array's length")];
    let mut lower_bounds = [1];
    // SAFETY: the caller vouches for the call; the arrays have the lengths that the server is told.
    unsafe {
        let array_type = pg_sys::get_func_rettype((*(*fcinfo).flinfo).fn_oid);
        let element_type = pg_sys::get_element_type(array_type);
        if elements.is_empty() {
            return Raw(pg_sys::Datum::from(pg_sys::construct_empty_array(element_type)));
        }
        let array = pg_sys::construct_md_array(
            datums.as_mut_ptr(),
            nulls.as_mut_ptr(),
            1,
            dims.as_mut_ptr(),
            lower_bounds.as_mut_ptr(),
            element_type,
            -1,
            false,
            pg_sys::TYPALIGN_INT as core::ffi::c_char,
        );
        Raw(pg_sys::Datum::from(array))
    }
}
