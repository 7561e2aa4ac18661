//! pg_answer
mod error;

pgrx::pg_module_magic!();
