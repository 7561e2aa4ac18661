//! Retrieval and answers. Which rows are looked at, and as whom, is said in SQL: see `sql/50_words.sql` and following.

mod answer;
mod arguments;
mod chat;
mod lexemes;
mod retrieve;
mod stream;
