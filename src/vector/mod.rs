//! The types `vector` and `halfvec`: SQL functions over the arithmetic of `pg_answer_vector`.
//!
//! The functions are generic over the element type and are bound to their symbols at the end of each file.
//! The SQL that declares them is in `sql/10_vector.sql` to `sql/12_casts.sql`.

#[macro_use]
pub mod call;

mod aggregates;
mod array;
mod casts;
pub mod datum;
mod functions;
mod io;
mod operators;
