//! `embed` and its relatives: text into vectors.

use pg_answer_inference::Result;
use pg_answer_inference::encoder::{Encoder, Role, Tokens};
use pgrx::prelude::*;
use pgrx::{Array, PgSqlErrorCode as Code, pg_sys};

use crate::error::{OrRaise, Report};
use crate::model::{self, check, with_encoder};
use crate::returned::{Raw, vector_array};
use crate::settings::{self, OnTruncate};
use crate::vector::datum::copy;

/// `embed(text)`, `embed_query(text)`, `embed_document(text)`: the model is the one set, or the one named.
macro_rules! embed_functions {
    ($($default:ident, $named:ident, $short:ident => $role:expr;)*) => {$(
        #[pg_extern(sql = false)]
        fn $default(content: &str) -> Raw {
            embed_one(content, &settings::embedding_model(), $role)
        }

        #[pg_extern(sql = false)]
        fn $named(content: &str, model: &str) -> Raw {
            embed_one(content, model, $role)
        }

        #[pg_extern(sql = false)]
        fn $short(content: &str, model: &str, dimensions: i32) -> Raw {
            embed_short(content, model, dimensions, $role)
        }
    )*};
}

embed_functions! {
    embed, embed_with_model, embed_short_with_model => Role::Plain;
    embed_query, embed_query_with_model, embed_query_short_with_model => Role::Query;
    embed_document, embed_document_with_model, embed_document_short_with_model => Role::Document;
}

/// One batch: all texts run through the model together. NULL elements give NULL elements.
#[pg_extern(sql = false)]
fn embed_batch(contents: Array<&str>, fcinfo: pg_sys::FunctionCallInfo) -> Raw {
    embed_all(&contents, &settings::embedding_model(), fcinfo)
}

#[pg_extern(sql = false)]
fn embed_batch_with_model(contents: Array<&str>, model: &str, fcinfo: pg_sys::FunctionCallInfo) -> Raw {
    embed_all(&contents, model, fcinfo)
}

#[pg_extern(sql = false)]
fn count_tokens(content: &str) -> i32 {
    count(content, &settings::embedding_model())
}

#[pg_extern(sql = false)]
fn count_tokens_with_model(content: &str, model: &str) -> i32 {
    count(content, model)
}

fn count(content: &str, model: &str) -> i32 {
    i32::try_from(model::count_tokens(model, content).or_raise()).unwrap_or(i32::MAX)
}

fn embed_all(contents: &Array<&str>, model: &str, fcinfo: pg_sys::FunctionCallInfo) -> Raw {
    // SAFETY: the first argument of both callers is an array, and never NULL.
    let dimensions = unsafe {
        let array = pgrx::fcinfo::pg_getarg_datum_raw(fcinfo, 0).cast_mut_ptr();
        (*pg_sys::pg_detoast_datum(array).cast::<pg_sys::ArrayType>()).ndim
    };
    if dimensions > 1 {
        Report::new(Code::ERRCODE_ARRAY_ELEMENT_ERROR, "contents must be a one-dimensional array")
            .detail(format!("It has {dimensions} dimensions."))
            .raise();
    }
    let texts: Vec<Option<&str>> = contents.iter().collect();
    let present: Vec<&str> = texts.iter().copied().flatten().collect();
    let mut embedded = embed_texts(&present, model, Role::Plain).into_iter();
    let elements: Vec<_> = texts.iter().map(|text| text.and_then(|_| embedded.next())).collect();
    // SAFETY: both callers are declared to return vector[].
    unsafe { vector_array(&elements, fcinfo) }
}

fn embed_one(content: &str, model: &str, role: Role) -> Raw {
    Raw(copy(&embed_text(content, model, role)))
}

/// The first `dimensions` elements of a text's vector.
fn embed_short(content: &str, model: &str, dimensions: i32, role: Role) -> Raw {
    let vector = embed_text(content, model, role);
    let dimensions = usize::try_from(dimensions).unwrap_or(0);
    Raw(copy(&with_encoder(model, |encoder, _| encoder.shorten(vector, dimensions)).or_raise()))
}

/// The vector of one text.
pub fn embed_text(content: &str, model: &str, role: Role) -> Vec<f32> {
    embed_texts(&[content], model, role).pop().unwrap_or_default()
}

/// The vectors of `texts`, in their order.
pub fn embed_texts(texts: &[&str], model: &str, role: Role) -> Vec<Vec<f32>> {
    with_encoder(model, |encoder, pool| {
        let batch = tokenize(encoder, texts, role)?;
        model::embed(model, encoder, &batch, pool)
    })
    .or_raise()
}

/// The tokens of `texts`; tells of texts that are too long before anything is computed.
fn tokenize(encoder: &Encoder, texts: &[&str], role: Role) -> Result<Vec<Tokens>> {
    let on_truncate = settings::on_truncate();
    texts
        .iter()
        .map(|text| {
            let tokens = encoder.tokenize_checked(text, role, &mut check)?;
            if tokens.untruncated > tokens.ids.len() {
                tell_of_truncation(on_truncate, tokens.untruncated, tokens.ids.len());
            }
            Ok(tokens)
        })
        .collect()
}

fn tell_of_truncation(on_truncate: OnTruncate, tokens: usize, window: usize) {
    let level = match on_truncate {
        OnTruncate::Ignore => return,
        OnTruncate::Notice => PgLogLevel::NOTICE,
        OnTruncate::Error => PgLogLevel::ERROR,
    };
    let message = format!("the text has {tokens} tokens, but the model reads only the first {window}");
    Report::new(Code::ERRCODE_STRING_DATA_RIGHT_TRUNCATION, message)
        .detail("What comes after that would not show in the vector.")
        .hint("Split the text into chunks, or set pg_answer.on_truncate to \"ignore\".")
        .report(level);
}
