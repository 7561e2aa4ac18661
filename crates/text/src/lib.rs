//! From documents to passages: HTML pages to clean text ([`html`]), long texts to pieces that fit a model's
//! window ([`chunk`]), documents of any kind to chunks that carry their headings ([`document`]), texts to the words of a text
//! index ([`words`]).

pub mod chunk;
pub mod document;
pub mod html;
mod lines;
mod markdown;
mod sentence;
pub mod words;
