//! Text form: `[1,2.5,-3e-05]`.

mod format;
mod number;
mod parse;

pub use format::{format_halfvec, format_vector, push_f32};
pub use parse::{parse_halfvec, parse_vector};
