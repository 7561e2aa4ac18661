//! Models of other families than the two that are always there, through SQL: the tiny ones of the fixtures.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pg_answer_tests::{Cluster, Options, fixtures};
use postgres::Client;
use serde_json::{Value, json};

use crate::{error_of, expect_code, one};

/// Name, kind, family and dimensions of the models.
const MODELS: [(&str, &str, &str, Option<usize>); 13] = [
    ("bert_cls", "encoder", "bert", Some(48)),
    ("nomic", "encoder", "nomic", Some(48)),
    ("jina", "encoder", "jina", Some(48)),
    ("mpnet", "encoder", "mpnet", Some(48)),
    ("qwen3_embedding", "encoder", "llama", Some(32)),
    ("static", "encoder", "static", Some(32)),
    ("phi4_mini", "decoder", "llama", None),
    ("xlm_roberta_mean", "encoder", "roberta", Some(48)),
    ("modernbert_mean", "encoder", "modernbert", Some(48)),
    ("bert_cross_encoder", "cross-encoder", "bert-cross-encoder", None),
    ("gpt2", "decoder", "gpt2", None),
    ("t5_relu", "encoder-decoder", "t5", None),
    ("bart", "encoder-decoder", "bart", None),
];

/// A folder of models with the tiny ones in it.
fn store() -> Result<tempfile::TempDir> {
    let root = tempfile::Builder::new().prefix("pg_answer_tiny.").tempdir()?;
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755))?;
    for (name, kind, architecture, dims) in MODELS {
        let (from, to) = (fixtures::path(&format!("tiny/{name}")), root.path().join(name));
        let mut files = Vec::new();
        for path in [
            "model.safetensors",
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "modules.json",
            "sentence_bert_config.json",
            "config_sentence_transformers.json",
            "1_Pooling/config.json",
        ] {
            if from.join(path).exists() {
                let target = to.join(path);
                fs::create_dir_all(target.parent().unwrap_or(Path::new("/")))?;
                fs::copy(from.join(path), &target)?;
                let bytes = fs::metadata(&target)?.len();
                files.push(json!({ "path": path, "bytes": bytes, "sha256": "0".repeat(64) }));
            }
        }
        let mut card = json!({
            "name": name, "kind": kind, "architecture": architecture, "context_length": 48,
            "quantization": "F32", "license": "PostgreSQL", "files": files,
        });
        if let Some(dims) = dims {
            card["dims"] = dims.into();
        }
        fs::write(to.join("model.json"), card.to_string())?;
    }
    Ok(root)
}

fn start() -> Result<(tempfile::TempDir, Cluster, Client)> {
    let store = store()?;
    let cluster = Options::default().models_in(store.path()).start()?;
    let database = cluster.create_database("families")?;
    let client = cluster.client(&database)?;
    Ok((store, cluster, client))
}

fn cases(name: &str) -> Result<Vec<Value>> {
    let text = fs::read(fixtures::path(&format!("tiny/{name}/reference.json")))?;
    let reference: Value = serde_json::from_slice(&text)?;
    reference["cases"].as_array().cloned().context("no cases")
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().into_iter().flatten().filter_map(|x| Some(x.as_f64()? as f32)).collect()
}

#[test]
fn every_family_answers_through_sql_as_its_origin_does() -> Result<()> {
    let (_store, _cluster, mut client) = start()?;
    // The first token of a text, the mean of all, the largest values, the last token.
    for (name, ..) in MODELS.iter().filter(|(_, kind, ..)| *kind == "encoder") {
        for case in cases(name)? {
            let text = case["text"].as_str().unwrap_or_default();
            let function = if case["prompt"].is_string() { "embed_query" } else { "embed" };
            let sql = format!("SELECT {function}($1, $2)::real[], {function}($1, $2, 16)::real[]");
            let row = client.query_one(&sql, &[&text, &name])?;
            let (got, short): (Vec<f32>, Vec<f32>) = (row.try_get(0)?, row.try_get(1)?);
            let want = floats(&case["embedding"]);
            ensure!(got.len() == want.len() && short.len() == 16);
            ensure!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-5), "{name}: {text}");
            let length = want[..16].iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
            ensure!(short.iter().zip(&want).all(|(a, b)| (a - b / length).abs() < 1e-4), "{name}: {text}");
        }
    }
    for case in cases("bert_cross_encoder")? {
        let (query, passage) = (case["query"].as_str(), case["passage"].as_str());
        let got: Vec<Option<f32>> = client
            .query_one("SELECT rerank($1, ARRAY[$2, NULL, $2], 'bert_cross_encoder')", &[&query, &passage])?
            .try_get(0)?;
        let want = case["logit"].as_f64().unwrap_or(f64::NAN) as f32;
        ensure!(got.len() == 3 && got[1].is_none() && got[0] == got[2], "{got:?}");
        ensure!(got[0].is_some_and(|score| (score - want).abs() < 1e-5), "{got:?}, not {want}");
    }
    for (name, key) in [("gpt2", "greedy_text"), ("phi4_mini", "greedy_text"), ("t5_relu", "greedy_text")] {
        for case in cases(name)? {
            let text = case["text"].as_str().unwrap_or_default();
            let sql = "SELECT generate($1, $2, max_tokens => 16)";
            let got: String = client.query_one(sql, &[&text, &name])?.try_get(0)?;
            let want = case[key].as_str().unwrap_or_default().replace('\0', "\u{FFFD}");
            ensure!(got == want, "{name}: {got:?}, not {want:?}");
        }
    }
    ensure!(!one::<String>(&mut client, "SELECT generate('a client', 'bart', max_tokens => 8)")?.is_empty());
    // A session keeps eight models.
    let loaded = "SELECT count(*) FROM pg_answer_models WHERE loaded AND memory > 0";
    ensure!(one::<i64>(&mut client, loaded)? == 8);
    Ok(())
}

#[test]
fn what_a_model_cannot_do_is_an_error() -> Result<()> {
    let (_store, _cluster, mut client) = start()?;
    for (sql, code) in [
        ("SELECT embed('x', 'gpt2')", "0A000"),
        ("SELECT embed('x', 'bert_cross_encoder')", "0A000"),
        ("SELECT rerank('x', ARRAY['y'], 'xlm_roberta_mean')", "0A000"),
        ("SELECT rerank('x', ARRAY['y'])", "42704"),
        ("SELECT generate('x', 'xlm_roberta_mean')", "0A000"),
        ("SELECT generate('x', 'gpt2', system => 'y')", "22023"),
        ("SELECT generate('x', 'gpt2', top_k => -1)", "22023"),
        ("SELECT generate('x', 'gpt2', min_p => 1)", "22023"),
        ("SELECT generate('x', 'gpt2', repetition_penalty => 0)", "22023"),
        ("SELECT generate(repeat('word ', 1000), 'bart')", "54000"),
        ("SELECT embed('x', 'xlm_roberta_mean', 0)", "22023"),
        ("SELECT embed('x', 'xlm_roberta_mean', 49)", "22023"),
    ] {
        expect_code(&error_of(&mut client, sql)?, code).context(sql)?;
    }
    ensure!(one::<i32>(&mut client, "SELECT vector_dims(embed('x', 'xlm_roberta_mean', 16))")? == 16);
    ensure!(one::<i32>(&mut client, "SELECT cardinality(rerank('x', '{}', 'bert_cross_encoder'))")? == 0);
    ensure!(one::<bool>(&mut client, "SELECT rerank('x', NULL, 'bert_cross_encoder') IS NULL")?);
    // A language model says how likely it would ask the question.
    ensure!(one::<bool>(&mut client, "SELECT (rerank('x', ARRAY['y', NULL], 'gpt2'))[1] < 0")?);
    let drawn =
        "SELECT generate('a client', 'gpt2', max_tokens => 20, temperature => 1, top_k => 40, min_p => 0.01,
        repetition_penalty => 1.2, seed => 3)";
    ensure!(one::<String>(&mut client, drawn)? == one::<String>(&mut client, drawn)?);
    Ok(())
}
