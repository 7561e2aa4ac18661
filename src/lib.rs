//! PostgreSQL that reads, finds and answers.
//!
//! These modules talk to PostgreSQL and compute nothing: the arithmetic is in `crates/`.

#[macro_use]
mod vector;

mod cluster;
mod embed;
mod error;
mod generate;
mod index;
mod model;
mod rag;
mod rerank;
mod returned;
mod settings;
mod source;
mod tasks;

pgrx::pg_module_magic!();

/// Called by the server when it loads the library.
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    // pgrx would put a backtrace into the DETAIL of every error, even of a cancel, and take its time for it.
    // SAFETY: a backend has one thread while it loads a library.
    unsafe { std::env::remove_var("RUST_BACKTRACE") };
    settings::define();
    index::define_options();
    // SAFETY: reads a plain global of the server.
    if unsafe { pgrx::pg_sys::process_shared_preload_libraries_in_progress } {
        source::worker::register_launcher();
    }
}
