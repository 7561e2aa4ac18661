//! `vector` and `halfvec` in PostgreSQL's memory.
//!
//! Layout, on disk and in memory, the same as pgvector's: varlena header (4 bytes, or 1 for a stored value of at most
//! 126 bytes), number of dimensions (2 bytes), zero (2 bytes), elements. A value is read in place; only one that is
//! compressed or stored out of line is detoasted first.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Deref;

use pg_answer_vector::{Element, Error};
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::{self, Datum};
use pgrx::varlena::{set_varsize_4b, varatt_is_1b, varatt_is_1b_e, varatt_is_4b_u, varsize_1b, varsize_4b};

use crate::error::{OrRaise, Report};

#[repr(C)]
struct Header {
    varlena: u32,
    dimensions: i16,
    unused: i16,
}

/// Bytes of the header that follow the varlena's own.
const DIMENSIONS_SIZE: usize = size_of::<Header>() - size_of::<u32>();

/// Room for the elements of any value with a 1-byte header, whose whole length is at most 127.
#[repr(C, align(4))]
struct ShortElements([MaybeUninit<u8>; 124]);

/// A value of a vector type: a slice of its elements.
pub struct Vector<'a, E> {
    source: Source<E>,
    dimensions: usize,
    borrowed: PhantomData<&'a E>,
}

/// Where the elements are.
enum Source<E> {
    /// In the value itself.
    InPlace(*const E),
    /// Copied, since behind a 1-byte header they are not aligned. Detoasting would allocate for each of many rows.
    Short(ShortElements),
    /// In a detoasted copy, to be freed: index builds compare values millions of times within one memory context.
    Detoasted(*mut Header),
}

impl<E: Element> Vector<'_, E> {
    /// Views the value of a datum, detoasted if need be.
    ///
    /// # Safety
    /// The datum points to a varlena that stays valid during `'a`.
    ///
    /// # Errors
    /// Raises `data_corrupted` if its length and its number of dimensions disagree.
    // Always: a value that holds its elements would be moved on each return.
    #[inline(always)]
    pub unsafe fn from_datum(datum: Datum) -> Self {
        let stored = datum.cast_mut_ptr::<pg_sys::varlena>();
        // SAFETY: the caller vouches for the varlena; only a plain one has an aligned header of four bytes.
        let (source, dimensions) = unsafe {
            if varatt_is_4b_u(stored) {
                let header = stored.cast::<Header>();
                (Source::InPlace(header.add(1).cast::<E>()), dimensions::<E>(header))
            } else if varatt_is_1b(stored) && !varatt_is_1b_e(stored) {
                short::<E>(stored)
            } else {
                let header = pg_sys::pg_detoast_datum(stored).cast::<Header>();
                (Source::Detoasted(header), dimensions::<E>(header))
            }
        };
        Self { source, dimensions, borrowed: PhantomData }
    }
}

/// The number of dimensions of a plain value.
///
/// # Safety
/// It is a varlena with a 4-byte header.
#[inline]
unsafe fn dimensions<E: Element>(header: *const Header) -> usize {
    // SAFETY: the caller vouches for the varlena's own header; what follows is read only if the length covers it.
    unsafe {
        match varsize_4b(header.cast()).checked_sub(size_of::<Header>()) {
            Some(size) => checked::<E>((*header).dimensions, size),
            None => corrupted::<E>(),
        }
    }
}

/// The elements and the number of dimensions of a value with a 1-byte header.
///
/// # Safety
/// It is such a varlena.
#[inline(always)]
unsafe fn short<E: Element>(stored: *const pg_sys::varlena) -> (Source<E>, usize) {
    const HEADER: usize = 1 + DIMENSIONS_SIZE;
    // SAFETY: as in `dimensions`; a length of at most 127 leaves no more than 122 bytes of elements.
    unsafe {
        let Some(size) = varsize_1b(stored).checked_sub(HEADER) else { corrupted::<E>() };
        let start = stored.cast::<u8>();
        let dimensions = checked::<E>(start.add(1).cast::<i16>().read_unaligned(), size);
        let mut elements = ShortElements([MaybeUninit::uninit(); 124]);
        std::ptr::copy_nonoverlapping(start.add(HEADER), elements.0.as_mut_ptr().cast::<u8>(), size);
        (Source::Short(elements), dimensions)
    }
}

/// `stated` dimensions, which must be what `size` bytes of elements hold.
#[inline]
fn checked<E: Element>(stated: i16, size: usize) -> usize {
    let dimensions = size / size_of::<E>();
    if usize::try_from(stated) != Ok(dimensions) {
        corrupted::<E>();
    }
    dimensions
}

impl<E> Deref for Vector<'_, E> {
    type Target = [E];

    #[inline]
    fn deref(&self) -> &[E] {
        let start = match &self.source {
            Source::InPlace(elements) => *elements,
            Source::Short(elements) => elements.0.as_ptr().cast::<E>(),
            // SAFETY: the header is followed by the elements.
            Source::Detoasted(header) => unsafe { header.add(1).cast::<E>() },
        };
        // SAFETY: `from_datum` has checked that the elements lie within the value; any bits are a number.
        unsafe { std::slice::from_raw_parts(start, self.dimensions) }
    }
}

impl<E> Drop for Vector<'_, E> {
    #[inline]
    fn drop(&mut self) {
        if let Source::Detoasted(header) = self.source {
            // SAFETY: detoasting allocated it for this value alone.
            unsafe { pg_sys::pfree(header.cast()) };
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
