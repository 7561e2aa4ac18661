//! `list`: what is installed, and what can be had.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use indicatif::HumanBytes;
use pg_answer_models::{Card, Catalogue, Known, Store};
use serde::Serialize;

use crate::failure::{Failure, Result};

/// A model for people and programs.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    card: &'a Card,
    bytes: u64,
    installed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
}

/// Prints the installed models, or those of `catalogue`, as a table or as JSON.
pub fn list(store: &Store, catalogue: Option<&Catalogue>, json: bool) -> Result<()> {
    let (mut models, mut damaged) = (Vec::new(), Vec::new());
    for model in store.list()? {
        match model {
            Ok(model) => models.push(model),
            Err(error) => damaged.push(Failure::from(error)),
        }
    }
    let path_of = |card: &Card| models.iter().find(|m| m.card.name == card.name).map(|m| m.dir.clone());
    let cards: Vec<&Card> = match catalogue {
        Some(catalogue) => catalogue.models.iter().map(|entry| &entry.card).collect(),
        None => models.iter().map(|model| &model.card).collect(),
    };
    let rows: Vec<Row> = cards
        .into_iter()
        .map(|card| {
            let path = path_of(card);
            Row { card, bytes: card.bytes(), installed: path.is_some(), path }
        })
        .collect();
    if json {
        let known = catalogue.map_or(&[][..], |catalogue| &catalogue.known[..]);
        let all = [serde_json::to_value(&rows), serde_json::to_value(known)];
        let all: Vec<serde_json::Value> = all.into_iter().flatten().filter_map(array).flatten().collect();
        let text = serde_json::to_string_pretty(&all).map_err(|e| Failure::new(e.to_string()))?;
        print(&format!("{text}\n"))?;
    } else if rows.is_empty() && catalogue.is_none_or(|catalogue| catalogue.known.is_empty()) {
        eprintln!("no models in {}", store.root().display());
        eprintln!("hint: see what there is with: pg_answer_model list --available");
    } else {
        print(&table(&rows, catalogue))?;
    }
    for failure in &damaged {
        eprint!("{}", failure.report());
    }
    match damaged.len() {
        0 => Ok(()),
        n => Err(Failure::local(format!("{n} of the folders hold no usable model"))),
    }
}

/// Prints to standard output; a reader that has gone (`| head`) is no error.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Failure::local(format!("could not print: {e}"))),
        _ => Ok(()),
    }
}

fn array(value: serde_json::Value) -> Option<Vec<serde_json::Value>> {
    match value {
        serde_json::Value::Array(items) => Some(items),
        _ => None,
    }
}

/// The rows, and with a catalogue what they are for and what else can be added by hand.
fn table(rows: &[Row], catalogue: Option<&Catalogue>) -> String {
    const COLUMNS: usize = 11;
    let head: [&str; COLUMNS] = [
        "NAME",
        "KIND",
        "ARCHITECTURE",
        "DIMS",
        "CONTEXT",
        "QUANTIZATION",
        "SIZE",
        "LICENSE",
        "INSTALLED",
        "SHA-256 BY",
        "USE",
    ];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        let card = row.card;
        [
            card.name.clone(),
            card.kind.as_str().to_owned(),
            card.architecture.clone(),
            card.dims.map_or("-".to_owned(), |dims| dims.to_string()),
            card.context_length.to_string(),
            card.quantization.clone(),
            HumanBytes(row.bytes).to_string(),
            card.license.clone(),
            row.path.as_ref().map_or("-".to_owned(), |path| path.display().to_string()),
            "catalogue".to_owned(),
            card.description.clone(),
        ]
    }));
    lines.extend(catalogue.iter().flat_map(|catalogue| &catalogue.known).map(|known: &Known| {
        [
            known.name.clone(),
            known.kind.as_str().to_owned(),
            known.architecture.clone(),
            known.dims.map_or("-".to_owned(), |dims| dims.to_string()),
            known.context_length.to_string(),
            "-".to_owned(),
            format!("~{} MB", known.megabytes),
            known.license.clone(),
            "-".to_owned(),
            "first pull".to_owned(),
            known.description.clone(),
        ]
    }));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    // How to get a model, and what it is for, matter to those who choose one.
    let columns = if catalogue.is_some() { COLUMNS } else { COLUMNS - 2 };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}
