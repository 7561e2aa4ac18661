//! Harness of the SQL tests: throw-away PostgreSQL clusters with the extension installed.
//!
//! ```no_run
//! use pg_answer_tests::Options;
//! # fn main() -> anyhow::Result<()> {
//! let cluster = Options::default().models().start()?;
//! let db = cluster.create_database("tour")?; // with CREATE EXTENSION pg_answer
//! let row = cluster.client(&db)?.query_one("SELECT embed('a text')::text", &[])?;
//! # drop(row);
//! # Ok(())
//! # }
//! ```
//!
//! A cluster listens on a unix socket in its own temporary folder, so clusters never meet. It stops and its
//! folder goes when the [`Cluster`] is dropped, and also when the test process is killed.

pub mod cluster;
pub mod fixtures;
pub mod installation;
pub mod models;
pub mod readme;
pub mod timing;
mod watchdog;

pub use cluster::{Cluster, Options};
pub use installation::Installation;
pub use models::ModelStore;

/// The encoder that `embed()` uses unless told otherwise.
pub const ENCODER: &str = "all-MiniLM-L6-v2";
/// The decoder that `generate()` uses unless told otherwise.
pub const DECODER: &str = "qwen2.5-coder-0.5b-instruct";
