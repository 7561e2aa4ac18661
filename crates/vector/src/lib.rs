//! Arithmetic of the types `vector` (f32 elements) and `halfvec` (IEEE 754 binary16 elements): text and binary
//! form, half precision, distances, element-wise operations.
//!
//! Nothing here knows PostgreSQL. Text, binary form, rules and messages are those of pgvector
//! (<https://github.com/pgvector/pgvector>), so that its clients read and write our values. Functions that take
//! two vectors expect equal lengths; [`check_same_dimensions`] is the check that the caller makes first.

pub mod distance;
pub mod element;
pub mod elementwise;
pub mod error;
pub mod half;
pub mod text;
pub mod wire;

pub use element::{Element, check_dimensions, check_expected_dimensions, check_same_dimensions};
pub use error::{Error, Kind, Result};

/// Most dimensions of a `vector` and of a `halfvec`.
pub const MAX_DIMENSIONS: usize = 16_000;
