//! From a question to an answer one can trust: which passages hold its words ([`bm25`]), what words and meaning say
//! together ([`fusion`]), which passages are one ([`merge`]), differ ([`diversity`]) and fit ([`budget`]), what the model is asked ([`prompt`]), and what
//! of its answer they hold ([`check`], [`citation`], [`refusal`]), all at once or as it is written
//! ([`stream`]). In a conversation, what a question means by itself comes first ([`history`]).

pub mod bm25;
pub mod budget;
pub mod check;
pub mod citation;
pub mod diversity;
pub mod fusion;
pub mod history;
pub mod likelihood;
pub mod merge;
pub mod prompt;
pub mod refusal;
pub mod snippet;
pub mod stream;
mod words;

pub use budget::{Attempt, attempts, pack};
pub use check::{Checked, Unsupported, check};
pub use prompt::{Message, Prompts};
pub use stream::Sentences;

/// A retrieved piece of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Title of the document it comes from.
    pub title: Option<String>,
    /// The text itself.
    pub content: String,
}
