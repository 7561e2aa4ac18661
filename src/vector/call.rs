//! Binding of Rust functions to SQL functions of the V1 calling convention.

use pg_answer_vector::Element;
use pgrx::pg_sys::{Datum, FunctionCallInfo};

use super::datum::Vector;

/// The arguments of one call of a STRICT function: none of them is NULL.
#[derive(Clone, Copy)]
pub struct Args(FunctionCallInfo);

impl Args {
    /// # Safety
    /// `fcinfo` comes from a caller of a V1 function, is valid during that call, and its arguments are not NULL and
    /// of the types that the function reads.
    #[inline]
    pub unsafe fn new(fcinfo: FunctionCallInfo) -> Self {
        Self(fcinfo)
    }

    /// Argument `i`, counted from 0, as PostgreSQL passes it.
    #[inline]
    pub fn datum(self, i: usize) -> Datum {
        // SAFETY: `new` vouches for the call; a caller passes as many arguments as the SQL declares.
        unsafe {
            debug_assert!(i < (*self.0).nargs as usize);
            (*(&raw const (*self.0).args).cast::<pgrx::pg_sys::NullableDatum>().add(i)).value
        }
    }

    /// Argument `i` of type integer.
    #[inline]
    pub fn i32(self, i: usize) -> i32 {
        self.datum(i).value() as i32
    }

    /// Argument `i` of the vector type with elements `E`.
    #[inline(always)]
    pub fn vector<E: Element>(self, i: usize) -> Vector<'static, E> {
        // SAFETY: `new` vouches for the type. The bytes live as long as the call, which no function outlives.
        unsafe { Vector::from_datum(self.datum(i)) }
    }

    /// The call itself, for PostgreSQL functions that ask for it.
    pub fn fcinfo(self) -> FunctionCallInfo {
        self.0
    }

    /// Returns SQL NULL.
    pub fn null(self) -> Datum {
        // SAFETY: `new` vouches for the call.
        unsafe { (*self.0).isnull = true };
        Datum::null()
    }
}

/// What an SQL function returns.
pub trait Returned {
    /// As PostgreSQL expects it.
    fn into_result(self) -> Datum;
}

impl Returned for Datum {
    #[inline]
    fn into_result(self) -> Datum {
        self
    }
}

impl Returned for f64 {
    #[inline]
    fn into_result(self) -> Datum {
        Datum::from(self.to_bits())
    }
}

impl Returned for i32 {
    #[inline]
    fn into_result(self) -> Datum {
        Datum::from(self)
    }
}

impl Returned for i64 {
    #[inline]
    fn into_result(self) -> Datum {
        Datum::from(self)
    }
}

impl Returned for bool {
    #[inline]
    fn into_result(self) -> Datum {
        Datum::from(self)
    }
}

/// Exports `fn(Args) -> impl Returned` as V1 functions: `sql_functions! { vector_cmp => compare::<f32>; }` makes the
/// symbol `pg_answer_vector_cmp`. The prefix matters: PostgreSQL loads libraries with global symbols, and pgvector
/// exports the plain names.
macro_rules! sql_functions {
    ($($symbol:ident => $function:expr;)*) => {$(
        const _: () = {
            #[unsafe(export_name = concat!("pg_finfo_pg_answer_", stringify!($symbol)))]
            extern "C" fn info() -> &'static pgrx::pg_sys::Pg_finfo_record {
                const V1: pgrx::pg_sys::Pg_finfo_record = pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
                &V1
            }

            #[unsafe(export_name = concat!("pg_answer_", stringify!($symbol)))]
            #[pgrx::pg_guard]
            unsafe extern "C-unwind" fn call(fcinfo: pgrx::pg_sys::FunctionCallInfo) -> pgrx::pg_sys::Datum {
                // SAFETY: the SQL declares this symbol STRICT and with the argument types that the function reads.
                let args = unsafe { $crate::vector::call::Args::new(fcinfo) };
                $crate::vector::call::Returned::into_result(($function)(args))
            }
        };
    )*};
}
