//! How the chunks of a source are kept, as the catalogue says it, and the SQL made of it.

use std::ffi::CString;

use pgrx::pg_sys;
use pgrx::spi::{SpiClient, SpiHeapTupleData};

use super::chunk::{Cut, method};
use super::latest;
use crate::error::OrRaise;

/// One set of chunks of a source. All names are quoted and qualified, ready for SQL.
pub struct Plan {
    /// Whether these chunks are being built beside the ones in use.
    pub building: bool,
    /// The table whose rows they are of.
    pub source: String,
    /// Their table.
    pub chunks: String,
    /// The table of keys that wait.
    pub queue: String,
    /// The tables themselves.
    pub chunks_table: pg_sys::Oid,
    pub queue_table: pg_sys::Oid,
    /// Columns of the key.
    pub key: Vec<KeyColumn>,
    /// Columns of text.
    pub content: Vec<String>,
    /// The same, not quoted.
    pub content_columns: Vec<CString>,
    /// Their names as they are told to the model.
    pub labels: Vec<String>,
    /// The embedding model.
    pub model: String,
    /// Whether writers embed what they write.
    pub immediate: bool,
    /// How rows are cut.
    pub cut: Cut,
    /// Type `vector[]`.
    pub vectors: pg_sys::Oid,
    /// Owner of the source and its chunks.
    pub owner: pg_sys::Oid,
}

/// A column of a source's key.
pub struct KeyColumn {
    /// In the source, not quoted.
    pub column: CString,
    /// In the source.
    pub name: String,
    /// In chunks and queue.
    pub chunk_name: String,
    /// Its type.
    pub type_name: String,
    /// The operator that tells whether two keys are the same.
    pub equal: String,
}

impl Plan {
    /// `part` of each key column, numbered from 1, joined by `separator`.
    pub fn join(&self, separator: &str, part: impl Fn(usize, &KeyColumn) -> String) -> String {
        let parts: Vec<String> = self.key.iter().enumerate().map(|(i, column)| part(i + 1, column)).collect();
        parts.join(separator)
    }

    /// `row.key = chunk.key`, where `row` has the source's columns and `chunk` those of chunks.
    pub fn same_key(&self, row: &str, chunk: &str) -> String {
        self.join(" AND ", |_, k| format!("{row}.{} {} {chunk}.{}", k.name, k.equal, k.chunk_name))
    }

    /// Names of the key columns in chunks and queue.
    pub fn chunk_key(&self) -> String {
        self.join(", ", |_, k| k.chunk_name.clone())
    }

    /// `unnest($1::text[], …)` of a key's columns, each in an array of its own, with `more` arrays after them; and the
    /// names `k1, k2, …` that stand for it.
    pub fn unnest(&self, more: &str) -> String {
        format!("unnest({}{more})", self.join(", ", |i, _| format!("${i}::text[]")))
    }

    /// `k1, k2, …`.
    pub fn unnested(&self) -> String {
        self.join(", ", |i, _| format!("k{i}"))
    }

    /// The key as text, then the content as text, of the rows of `row`.
    pub fn row_as_text(&self, row: &str) -> String {
        let content: Vec<String> = self.content.iter().map(|c| format!("{row}.{c}::text")).collect();
        format!("{}, {}", self.join(", ", |_, k| format!("{row}.{}::text", k.name)), content.join(", "))
    }
}

/// The chunks of `source`: those in use, then those being built. `schema` is that of the extension, quoted.
pub fn plans(client: &mut SpiClient<'_>, schema: &str, source: pg_sys::Oid) -> Vec<Plan> {
    let sql = format!("SELECT * FROM {schema}.pg_answer_source_plans($1)");
    latest::query(client, &sql, &[source.into()], plan)
}

fn plan(row: &SpiHeapTupleData<'_>) -> Plan {
    let text = |name: &str| row.get_by_name::<String, _>(name).or_raise().unwrap_or_default();
    let texts = |name: &str| row.get_by_name::<Vec<String>, _>(name).or_raise().unwrap_or_default();
    let oid = |name: &str| row.get_by_name::<pg_sys::Oid, _>(name).or_raise().unwrap_or(pg_sys::InvalidOid);
    let names = texts("columns").into_iter().zip(texts("names")).zip(texts("chunk_names"));
    let columns = names.zip(texts("types")).zip(texts("equals"));
    Plan {
        building: row.get_by_name("building").or_raise().unwrap_or(false),
        source: text("source"),
        chunks: text("chunks"),
        queue: text("queue"),
        chunks_table: oid("chunks_table"),
        queue_table: oid("queue_table"),
        key: columns
            .map(|((((column, name), chunk_name), type_name), equal)| KeyColumn {
                column: c_string(column),
                name,
                chunk_name,
                type_name,
                equal,
            })
            .collect(),
        content: texts("content"),
        content_columns: texts("labels").into_iter().map(c_string).collect(),
        labels: texts("labels"),
        model: text("model"),
        immediate: text("mode") == "immediate",
        cut: Cut {
            method: method(&text("chunking")),
            max_tokens: row.get_by_name("chunk_tokens").or_raise(),
            overlap: row.get_by_name("chunk_overlap").or_raise().unwrap_or(0),
        },
        vectors: oid("vectors"),
        owner: oid("owner"),
    }
}

/// A name of the catalogue, which holds no zero byte.
fn c_string(name: String) -> CString {
    CString::new(name).unwrap_or_default()
}

/// The schema of the function that runs, which is the extension's, quoted.
///
/// # Safety
/// `fcinfo` is the frame of a running call.
pub unsafe fn schema_of(fcinfo: pg_sys::FunctionCallInfo) -> String {
    // SAFETY: the function exists, since it runs; the name is copied.
    unsafe {
        let name = pg_sys::get_namespace_name(pg_sys::get_func_namespace((*(*fcinfo).flinfo).fn_oid));
        pgrx::spi::quote_identifier(std::ffi::CStr::from_ptr(name).to_string_lossy())
    }
}
