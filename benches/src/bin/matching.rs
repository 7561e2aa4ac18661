//! How well `semantic_match` judges the 72 pairs of `tests/fixtures/matching`, beside the best threshold of similarity alone.
//!
//! Prints, in Markdown, for names in English, in Chinese and as given: how many verdicts are right, their precision and recall,
//! and how long a pair took.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use pg_answer_tests::fixtures;
use postgres::{Config, NoTls};
use serde::Deserialize;

/// Measures semantic matching.
#[derive(Parser)]
struct Arguments {
    /// Folder of the cluster's socket.
    #[arg(long)]
    host: PathBuf,
    /// Role to connect as.
    #[arg(long, default_value = "postgres")]
    user: String,
    /// Database with the extension.
    #[arg(long, default_value = "postgres")]
    dbname: String,
    /// Language model; the server's default when absent.
    #[arg(long)]
    model: Option<String>,
    /// Encoder of English names.
    #[arg(long, default_value = "all-MiniLM-L6-v2")]
    english: String,
    /// Encoder of Chinese and mixed names.
    #[arg(long, default_value = "multilingual-e5-small")]
    chinese: String,
}

#[derive(Deserialize)]
struct Pair {
    material_id: String,
    factor_id: String,
    material: String,
    factor: String,
    r#match: bool,
}

#[derive(Deserialize)]
struct Material {
    id: String,
    name_en: String,
    name_zh: String,
}

#[derive(Deserialize)]
struct Factor {
    id: String,
    description_en: String,
    description_zh: String,
}

/// What was said of a pair.
struct Judged {
    matches: bool,
    verdict: Option<bool>,
    similarity: f64,
}

/// The most pairs that one threshold of similarity puts right.
fn best_threshold(judged: &[Judged]) -> usize {
    let thresholds = judged.iter().map(|j| j.similarity).chain([f64::INFINITY]);
    let right = |t: f64| judged.iter().filter(|j| (j.similarity >= t) == j.matches).count();
    thresholds.map(right).max().unwrap_or(0)
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut client = Config::new()
        .host_path(&arguments.host)
        .user(&arguments.user)
        .dbname(&arguments.dbname)
        .connect(NoTls)?;
    let pairs: Vec<Pair> = fixtures::json_lines("matching/pairs.jsonl")?;
    let materials: Vec<Material> = fixtures::json_lines("matching/materials.jsonl")?;
    let factors: Vec<Factor> = fixtures::json_lines("matching/factors.jsonl")?;
    println!(
        "| names | right of {} | precision | recall | undecided | best threshold of similarity | ms a pair |",
        pairs.len()
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for language in ["English", "Chinese", "as given"] {
        let encoder = if language == "English" { &arguments.english } else { &arguments.chinese };
        let began = Instant::now();
        let mut judged = Vec::new();
        for pair in &pairs {
            let material = materials.iter().find(|m| m.id == pair.material_id).context("no such material")?;
            let factor = factors.iter().find(|f| f.id == pair.factor_id).context("no such factor")?;
            let (item, candidate) = match language {
                "English" => (&material.name_en, &factor.description_en),
                "Chinese" => (&material.name_zh, &factor.description_zh),
                _ => (&pair.material, &pair.factor),
            };
            let row = client.query_one(
                "SELECT verdict, similarity FROM semantic_match($1, $2, reasons => false, model => $3, embedding_model => $4)",
                &[item, candidate, &arguments.model, encoder],
            )?;
            judged.push(Judged { matches: pair.r#match, verdict: row.get(0), similarity: row.get(1) });
        }
        let count = |f: &dyn Fn(&Judged) -> bool| judged.iter().filter(|j| f(j)).count();
        let right = count(&|j| j.verdict == Some(j.matches));
        let hits = count(&|j| j.verdict == Some(true) && j.matches) as f64;
        println!(
            "| {language} | {right} | {:.2} | {:.2} | {} | {} | {:.0} |",
            hits / count(&|j| j.verdict == Some(true)) as f64,
            hits / count(&|j| j.matches) as f64,
            count(&|j| j.verdict.is_none()),
            best_threshold(&judged),
            began.elapsed().as_secs_f64() * 1000.0 / judged.len() as f64
        );
    }
    Ok(())
}
