//! Rows that keep themselves embedded. The declaration of sources is SQL: see `sql/40_source.sql`.
//!
//! [`trigger`] is the trigger for a table with a vector column of its own. Sources with chunks: [`capture`] tells of
//! changes, which it reads by [`transition`] for the sources that are [`known`]; [`queue`] and [`worker`] see to what waits,
//! [`embedding`] makes the chunks by a [`plan`].

mod capture;
mod chunk;
mod depend;
mod embedding;
mod known;
mod latest;
mod owner;
mod plan;
mod queue;
mod transition;
mod trigger;
pub mod worker;
