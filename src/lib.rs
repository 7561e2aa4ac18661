//! pg_answer
mod error;
mod vector;

pgrx::pg_module_magic!();
