//! Turns the PostgreSQL manual's HTML pages into passages for the demo, in the text format of COPY.

mod copy;
mod manual;
mod passages;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use pg_answer_inference::Encoder;
use pg_answer_models::Store;

/// Cuts the PostgreSQL manual into passages that fit an embedding model's window.
///
/// Writes columns page, title, section, body to standard output, for COPY ... FROM STDIN.
#[derive(Parser)]
#[command(
    after_help = "Example:\n  pg_answer_demo /usr/share/doc/postgresql-doc-15/html > passages.copy\n  \
                        psql -c '\\copy manual (page, title, section, body) from passages.copy'"
)]
struct Arguments {
    /// Folder of the manual's HTML pages
    html: PathBuf,
    /// Folder of installed models
    #[arg(long, env = "PG_ANSWER_MODEL_PATH", default_value = "/var/lib/pg_answer/models")]
    model_path: PathBuf,
    /// Encoder whose tokens count
    #[arg(long, default_value = "all-MiniLM-L6-v2")]
    model: String,
    /// Most tokens of a passage, page and section titles included
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(64..))]
    max_tokens: u32,
    /// Take only the chapters that these pages stand in, such as "indexes.html,mvcc.html"
    #[arg(long, value_delimiter = ',', value_name = "PAGES")]
    chapters: Vec<String>,
    /// Also write columns page, chapter to this file
    #[arg(long, value_name = "FILE")]
    pages: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let encoder = Encoder::load(&Store::new(&arguments.model_path).open(&arguments.model)?)?;
    let pages = manual::read(&arguments.html, &arguments.chapters)?;
    if let Some(path) = &arguments.pages {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        let mut file = BufWriter::new(file);
        for page in &pages {
            copy::write_row(&mut file, &[&page.name, &page.chapter])?;
        }
        file.flush()?;
    }
    let mut out = BufWriter::new(std::io::stdout().lock());
    for page in &pages {
        let passages = passages::of(page, arguments.max_tokens as usize, &|text| encoder.count_tokens(text));
        for passage in passages.with_context(|| page.name.clone())? {
            copy::write_row(&mut out, &[&page.name, &page.content.title, &passage.section, &passage.body])?;
        }
    }
    Ok(out.flush()?)
}
