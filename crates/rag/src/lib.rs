//! From retrieved passages to an answer one can trust: which passages fit ([`budget`]), what the model is
//! asked ([`prompt`]), and what its reply is worth ([`citation`]).

pub mod budget;
pub mod citation;
pub mod prompt;

pub use budget::pack;
pub use citation::keep_valid;
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
