//! Rows of a source → chunks with vectors, in the table of chunks.

use pg_answer_text::document::Chunk;
use pgrx::datum::DatumWithOid;
use pgrx::spi::{SpiClient, SpiHeapTupleData};

use super::chunk::{Reader, integer};
use super::latest;
use super::plan::Plan;
use crate::error::OrRaise;
use crate::model::{self, with_encoder};
use crate::returned::vector_array_of;

/// A row of a source.
pub struct Row {
    /// Its key, a text per column.
    pub key: Vec<String>,
    /// Its text; none if all its columns are NULL.
    pub content: Option<String>,
}

/// A chunk of a row.
pub struct Piece {
    /// Which of the rows.
    pub row: usize,
    /// Which chunk of the row, from 0.
    ordinal: i32,
    chunk: Chunk,
    vector: Vec<f32>,
}

/// Texts that run through the model together: enough for its threads to share the work evenly.
const BATCH: usize = 512;
/// Chunks that are stored by one statement.
const STORED_AT_ONCE: usize = 1024;

impl Row {
    /// The row whose key's columns begin at column `first` (from 1) of `tuple`, and its content's at `content`.
    pub fn read(tuple: &SpiHeapTupleData<'_>, plan: &Plan, first: usize, content: usize) -> Self {
        let text = |column: usize| tuple.get::<String>(column).or_raise();
        let key = (first..first + plan.key.len()).map(|column| text(column).unwrap_or_default()).collect();
        let contents = (content..content + plan.content.len()).map(text).collect();
        Self { key, content: joined(contents, &plan.labels) }
    }
}

/// The text of a row. A single column stands for itself; several are told apart by their names.
fn joined(contents: Vec<Option<String>>, labels: &[String]) -> Option<String> {
    if contents.len() == 1 {
        return contents.into_iter().next().flatten();
    }
    let parts: Vec<String> = contents
        .into_iter()
        .zip(labels)
        .filter_map(|(content, label)| {
            let content = content?;
            let space = if content.contains('\n') { '\n' } else { ' ' };
            Some(format!("{label}:{space}{content}"))
        })
        .collect();
    (!parts.is_empty()).then(|| parts.join("\n\n"))
}

/// The chunks of `rows` with their vectors.
pub fn embed(plan: &Plan, rows: &[Row]) -> Vec<Piece> {
    let made = with_encoder(&plan.model, |encoder, pool| {
        let reader = Reader::new(encoder);
        let mut pieces = Vec::new();
        let mut tokens = Vec::new();
        for (row, content) in rows.iter().enumerate().filter_map(|(i, r)| Some((i, r.content.as_deref()?))) {
            for (ordinal, chunk) in (0..).zip(plan.cut.chunks(content, &reader)?) {
                tokens.push(reader.tokens(&chunk.embedded())?);
                pieces.push(Piece { row, ordinal, chunk, vector: Vec::new() });
            }
        }
        for (pieces, tokens) in pieces.chunks_mut(BATCH).zip(tokens.chunks(BATCH)) {
            let vectors = model::embed(&plan.model, encoder, tokens, pool)?;
            for (piece, vector) in pieces.iter_mut().zip(vectors) {
                piece.vector = vector;
            }
        }
        Ok(pieces)
    });
    made.or_raise()
}

/// An array per key column of `rows`, as arguments for [`Plan::unnest`].
pub fn key_arrays<'r>(
    plan: &Plan,
    rows: impl Iterator<Item = &'r Row> + Clone,
) -> Vec<DatumWithOid<'static>> {
    (0..plan.key.len())
        .map(|column| rows.clone().map(|row| row.key[column].clone()).collect::<Vec<String>>().into())
        .collect()
}

/// Puts `pieces` in the place of all chunks of those `rows` for which `wanted` holds.
pub fn replace(
    client: &mut SpiClient<'_>,
    plan: &Plan,
    rows: &[Row],
    pieces: &[Piece],
    wanted: &dyn Fn(usize) -> bool,
) {
    let old = rows.iter().enumerate().filter(|(i, _)| wanted(*i)).map(|(_, row)| row);
    if old.clone().next().is_none() {
        return;
    }
    latest::update(client, &remove_sql(plan), &key_arrays(plan, old));
    let pieces: Vec<&Piece> = pieces.iter().filter(|piece| wanted(piece.row)).collect();
    let sql = insert_sql(plan);
    for pieces in pieces.chunks(STORED_AT_ONCE) {
        let mut arguments = key_arrays(plan, pieces.iter().map(|piece| &rows[piece.row]));
        let integers = |value: &dyn Fn(&Piece) -> i32| -> DatumWithOid<'static> {
            pieces.iter().map(|piece| value(piece)).collect::<Vec<i32>>().into()
        };
        arguments.push(integers(&|p| p.ordinal));
        arguments.push(integers(&|p| integer(p.chunk.characters.start)));
        arguments.push(integers(&|p| integer(p.chunk.characters.end)));
        let heading = |p: &&Piece| Some(p.chunk.heading.clone()).filter(|heading| !heading.is_empty());
        arguments.push(pieces.iter().map(heading).collect::<Vec<Option<String>>>().into());
        arguments.push(pieces.iter().map(|p| p.chunk.text.clone()).collect::<Vec<String>>().into());
        arguments.push(integers(&|p| integer(p.chunk.tokens)));
        let vectors: Vec<Option<&[f32]>> = pieces.iter().map(|p| Some(&p.vector[..])).collect();
        // SAFETY: the plan holds the OID of `vector[]`.
        arguments.push(unsafe { DatumWithOid::new(vector_array_of(&vectors, plan.vectors), plan.vectors) });
        latest::update(client, &sql, &arguments);
    }
}

/// Removes all chunks of the keys given.
fn remove_sql(plan: &Plan) -> String {
    format!(
        "DELETE FROM {} AS c USING {} AS u({}) WHERE {}",
        plan.chunks,
        plan.unnest(""),
        plan.unnested(),
        plan.join(" AND ", |i, k| format!("c.{} {} u.k{i}::{}", k.chunk_name, k.equal, k.type_name)),
    )
}

fn insert_sql(plan: &Plan) -> String {
    let n = plan.key.len();
    let more = ["int[]", "int[]", "int[]", "text[]", "text[]", "int[]"];
    let more: String = more.iter().enumerate().map(|(i, t)| format!(", ${}::{t}", n + 1 + i)).collect();
    format!(
        "INSERT INTO {} ({}, ordinal, start_char, end_char, heading, chunk, tokens, embedding) \
         SELECT {}, u.o, u.s, u.e, u.h, u.c, u.t, u.v FROM {} AS u({}, o, s, e, h, c, t, v)",
        plan.chunks,
        plan.chunk_key(),
        plan.join(", ", |i, k| format!("u.k{i}::{}", k.type_name)),
        plan.unnest(&format!("{more}, ${}", n + 7)),
        plan.unnested(),
    )
}

/// Removes the chunks of rows that are gone; a row of the same key may have come back meanwhile.
pub fn remove_gone(client: &mut SpiClient<'_>, plan: &Plan, rows: &[&Row]) {
    if rows.is_empty() {
        return;
    }
    let sql = format!(
        "{} AND NOT EXISTS (SELECT FROM {} AS s WHERE {})",
        remove_sql(plan),
        plan.source,
        plan.same_key("s", "c")
    );
    latest::update(client, &sql, &key_arrays(plan, rows.iter().copied()));
}

/// Removes the chunks of all rows that are gone.
pub fn remove_orphans(client: &mut SpiClient<'_>, plan: &Plan) {
    let sql = format!(
        "DELETE FROM {} AS c WHERE NOT EXISTS (SELECT FROM {} AS s WHERE {})",
        plan.chunks,
        plan.source,
        plan.same_key("s", "c")
    );
    latest::update(client, &sql, &[]);
}
