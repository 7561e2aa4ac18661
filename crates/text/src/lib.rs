//! From documents to passages: HTML pages to clean text ([`html`]), long texts to pieces that fit a model's
//! window ([`chunk`]), documents of any kind to chunks that carry their headings ([`document`]), texts to the words of a text
//! index ([`words`]), and the language that a model is asked in ([`language`]).

pub mod chunk;
pub mod document;
pub mod html;
pub mod language;
mod lines;
mod markdown;
mod sentence;
pub mod words;
