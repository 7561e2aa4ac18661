//! Tasks for language models. What is asked, and what becomes of the answers, is in `crates/tasks`.

mod filter;
mod matching;
mod structure;
mod writing;

use pg_answer_inference::decoder::Message;
use pg_answer_tasks::Turn;

use crate::model::weigh;

fn messages(turns: &[Turn]) -> Vec<Message> {
    turns.iter().map(|t| Message { role: t.role.to_owned(), content: t.content.clone() }).collect()
}
