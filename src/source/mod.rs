//! Rows that keep themselves embedded. The declaration of sources is SQL: see `sql/40_source.sql`.

mod trigger;
