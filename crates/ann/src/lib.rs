//! The index `ann`: nearest neighbours by lists of one-bit codes, refined by byte codes.
//!
//! Rows are cut into lists by k-means. An entry of a list is a one-bit code with two factors, scored sixteen at a
//! time, and the row's id; a byte code on a page of its own tells the distance almost exactly, with a bound of its
//! error. A search scores the codes of the nearest lists, refines the best, and returns rows in the order of a true
//! lower bound of their distance; the caller, who has the vectors, puts them into the exact order. Searches go on
//! for as long as they are asked, until every row has been returned once. Scalar keys lie beside the codes, so that a
//! search with a filter passes over what does not match.
//!
//! Nothing here knows PostgreSQL. Pages come from a [`store::PageStore`] and are not trusted.

pub mod agreement;
mod bisect;
pub mod build;
mod calibrate;
pub mod check;
pub mod cluster;
mod code;
mod depth;
pub mod directory;
pub mod error;
mod fill;
pub mod filter;
pub mod insert;
pub mod kernels;
pub mod kmeans;
pub mod list;
pub mod memory;
pub mod meta;
mod nearby;
mod page;
mod records;
mod regroup;
mod rotation;
pub mod search;
mod second;
mod select;
mod source;
pub mod space;
pub mod store;
pub mod sweep;
pub mod upkeep;
pub mod vacuum;
pub mod workers;

pub use error::{Error, Result};
pub use filter::{Filter, Key};
pub use space::{Metric, Space};

/// What a row is called: PostgreSQL's block number and line pointer in the lower 48 bits.
pub type RowId = u64;

/// Most dimensions of an index.
pub const MAX_DIMENSIONS: usize = 16_000;
