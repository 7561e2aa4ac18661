//! Casts between vector types and arrays, and the check of a value against a column's dimensions.

use half::f16;
use pg_answer_vector::{Element, Error};
use pgrx::pg_sys::Datum;
use pgrx::{PgBuiltInOids, PgOid, PgSqlErrorCode};

use super::array::{self, Array};
use super::call::Args;
use super::datum;
use crate::error::{OrRaise, Report};

/// Checks a number of dimensions against a type modifier; -1 stands for none.
pub fn check_expected(typmod: i32, dimensions: usize) -> Result<(), Error> {
    pg_answer_vector::check_expected_dimensions(usize::try_from(typmod).ok(), dimensions)
}

/// The value itself, after a check of its dimensions.
fn check_dims<E: Element>(args: Args) -> Datum {
    check_expected(args.i32(1), args.vector::<E>(0).len()).or_raise();
    args.datum(0)
}

fn array_to_vector<E: Element>(args: Args) -> Datum {
    // SAFETY: the SQL declares an array.
    let array = unsafe { Array::from_datum(args.datum(0)) };
    if !array.is_flat() {
        Report::new(PgSqlErrorCode::ERRCODE_DATA_EXCEPTION, "array must be 1-D").raise();
    }
    if array.contains_nulls() {
        Report::new(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, "array must not contain nulls").raise();
    }
    let typmod = args.i32(1);
    match array.element_type() {
        PgOid::BuiltIn(PgBuiltInOids::INT4OID) => from_numbers::<E, i32>(array, typmod, |x| x as f32),
        PgOid::BuiltIn(PgBuiltInOids::FLOAT4OID) => from_numbers::<E, f32>(array, typmod, |x| x),
        PgOid::BuiltIn(PgBuiltInOids::FLOAT8OID) => from_numbers::<E, f64>(array, typmod, |x| x as f32),
        PgOid::BuiltIn(PgBuiltInOids::NUMERICOID) => {
            check_dimensions::<E>(array.len(), typmod);
            from_f32::<E>(array.numerics_as_f32().into_iter())
        }
        _ => Report::new(PgSqlErrorCode::ERRCODE_DATA_EXCEPTION, "unsupported array type").raise(),
    }
}

fn from_numbers<E: Element, T: array::FixedWidth>(
    array: Array,
    typmod: i32,
    to_f32: impl Fn(T) -> f32,
) -> Datum {
    let values = array.elements::<T>().unwrap_or_default();
    check_dimensions::<E>(values.len(), typmod);
    from_f32::<E>(values.iter().map(|&x| to_f32(x)))
}

fn check_dimensions<E: Element>(dimensions: usize, typmod: i32) {
    pg_answer_vector::check_dimensions(E::KIND, dimensions).or_raise();
    check_expected(typmod, dimensions).or_raise();
}

/// A vector of these numbers, rounded to the element type; NaN, infinity and overflow are errors.
fn from_f32<E: Element>(values: impl ExactSizeIterator<Item = f32>) -> Datum {
    datum::build(values.len(), |out| {
        for (slot, value) in out.iter_mut().zip(values) {
            *slot = E::from_f32(value)?;
        }
        out.iter().try_for_each(|x| x.check())
    })
}

fn to_float4<E: Element>(args: Args) -> Datum {
    let a = args.vector::<E>(0);
    array::build(a.len(), |out| {
        for (slot, &value) in out.iter_mut().zip(a.iter()) {
            *slot = value.to_f32();
        }
    })
}

fn convert<From: Element, To: Element>(args: Args) -> Datum {
    let a = args.vector::<From>(0);
    check_expected(args.i32(1), a.len()).or_raise();
    datum::build(a.len(), |out| {
        for (slot, &value) in out.iter_mut().zip(a.iter()) {
            *slot = To::from_f32(value.to_f32())?;
        }
        Ok(())
    })
}

sql_functions! {
    vector_check_dims => check_dims::<f32>;
    array_to_vector => array_to_vector::<f32>;
    vector_to_float4 => to_float4::<f32>;
    vector_to_halfvec => convert::<f32, f16>;

    halfvec_check_dims => check_dims::<f16>;
    array_to_halfvec => array_to_vector::<f16>;
    halfvec_to_float4 => to_float4::<f16>;
    halfvec_to_vector => convert::<f16, f32>;
}
