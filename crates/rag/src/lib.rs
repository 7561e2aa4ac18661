//! From a question to an answer one can trust: which passages hold its words ([`bm25`]), what words and meaning say
//! together ([`fusion`]), which passages are one ([`merge`]) and fit ([`budget`]), what the model is asked ([`prompt`]), which
//! of its citations count ([`citation`]), and what it rests on ([`support`]).

pub mod bm25;
pub mod budget;
pub mod citation;
pub mod fusion;
pub mod merge;
pub mod prompt;
pub mod support;

pub use budget::pack;
pub use citation::keep_valid;
pub use prompt::{Message, Prompts};
pub use support::cite_support;

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
