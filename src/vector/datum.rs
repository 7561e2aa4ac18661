//! `vector` and `halfvec` in PostgreSQL's memory.
//!
//! Layout, on disk and in memory, the same as pgvector's: varlena header (4 bytes), number of dimensions (2 bytes),
//! zero (2 bytes), elements. A value is read in place; only one with a short header, compressed or stored out of
//! line is copied first.

use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;

use pg_answer_vector::{Element, Error};
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::{self, Datum};
use pgrx::varlena::{set_varsize_4b, varatt_is_4b_u, varsize_4b};

use crate::error::{OrRaise, Report};

#[repr(C)]
struct Header {
    varlena: u32,
    dimensions: i16,
    unused: i16,
}

/// A value of a vector type: a slice of its elements.
pub struct Vector<'a, E> {
    elements: NonNull<E>,
    dimensions: usize,
    /// The copy that was made to read it, to be freed: index builds compare values millions of times within
    /// one memory context.
    copy: *mut pg_sys::varlena,
    borrowed: PhantomData<&'a E>,
}

impl<E: Element> Vector<'_, E> {
    /// Views the value of a datum, detoasted if need be.
    ///
    /// # Safety
    /// The datum points to a varlena that stays valid during `'a`.
    ///
    /// # Errors
    /// Raises `data_corrupted` if its length and its number of dimensions disagree.
    #[inline]
    pub unsafe fn from_datum(datum: Datum) -> Self {
        let stored = datum.cast_mut_ptr::<pg_sys::varlena>();
        // SAFETY: the caller vouches for the varlena; detoasting gives a plain one with an aligned header.
        unsafe {
            let plain = if varatt_is_4b_u(stored) { stored } else { pg_sys::pg_detoast_datum(stored) };
            let header = plain.cast::<Header>();
            let size = varsize_4b(plain);
            if size < size_of::<Header>()
                || usize::try_from((*header).dimensions) != Ok((size - size_of::<Header>()) / size_of::<E>())
            {
                corrupted::<E>();
            }
            Self {
                elements: NonNull::new_unchecked(header.add(1).cast::<E>()),
                dimensions: (*header).dimensions as usize,
                copy: if plain == stored { std::ptr::null_mut() } else { plain },
                borrowed: PhantomData,
            }
        }
    }
}

impl<E> Vector<'_, E> {
    /// The value as a datum: itself if it was read in place, or else the copy, which is then not freed.
    pub fn into_datum(self) -> Datum {
        let elements = std::mem::ManuallyDrop::new(self).elements;
        // SAFETY: `from_datum` found the header right before the elements.
        Datum::from(unsafe { elements.as_ptr().cast::<Header>().sub(1) })
    }
}

impl<E> Deref for Vector<'_, E> {
    type Target = [E];

    #[inline]
    fn deref(&self) -> &[E] {
        // SAFETY: `from_datum` has checked that the elements lie within the value; any bits are a number.
        unsafe { std::slice::from_raw_parts(self.elements.as_ptr(), self.dimensions) }
    }
}

impl<E> Drop for Vector<'_, E> {
    #[inline]
    fn drop(&mut self) {
        if !self.copy.is_null() {
            // SAFETY: detoasting allocated it for this value alone.
            unsafe { pg_sys::pfree(self.copy.cast()) };
        }
    }
}

#[cold]
fn corrupted<E: Element>() -> ! {
    let message = format!("length and dimensions of a {} do not agree", E::KIND);
    Report::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, message).raise()
}

/// Allocates a value of `dimensions` elements (1 to 16,000) in the current memory context and lets `fill` write them;
/// they are zero before. An error of `fill` is raised.
pub fn build<E: Element>(dimensions: usize, fill: impl FnOnce(&mut [E]) -> Result<(), Error>) -> Datum {
    let size = size_of::<Header>() + dimensions * size_of::<E>();
    // SAFETY: palloc0 gives `size` zeroed bytes, aligned for every type, or raises an error.
    let (header, elements) = unsafe {
        let header = pg_sys::palloc0(size).cast::<Header>();
        set_varsize_4b(header.cast(), size as i32);
        (*header).dimensions = dimensions as i16;
        (header, std::slice::from_raw_parts_mut(header.add(1).cast::<E>(), dimensions))
    };
    fill(elements).or_raise();
    Datum::from(header)
}

/// A value with these elements (1 to 16,000) in the current memory context.
pub fn copy<E: Element>(elements: &[E]) -> Datum {
    build(elements.len(), |out| {
        out.copy_from_slice(elements);
        Ok(())
    })
}

/// A varlena with these bytes (`bytea`, and other types without alignment) in the current memory context.
pub fn bytes(content: &[u8]) -> Datum {
    let size = pg_sys::VARHDRSZ + content.len();
    // SAFETY: palloc gives `size` bytes or raises an error.
    unsafe {
        let varlena = pg_sys::palloc(size).cast::<pg_sys::varlena>();
        set_varsize_4b(varlena, size as i32);
        let start = varlena.cast::<u8>().add(pg_sys::VARHDRSZ);
        std::ptr::copy_nonoverlapping(content.as_ptr(), start, content.len());
        Datum::from(varlena)
    }
}

/// A zero-terminated string in the current memory context. PostgreSQL frees it with the context.
pub fn cstring(text: &str) -> Datum {
    // SAFETY: palloc gives room for the text and the terminator, or raises an error.
    unsafe {
        let start = pg_sys::palloc(text.len() + 1).cast::<u8>();
        std::ptr::copy_nonoverlapping(text.as_ptr(), start, text.len());
        *start.add(text.len()) = 0;
        Datum::from(start)
    }
}
