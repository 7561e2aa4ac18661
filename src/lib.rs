//! PostgreSQL that reads, finds and answers.
//!
//! These modules talk to PostgreSQL and compute nothing: the arithmetic is in `crates/`.

mod embed;
mod error;
mod generate;
mod model;
mod rag;
mod returned;
mod settings;
mod source;
mod vector;

pgrx::pg_module_magic!();

/// Called by the server when it loads the library.
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    settings::define();
}
