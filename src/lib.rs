//! pg_answer
pgrx::pg_module_magic!();
