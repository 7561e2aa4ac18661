//! From documents to passages: HTML pages to clean text ([`html`]), long texts to pieces that fit a model's
//! window ([`chunk`]).

pub mod chunk;
pub mod html;
mod lines;
