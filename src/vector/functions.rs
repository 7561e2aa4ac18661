//! Functions of one vector: dimensions, norm, parts, bits.

use half::f16;
use pg_answer_vector::{Element, distance, elementwise};
use pgrx::pg_sys::Datum;

use super::call::Args;
use super::datum;
use crate::error::OrRaise;

fn dims<E: Element>(args: Args) -> i32 {
    args.vector::<E>(0).len() as i32
}

fn l2_norm<E: Element>(args: Args) -> f64 {
    distance::l2_norm(&args.vector::<E>(0))
}

fn l2_normalize<E: Element>(args: Args) -> Datum {
    let a = args.vector::<E>(0);
    let mut out = Vec::new();
    elementwise::l2_normalize(&a, &mut out).or_raise();
    datum::copy(&out)
}

fn subvector<E: Element>(args: Args) -> Datum {
    let a = args.vector::<E>(0);
    datum::copy(elementwise::subvector(&a, args.i32(1), args.i32(2)).or_raise())
}

/// `bit(n)` is a varlena of the number of bits (4 bytes) and the bits, the first one highest.
fn binary_quantize<E: Element>(args: Args) -> Datum {
    let a = args.vector::<E>(0);
    let mut content = (a.len() as i32).to_ne_bytes().to_vec();
    content.extend_from_slice(&elementwise::binary_quantize(&a));
    datum::bytes(&content)
}

sql_functions! {
    vector_dims => dims::<f32>;
    vector_l2_norm => l2_norm::<f32>;
    vector_l2_normalize => l2_normalize::<f32>;
    vector_subvector => subvector::<f32>;
    vector_binary_quantize => binary_quantize::<f32>;

    halfvec_dims => dims::<f16>;
    halfvec_l2_norm => l2_norm::<f16>;
    halfvec_l2_normalize => l2_normalize::<f16>;
    halfvec_subvector => subvector::<f16>;
    halfvec_binary_quantize => binary_quantize::<f16>;
}
