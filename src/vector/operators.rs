//! Distances, arithmetic and comparison: the functions behind the operators.

use std::cmp::Ordering;
use std::f64::consts::PI;

use half::f16;
use pg_answer_vector::{Element, Error, distance, elementwise};
use pgrx::pg_sys::Datum;

use super::call::Args;
use super::datum::{self, Vector};
use crate::error::OrRaise;

/// Both arguments, which must have the same number of dimensions.
#[inline(always)]
fn pair<E: Element>(args: Args) -> (Vector<'static, E>, Vector<'static, E>) {
    let (a, b) = (args.vector::<E>(0), args.vector::<E>(1));
    if a.len() != b.len() {
        different_dimensions::<E>(a.len(), b.len());
    }
    (a, b)
}

#[cold]
fn different_dimensions<E: Element>(left: usize, right: usize) -> ! {
    Err(Error::DifferentDimensions { kind: E::KIND, left, right }).or_raise()
}

fn l2_distance<E: Element>(args: Args) -> f64 {
    l2_squared_distance::<E>(args).sqrt()
}

fn l2_squared_distance<E: Element>(args: Args) -> f64 {
    let (a, b) = pair::<E>(args);
    f64::from(distance::l2_squared(&a, &b))
}

fn inner_product<E: Element>(args: Args) -> f64 {
    let (a, b) = pair::<E>(args);
    f64::from(distance::inner_product(&a, &b))
}

fn negative_inner_product<E: Element>(args: Args) -> f64 {
    -inner_product::<E>(args)
}

fn cosine_distance<E: Element>(args: Args) -> f64 {
    let (a, b) = pair::<E>(args);
    distance::cosine_distance(&a, &b)
}

fn l1_distance<E: Element>(args: Args) -> f64 {
    let (a, b) = pair::<E>(args);
    f64::from(distance::l1(&a, &b))
}

/// Angle between unit vectors as a fraction of a half turn; rounding may have pushed the product out of [-1, 1].
fn spherical_distance<E: Element>(args: Args) -> f64 {
    inner_product::<E>(args).clamp(-1.0, 1.0).acos() / PI
}

/// A new vector, made of both arguments.
fn combined<E: Element>(
    (a, b): (Vector<E>, Vector<E>),
    operation: impl Fn(&[E], &[E], &mut Vec<E>) -> Result<(), Error>,
) -> Datum {
    let mut out = Vec::new();
    operation(&a, &b, &mut out).or_raise();
    datum::copy(&out)
}

fn add<E: Element>(args: Args) -> Datum {
    combined(pair::<E>(args), elementwise::add)
}

fn sub<E: Element>(args: Args) -> Datum {
    combined(pair::<E>(args), elementwise::sub)
}

fn mul<E: Element>(args: Args) -> Datum {
    combined(pair::<E>(args), elementwise::mul)
}

fn concat<E: Element>(args: Args) -> Datum {
    combined((args.vector::<E>(0), args.vector::<E>(1)), elementwise::concat)
}

#[inline]
fn ordering<E: Element>(args: Args) -> Ordering {
    let (a, b) = (args.vector::<E>(0), args.vector::<E>(1));
    elementwise::cmp(&a, &b)
}

fn compare<E: Element>(args: Args) -> i32 {
    ordering::<E>(args) as i32
}

fn lt<E: Element>(args: Args) -> bool {
    ordering::<E>(args).is_lt()
}

fn le<E: Element>(args: Args) -> bool {
    ordering::<E>(args).is_le()
}

fn eq<E: Element>(args: Args) -> bool {
    ordering::<E>(args).is_eq()
}

fn ne<E: Element>(args: Args) -> bool {
    ordering::<E>(args).is_ne()
}

fn ge<E: Element>(args: Args) -> bool {
    ordering::<E>(args).is_ge()
}

fn gt<E: Element>(args: Args) -> bool {
    ordering::<E>(args).is_gt()
}

sql_functions! {
    vector_l2_distance => l2_distance::<f32>;
    vector_l2_squared_distance => l2_squared_distance::<f32>;
    vector_inner_product => inner_product::<f32>;
    vector_negative_inner_product => negative_inner_product::<f32>;
    vector_cosine_distance => cosine_distance::<f32>;
    vector_l1_distance => l1_distance::<f32>;
    vector_spherical_distance => spherical_distance::<f32>;
    vector_add => add::<f32>;
    vector_sub => sub::<f32>;
    vector_mul => mul::<f32>;
    vector_concat => concat::<f32>;
    vector_cmp => compare::<f32>;
    vector_lt => lt::<f32>;
    vector_le => le::<f32>;
    vector_eq => eq::<f32>;
    vector_ne => ne::<f32>;
    vector_ge => ge::<f32>;
    vector_gt => gt::<f32>;

    halfvec_l2_distance => l2_distance::<f16>;
    halfvec_l2_squared_distance => l2_squared_distance::<f16>;
    halfvec_inner_product => inner_product::<f16>;
    halfvec_negative_inner_product => negative_inner_product::<f16>;
    halfvec_cosine_distance => cosine_distance::<f16>;
    halfvec_l1_distance => l1_distance::<f16>;
    halfvec_spherical_distance => spherical_distance::<f16>;
    halfvec_add => add::<f16>;
    halfvec_sub => sub::<f16>;
    halfvec_mul => mul::<f16>;
    halfvec_concat => concat::<f16>;
    halfvec_cmp => compare::<f16>;
    halfvec_lt => lt::<f16>;
    halfvec_le => le::<f16>;
    halfvec_eq => eq::<f16>;
    halfvec_ne => ne::<f16>;
    halfvec_ge => ge::<f16>;
    halfvec_gt => gt::<f16>;
}
