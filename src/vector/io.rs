//! Input and output, as text and as binary, and the type modifier.

use std::ffi::CStr;

use half::f16;
use pg_answer_vector::{Element, Error, MAX_DIMENSIONS, text, wire};
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::{self, Datum};

use super::call::Args;
use super::casts::check_expected;
use super::datum;
use crate::error::{OrRaise, Report};

/// The text and binary forms of the vector type with these elements.
trait Forms: Element {
    fn parse(text: &str, out: &mut Vec<Self>) -> Result<(), Error>;
    fn format(elements: &[Self]) -> String;
    fn decode(wire: &[u8], out: &mut Vec<Self>) -> Result<(), Error>;
    fn encode(elements: &[Self]) -> Vec<u8>;
}

impl Forms for f32 {
    fn parse(text: &str, out: &mut Vec<Self>) -> Result<(), Error> {
        text::parse_vector(text, out)
    }

    fn format(elements: &[Self]) -> String {
        text::format_vector(elements)
    }

    fn decode(wire: &[u8], out: &mut Vec<Self>) -> Result<(), Error> {
        wire::decode_vector(wire, out)
    }

    fn encode(elements: &[Self]) -> Vec<u8> {
        wire::encode_vector(elements)
    }
}

impl Forms for f16 {
    fn parse(text: &str, out: &mut Vec<Self>) -> Result<(), Error> {
        text::parse_halfvec(text, out)
    }

    fn format(elements: &[Self]) -> String {
        text::format_halfvec(elements)
    }

    fn decode(wire: &[u8], out: &mut Vec<Self>) -> Result<(), Error> {
        wire::decode_halfvec(wire, out)
    }

    fn encode(elements: &[Self]) -> Vec<u8> {
        wire::encode_halfvec(elements)
    }
}

/// `[1,2,3]` → value. Arguments: text, type, type modifier.
fn input<E: Forms>(args: Args) -> Datum {
    // SAFETY: the SQL declares a cstring.
    let text = unsafe { CStr::from_ptr(args.datum(0).cast_mut_ptr()) };
    // Only ASCII is valid; bytes of another encoding end up in the message.
    let text = text.to_string_lossy();
    let mut elements = Vec::new();
    E::parse(&text, &mut elements).or_raise();
    check_expected(args.i32(2), elements.len()).or_raise();
    datum::copy(&elements)
}

/// Value → `[1,2,3]`.
fn output<E: Forms>(args: Args) -> Datum {
    datum::cstring(&E::format(&args.vector::<E>(0)))
}

/// `(384)` → 384.
fn typmod_in<E: Element>(args: Args) -> i32 {
    let mut len = 0;
    // SAFETY: the SQL declares an array of cstring, which is what the function wants; the out-pointer is valid.
    let dimensions = unsafe {
        let array = pg_sys::pg_detoast_datum(args.datum(0).cast_mut_ptr()).cast();
        let modifiers = pg_sys::ArrayGetIntegerTypmods(array, &raw mut len);
        if len == 1 { Some(*modifiers) } else { None }
    };
    let message = match dimensions {
        None => "invalid type modifier".to_owned(),
        Some(..1) => format!("dimensions for type {} must be at least 1", E::KIND),
        Some(n) if n as usize > MAX_DIMENSIONS => {
            format!("dimensions for type {} cannot exceed {MAX_DIMENSIONS}", E::KIND)
        }
        Some(n) => return n,
    };
    Report::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message).raise()
}

/// Length of the binary form before its elements: number of dimensions and zero, two bytes each.
const WIRE_HEADER: usize = 4;

/// Bytes from a client → value. Arguments: message, type, type modifier.
fn receive<E: Forms>(args: Args) -> Datum {
    // SAFETY: the SQL declares internal, and PostgreSQL passes a StringInfo to receive functions.
    let message = unsafe { &mut *args.datum(0).cast_mut_ptr::<pg_sys::StringInfoData>() };
    // SAFETY: a StringInfo holds `len` bytes, and its cursor is within them.
    let unread = unsafe {
        let start = message.data.cast::<u8>().add(message.cursor as usize);
        std::slice::from_raw_parts(start, (message.len - message.cursor) as usize)
    };
    // The value says how long it is. What follows it is reported by the caller, which can name the parameter.
    let dimensions = unread.first_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes));
    let size = (WIRE_HEADER + usize::from(dimensions) * size_of::<E>()).min(unread.len());
    let mut elements = Vec::new();
    E::decode(&unread[..size], &mut elements).or_raise();
    check_expected(args.i32(2), elements.len()).or_raise();
    message.cursor += size as i32;
    datum::copy(&elements)
}

/// Value → bytes for a client.
fn send<E: Forms>(args: Args) -> Datum {
    datum::bytes(&E::encode(&args.vector::<E>(0)))
}

sql_functions! {
    vector_in => input::<f32>;
    vector_out => output::<f32>;
    vector_typmod_in => typmod_in::<f32>;
    vector_recv => receive::<f32>;
    vector_send => send::<f32>;

    halfvec_in => input::<f16>;
    halfvec_out => output::<f16>;
    halfvec_typmod_in => typmod_in::<f16>;
    halfvec_recv => receive::<f16>;
    halfvec_send => send::<f16>;
}
