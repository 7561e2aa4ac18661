//! The aggregate `avg`; `sum` is plain addition.
//!
//! The state is `double precision[]`: the count, then the sum of each dimension. `{0}` is the state of no rows.
//! It is pgvector's state, so that a view's or a foreign server's partial aggregates mean the same.

use half::f16;
use pg_answer_vector::{Element, Error, Kind, check_dimensions};
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::{self, Datum};

use super::array::{self, Array};
use super::call::Args;
use super::casts::check_expected;
use super::datum;
use crate::error::{OrRaise, Report};

/// Argument `i`, an aggregate state.
fn state(args: Args, i: usize) -> Array {
    // SAFETY: the SQL declares an array of double precision.
    unsafe { Array::from_datum(args.datum(i)) }
}

/// Count and sums. Anybody may call these functions with any array, so its shape is checked.
fn count_and_sums<'a>(state: &'a Array, kind: Kind, function: &str) -> (f64, &'a [f64]) {
    match state.elements::<f64>() {
        Some([count, sums @ ..]) => (*count, sums),
        _ => {
            let message = format!("{kind}_{function}: expected state array");
            Report::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, message).raise()
        }
    }
}

/// A new state.
fn new_state(count: f64, sums: impl ExactSizeIterator<Item = f64>) -> Datum {
    array::build(sums.len() + 1, |out| {
        out[0] = count;
        out[1..].iter_mut().zip(sums).for_each(|(slot, sum)| *slot = sum);
    })
}

fn check_overflow(sums: &[f64]) {
    if sums.iter().any(|sum| sum.is_infinite()) {
        Err(Error::Overflow).or_raise()
    }
}

/// Adds a vector to a state.
fn accumulate<E: Element>(args: Args) -> Datum {
    let mut state = state(args, 0);
    let vector = args.vector::<E>(1);
    let numbers = vector.iter().map(|x| f64::from(x.to_f32()));
    let (count, sums) = count_and_sums(&state, E::KIND, "accum");
    if sums.is_empty() {
        return new_state(count + 1.0, numbers);
    }
    check_expected(sums.len() as i32, vector.len()).or_raise();
    // SAFETY: the call comes from PostgreSQL's function manager.
    if unsafe { pg_sys::AggCheckCallContext(args.fcinfo(), std::ptr::null_mut()) } == 0 {
        // SAFETY: a new state is an array.
        state = unsafe { Array::from_datum(new_state(count, sums.iter().copied())) };
    }
    // SAFETY: the state is the copy, or within an aggregate, where it belongs to the transition function.
    if let Some([count, sums @ ..]) = unsafe { state.elements_mut::<f64>() } {
        *count += 1.0;
        sums.iter_mut().zip(numbers).for_each(|(sum, x)| *sum += x);
        check_overflow(sums);
    }
    state.into_datum()
}

/// Adds two states; the one of no rows has no sums.
fn combine(args: Args) -> Datum {
    let (a, b) = (state(args, 0), state(args, 1));
    let (count_a, a) = count_and_sums(&a, Kind::Vector, "combine");
    let (count_b, b) = count_and_sums(&b, Kind::Vector, "combine");
    let count = count_a + count_b;
    match (a, b) {
        ([], []) => new_state(count, std::iter::empty()),
        ([], sums) | (sums, []) => {
            check_dimensions(Kind::Vector, sums.len()).or_raise();
            new_state(count, sums.iter().copied())
        }
        (a, b) => {
            check_dimensions(Kind::Vector, a.len()).or_raise();
            check_expected(a.len() as i32, b.len()).or_raise();
            let sums: Vec<f64> = a.iter().zip(b).map(|(a, b)| a + b).collect();
            check_overflow(&sums);
            new_state(count, sums.into_iter())
        }
    }
}

/// The mean; NULL of no rows.
fn average<E: Element>(args: Args) -> Datum {
    let state = state(args, 0);
    let (count, sums) = count_and_sums(&state, E::KIND, "avg");
    if count == 0.0 {
        return args.null();
    }
    check_dimensions(E::KIND, sums.len()).or_raise();
    datum::build(sums.len(), |out| {
        for (slot, sum) in out.iter_mut().zip(sums) {
            *slot = E::from_f32((sum / count) as f32)?;
            slot.check()?;
        }
        Ok(())
    })
}

sql_functions! {
    vector_accum => accumulate::<f32>;
    vector_combine => combine;
    vector_avg => average::<f32>;

    halfvec_accum => accumulate::<f16>;
    halfvec_avg => average::<f16>;
}
