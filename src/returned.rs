//! Return values of `#[pg_extern]` functions that pgrx has no type for.

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::{IntoDatum, pg_sys};

use crate::vector::datum::copy;

/// A datum of the declared type.
pub struct Raw(pub pg_sys::Datum);

// SAFETY: the datum is handed over as it is; whoever makes a `Raw` vouches for its type.
unsafe impl BoxRet for Raw {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        // SAFETY: the caller returns it to the function's caller.
        unsafe { fcinfo.return_raw_datum(self.0) }
    }
}

// A statement's argument of a type that pgrx does not know; whoever passes it names the type.
impl IntoDatum for Raw {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.0)
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::InvalidOid
    }
}

/// A one-dimensional `vector[]` with NULLs where an element is absent.
///
/// # Safety
/// `fcinfo` is that of a running call of a function declared to return `vector[]`.
pub unsafe fn vector_array(elements: &[Option<Vec<f32>>], fcinfo: pg_sys::FunctionCallInfo) -> Raw {
    let elements: Vec<Option<&[f32]>> = elements.iter().map(Option::as_deref).collect();
    // SAFETY: the caller vouches for the call and its declared type.
    unsafe { vector_array_of(&elements, pg_sys::get_func_rettype((*(*fcinfo).flinfo).fn_oid)) }
}

/// The same for arrays of type `array_type`.
///
/// # Safety
/// `array_type` is `vector[]`.
pub unsafe fn vector_array_of(elements: &[Option<&[f32]>], array_type: pg_sys::Oid) -> Raw {
    let mut nulls: Vec<bool> = elements.iter().map(Option::is_none).collect();
    let mut datums: Vec<pg_sys::Datum> =
        elements.iter().map(|e| e.map_or_else(pg_sys::Datum::null, copy)).collect();
    let mut dims = [i32::try_from(elements.len()).expect("it was an array's length")];
    let mut lower_bounds = [1];
    // SAFETY: the caller vouches for the type; the arrays have the lengths that the server is told.
    unsafe {
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
