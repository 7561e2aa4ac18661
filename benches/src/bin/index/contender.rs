//! What is compared, and a table with its index in a database of its own.

use std::io::Write;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use pg_answer_tests::Cluster;
use postgres::Client;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use serde::Deserialize;

use crate::data::{CATEGORIES, Vectors};

/// An entry of the file of contenders.
#[derive(Debug, Deserialize)]
pub struct Contender {
    /// Name in tables and plots.
    pub name: String,
    /// Extension that has the access method.
    pub extension: String,
    /// What follows CREATE INDEX ON items.
    pub index: String,
    /// What is ordered by; the column when absent.
    #[serde(default = "column")]
    pub expression: String,
    /// Session settings, one point of the recall curve each.
    pub search: Vec<String>,
    /// The same for queries with a WHERE clause.
    pub filter: Vec<String>,
}

fn column() -> String {
    "embedding".to_owned()
}

/// The whole file.
#[derive(Debug, Deserialize)]
pub struct Contenders {
    pub contender: Vec<Contender>,
}

/// A loaded and indexed table.
pub struct Prepared<'a> {
    pub contender: &'a Contender,
    pub database: String,
    pub build_seconds: f64,
    pub index_bytes: i64,
    pub wal_bytes: i64,
}

/// A vector as a parameter of a statement, in the wire format that all extensions share.
#[derive(Debug)]
struct Parameter<'a>(&'a [f32]);

impl ToSql for Parameter<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        encode(self.0, &mut |bytes| out.extend_from_slice(bytes));
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        matches!(kind.name(), "vector")
    }

    to_sql_checked!();
}

/// Shows the wire format of a vector.
pub fn encode(vector: &[f32], put: &mut dyn FnMut(&[u8])) {
    put(&(vector.len() as u16).to_be_bytes());
    put(&[0, 0]);
    vector.iter().for_each(|x| put(&x.to_be_bytes()));
}

impl Contender {
    /// Whether the server has its extension.
    pub fn is_available(&self, client: &mut Client) -> Result<bool> {
        let found =
            client.query("SELECT FROM pg_available_extensions WHERE name = $1", &[&self.extension])?;
        Ok(!found.is_empty())
    }

    /// Loads a table and builds the index.
    pub fn prepare(&self, cluster: &Cluster, rows: &Vectors, workers: u32) -> Result<Prepared<'_>> {
        let database = cluster.create_empty_database("index")?;
        let mut client = cluster.client(&database)?;
        client.batch_execute(&format!("CREATE EXTENSION {} CASCADE", self.extension))?;
        let dims = rows.dims;
        let table = format!("(id int PRIMARY KEY, category int, embedding vector({dims}))");
        client.batch_execute(&format!("CREATE TABLE items {table}; CREATE UNLOGGED TABLE more {table};"))?;
        copy(&mut client, "items", rows, 0)?;
        client.batch_execute("VACUUM ANALYZE items")?;
        client.batch_execute("CHECKPOINT")?;
        client.batch_execute(&format!("SET max_parallel_maintenance_workers = {workers}"))?;
        let before = wal(&mut client)?;
        let start = Instant::now();
        client.batch_execute(&format!("CREATE INDEX items_ann ON items {}", self.index))?;
        let build_seconds = start.elapsed().as_secs_f64();
        let wal_bytes = wal(&mut client)? - before;
        let index_bytes = client.query_one("SELECT pg_relation_size('items_ann')", &[])?.get(0);
        client.batch_execute("CHECKPOINT")?;
        Ok(Prepared { contender: self, database, build_seconds, index_bytes, wal_bytes })
    }
}

impl Prepared<'_> {
    /// The k nearest rows to $1; `condition` is empty or a WHERE clause.
    pub fn query(&self, k: usize, condition: &str) -> String {
        let by = &self.contender.expression;
        let target = by.replace("embedding", "$1::vector");
        format!("SELECT id FROM items {condition} ORDER BY {by} <=> {target} LIMIT {k}")
    }

    /// Rows a second of one INSERT with all of `rows`.
    pub fn insert_at_once(&self, cluster: &Cluster, rows: &Vectors, first: usize) -> Result<f64> {
        let mut client = cluster.client(&self.database)?;
        copy(&mut client, "more", rows, first)?;
        let start = Instant::now();
        let n = client.execute("INSERT INTO items SELECT * FROM more", &[])?;
        ensure!(n == rows.len() as u64, "{n} rows were inserted");
        Ok(n as f64 / start.elapsed().as_secs_f64())
    }

    /// Rows a second of one transaction for each row.
    pub fn insert_one_by_one(&self, cluster: &Cluster, rows: &Vectors, first: usize) -> Result<f64> {
        let mut client = cluster.client(&self.database)?;
        let insert = client.prepare("INSERT INTO items VALUES ($1, $2, $3)")?;
        let start = Instant::now();
        for (i, row) in rows.iter().enumerate() {
            let id = first + i;
            client.execute(&insert, &[&(id as i32), &((id % CATEGORIES) as i32), &Parameter(row)])?;
        }
        Ok(rows.len() as f64 / start.elapsed().as_secs_f64())
    }

    /// Seconds of a VACUUM after every tenth row was deleted.
    pub fn vacuum(&self, cluster: &Cluster) -> Result<f64> {
        let mut client = cluster.client(&self.database)?;
        client.batch_execute("DELETE FROM items WHERE id % 10 = 3")?;
        let start = Instant::now();
        client.batch_execute("VACUUM items")?;
        Ok(start.elapsed().as_secs_f64())
    }
}

/// Loads `rows` with ids from `first` on.
fn copy(client: &mut Client, table: &str, rows: &Vectors, first: usize) -> Result<()> {
    let mut writer = client.copy_in(&format!("COPY {table} FROM STDIN (FORMAT binary)"))?;
    let mut buffer = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for (i, row) in rows.iter().enumerate() {
        let id = first + i;
        buffer.extend_from_slice(&3u16.to_be_bytes());
        for number in [id, id % CATEGORIES] {
            buffer.extend_from_slice(&4u32.to_be_bytes());
            buffer.extend_from_slice(&(number as u32).to_be_bytes());
        }
        buffer.extend_from_slice(&(4 + 4 * row.len() as u32).to_be_bytes());
        encode(row, &mut |bytes| buffer.extend_from_slice(bytes));
        writer.write_all(&buffer)?;
        buffer.clear();
    }
    writer.write_all(&u16::MAX.to_be_bytes())?;
    writer.finish().context("COPY failed")?;
    Ok(())
}

fn wal(client: &mut Client) -> Result<i64> {
    Ok(client.query_one("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint", &[])?.get(0))
}
