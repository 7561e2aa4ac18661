//! `chunk(content, …)`: a text's chunks, by the tokens of an embedding model.

use std::cell::RefCell;

use pg_answer_inference::Result;
use pg_answer_inference::encoder::{Encoder, Role, Tokens};
use pg_answer_text::chunk::Limits;
use pg_answer_text::document::{Chunk, Method, chunks};
use pgrx::PgSqlErrorCode as Code;
use pgrx::prelude::*;

use crate::error::{OrRaise, Report};
use crate::model::{check, with_encoder};
use crate::settings;

/// How the rows of a source are cut.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    /// Where.
    pub method: Method,
    /// Most tokens; none: as many as the model reads.
    pub max_tokens: Option<i32>,
    /// Most tokens that a chunk repeats of the one before.
    pub overlap: i32,
}

impl Cut {
    /// The chunks of `content`; what is wrong with the limits is an ERROR.
    pub fn chunks(self, content: &str, reader: &Reader<'_>) -> Result<Vec<Chunk>> {
        let limits = self.limits(reader.encoder.max_tokens());
        chunks(content, self.method, limits, &|text| reader.count(text))
    }

    fn limits(self, window: usize) -> Limits {
        let invalid = |message: String| Report::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, message);
        let max = match self.max_tokens {
            None => window,
            Some(n) => usize::try_from(n).unwrap_or(0),
        };
        if max > window {
            invalid(format!("chunks of {max} tokens do not fit the model, which reads {window}"))
                .hint(format!("Ask for at most {window} tokens, or choose another model."))
                .raise();
        }
        let overlap = usize::try_from(self.overlap).unwrap_or_else(|_| {
            invalid(format!("overlap must not be negative, but is {}", self.overlap)).raise()
        });
        Limits::new(max)
            .and_then(|limits| limits.with_overlap(overlap))
            .unwrap_or_else(|e| invalid(e.to_string()).raise())
    }
}

/// A model's tokenizer that remembers the last text: most rows are one chunk, which is counted twice and then embedded.
pub struct Reader<'e> {
    encoder: &'e Encoder,
    last: RefCell<(String, Option<Tokens>)>,
}

impl<'e> Reader<'e> {
    pub fn new(encoder: &'e Encoder) -> Self {
        Self { encoder, last: RefCell::default() }
    }

    /// The tokens of `text`, cut to the model's window.
    pub fn tokens(&self, text: &str) -> Result<Tokens> {
        let (last, tokens) = &mut *self.last.borrow_mut();
        match tokens.take() {
            Some(tokens) if last == text => Ok(tokens),
            _ => self.read(text),
        }
    }

    /// How many tokens `text` has, however long it is.
    fn count(&self, text: &str) -> Result<usize> {
        let (last, tokens) = &mut *self.last.borrow_mut();
        if let Some(tokens) = tokens.as_ref().filter(|_| last == text) {
            return Ok(tokens.untruncated);
        }
        let read = tokens.insert(self.read(text)?);
        text.clone_into(last);
        Ok(read.untruncated)
    }

    fn read(&self, text: &str) -> Result<Tokens> {
        check()?;
        self.encoder.tokenize_checked(text, Role::Document, &mut check)
    }
}

/// The method of that name, or an ERROR.
pub fn method(name: &str) -> Method {
    name.parse().unwrap_or_else(|e: pg_answer_text::document::UnknownMethod| {
        let names: Vec<&str> = Method::ALL.iter().map(|(name, _)| *name).collect();
        Report::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, e.to_string())
            .hint(format!("The methods are: {}.", names.join(", ")))
            .raise()
    })
}

/// One row per chunk, in order. NULL content has none.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn chunk(
    content: Option<&str>,
    method: Option<&str>,
    max_tokens: Option<i32>,
    overlap: Option<i32>,
    model: Option<&str>,
) -> TableIterator<
    'static,
    (
        name!(ordinal, i32),
        name!(start_char, i32),
        name!(end_char, i32),
        name!(heading, Option<String>),
        name!(chunk, String),
        name!(tokens, i32),
    ),
> {
    let method = self::method(method.unwrap_or("recursive"));
    let cut = Cut { method, max_tokens, overlap: overlap.unwrap_or(0) };
    let model = model.map_or_else(settings::embedding_model, str::to_owned);
    let chunks = with_encoder(&model, |encoder, _| match content {
        Some(content) => cut.chunks(content, &Reader::new(encoder)),
        None => Ok(Vec::new()),
    })
    .or_raise();
    TableIterator::new((0..).zip(chunks).map(|(ordinal, chunk)| {
        let heading = Some(chunk.heading).filter(|heading| !heading.is_empty());
        let (start, end) = (integer(chunk.characters.start), integer(chunk.characters.end));
        (ordinal, start, end, heading, chunk.text, integer(chunk.tokens))
    }))
}

/// A length of a database value, which is below 2^30 bytes, as SQL's integer.
pub fn integer(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}
