//! The command `pg_answer_model` from the outside: its sources, its messages, its exit status.

mod add;
mod commands;
mod hub;
mod pip;
mod site;
