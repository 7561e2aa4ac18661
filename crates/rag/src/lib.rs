//! From a question to an answer one can trust: which passages hold its words ([`bm25`]), what words and meaning say
//! together ([`fusion`]), which passages are one ([`merge`]) and fit ([`budget`]), what the model is asked ([`prompt`]), and what
//! of its answer they hold ([`check`], [`citation`]).

pub mod bm25;
pub mod budget;
pub mod check;
pub mod citation;
pub mod fusion;
pub mod merge;
pub mod prompt;

pub use budget::pack;
pub use check::{Checked, Unsupported, check};
pub use prompt::{Message, Prompts};

/// What `rag_answer` says when nothing retrieved can hold the answer, and what the model is asked to say.
pub const REFUSAL: &str = "I cannot answer this from the available sources.";

/// A retrieved piece of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Title of the document it comes from.
    pub title: Option<String>,
    /// The text itself.
    pub content: String,
}
