//! SQL arrays: views of fixed-width elements and new one-dimensional arrays.

use pgrx::PgOid;
use pgrx::pg_sys::{self, ArrayType, Datum, Oid};
use pgrx::varlena::set_varsize_4b;

/// A type of fixed width whose elements lie side by side in an array.
pub trait FixedWidth: Copy + 'static {
    /// Its SQL type.
    const OID: Oid;
}

impl FixedWidth for i32 {
    const OID: Oid = pg_sys::INT4OID;
}

impl FixedWidth for f32 {
    const OID: Oid = pg_sys::FLOAT4OID;
}

impl FixedWidth for f64 {
    const OID: Oid = pg_sys::FLOAT8OID;
}

/// An SQL array, detoasted.
#[derive(Clone, Copy)]
pub struct Array(*mut ArrayType);

impl Array {
    /// Views the array of a datum.
    ///
    /// # Safety
    /// The datum is an array that stays valid while the view is used.
    pub unsafe fn from_datum(datum: Datum) -> Self {
        // SAFETY: the caller vouches for the datum.
        Self(unsafe { pg_sys::pg_detoast_datum(datum.cast_mut_ptr()) }.cast())
    }

    /// The array as a datum.
    pub fn into_datum(self) -> Datum {
        Datum::from(self.0)
    }

    /// Whether it has one dimension, or none and no element.
    pub fn is_flat(self) -> bool {
        // SAFETY: `from_datum` vouches for the array.
        unsafe { (*self.0).ndim <= 1 }
    }

    /// Number of elements of a flat array.
    pub fn len(self) -> usize {
        // SAFETY: `from_datum` vouches for the array; the length of the first dimension follows the header.
        unsafe {
            match (*self.0).ndim {
                0 => 0,
                _ => *self.0.add(1).cast::<i32>() as usize,
            }
        }
    }

    /// Type of the elements.
    pub fn element_type(self) -> PgOid {
        // SAFETY: `from_datum` vouches for the array.
        PgOid::from(unsafe { (*self.0).elemtype })
    }

    /// Whether some element is NULL.
    pub fn contains_nulls(self) -> bool {
        // SAFETY: `from_datum` vouches for the array.
        unsafe { (*self.0).dataoffset != 0 && pg_sys::array_contains_nulls(self.0) }
    }

    /// The elements of a flat array without NULLs; `None` if it is not flat, has NULLs or is of another type.
    pub fn elements<T: FixedWidth>(&self) -> Option<&[T]> {
        self.checked::<T>().map(|(start, len)| {
            // SAFETY: `checked` found `len` elements there.
            unsafe { std::slice::from_raw_parts(start, len) }
        })
    }

    /// As [`Self::elements`], to be changed in place.
    ///
    /// # Safety
    /// The array belongs to the caller, and no other view of it is used meanwhile.
    pub unsafe fn elements_mut<T: FixedWidth>(&mut self) -> Option<&mut [T]> {
        self.checked::<T>().map(|(start, len)| {
            // SAFETY: `checked` found `len` elements there; the caller vouches for the access.
            unsafe { std::slice::from_raw_parts_mut(start, len) }
        })
    }

    fn checked<T: FixedWidth>(&self) -> Option<(*mut T, usize)> {
        // SAFETY: `from_datum` vouches for the array. Without NULLs the elements are contiguous, and PostgreSQL
        // aligns the first one for every type.
        unsafe {
            let array = self.0;
            if !self.is_flat() || self.contains_nulls() || (*array).elemtype != T::OID {
                return None;
            }
            if self.len() == 0 {
                return Some((std::ptr::NonNull::dangling().as_ptr(), 0));
            }
            let offset = match (*array).dataoffset {
                0 => DATA_OFFSET,
                offset => offset as usize,
            };
            Some((array.byte_add(offset).cast::<T>(), self.len()))
        }
    }

    /// The elements of a flat numeric array without NULLs, rounded to single precision by PostgreSQL's own cast.
    pub fn numerics_as_f32(self) -> Vec<f32> {
        let mut datums: *mut Datum = std::ptr::null_mut();
        let mut len: i32 = 0;
        // SAFETY: the element type is numeric (length -1, by reference, aligned as int); both out-pointers are valid.
        unsafe {
            pg_sys::deconstruct_array(
                self.0,
                pg_sys::NUMERICOID,
                -1,
                false,
                pg_sys::TYPALIGN_INT as core::ffi::c_char,
                &raw mut datums,
                std::ptr::null_mut(),
                &raw mut len,
            );
            let values = (0..len as usize)
                .map(|i| {
                    let numeric = Some(*datums.add(i));
                    pgrx::direct_function_call::<f32>(pg_sys::numeric_float4, &[numeric])
                        .expect("numeric_float4 does not return NULL")
                })
                .collect();
            pg_sys::pfree(datums.cast());
            values
        }
    }
}

/// Where the elements of a one-dimensional array without NULLs begin: after the header, the length and the lower bound.
const DATA_OFFSET: usize = (size_of::<ArrayType>() + 2 * size_of::<i32>()).next_multiple_of(8);

/// Allocates a one-dimensional array of `len` zeros (at least 1) in the current memory context and lets `fill` write
/// them.
pub fn build<T: FixedWidth>(len: usize, fill: impl FnOnce(&mut [T])) -> Datum {
    let size = DATA_OFFSET + len * size_of::<T>();
    // SAFETY: palloc0 gives `size` zeroed bytes, aligned for every type, or raises an error.
    unsafe {
        let array = pg_sys::palloc0(size).cast::<ArrayType>();
        set_varsize_4b(array.cast(), size as i32);
        (*array).ndim = 1;
        (*array).elemtype = T::OID;
        let shape = array.add(1).cast::<i32>();
        *shape = len as i32;
        *shape.add(1) = 1;
        fill(std::slice::from_raw_parts_mut(array.byte_add(DATA_OFFSET).cast::<T>(), len));
        Datum::from(array)
    }
}
