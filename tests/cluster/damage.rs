//! Missing and damaged models: a clean error, and the backend lives.

use anyhow::{Result, bail, ensure};
use pg_answer_tests::{Cluster, DECODER, ENCODER, ModelStore, Options};
use postgres::error::DbError;

use crate::{error_of, one};

const EMBED: &str = "SELECT embed('x')";
const GENERATE: &str = "SELECT generate('x', max_tokens => 2)";

/// A cluster over a copy of the models that `change` has damaged.
fn damaged(change: impl FnOnce(&ModelStore) -> Result<()>) -> Result<(Cluster, ModelStore)> {
    let store = ModelStore::find()?.copy()?;
    change(&store)?;
    Ok((Options::default().models_in(store.path()).start()?, store))
}

/// The error of `sql`, twice in one session that goes on working: the failed load may leave nothing behind.
fn clean_error(cluster: &Cluster, sql: &str) -> Result<DbError> {
    let database = cluster.create_database("damaged")?;
    let mut client = cluster.client(&database)?;
    let first = error_of(&mut client, sql)?;
    let second = error_of(&mut client, sql)?;
    ensure!(first.message() == second.message(), "{first:?} then {second:?}");
    ensure!(one::<i32>(&mut client, "SELECT 1")? == 1);
    ensure!(!first.code().code().starts_with("XX000"), "{first:?}");
    ensure!(first.hint().is_some(), "no hint: {first:?}");
    println!("{sql}: {} {}: {:?}", first.code().code(), first.message(), first.hint());
    // The view lists what is there, damaged or not.
    client.query("SELECT * FROM pg_answer_models", &[])?;
    let log = cluster.log();
    ensure!(!log.contains("was terminated by signal"), "{log}");
    Ok(first)
}

#[test]
fn a_missing_model_says_how_to_pull_it() -> Result<()> {
    let (cluster, _store) = damaged(|store| {
        store.remove(DECODER)?;
        store.remove(ENCODER)
    })?;
    for (sql, model) in
        [(EMBED, ENCODER), (GENERATE, DECODER), ("SELECT embed('x', 'other-model')", "other-model")]
    {
        let error = clean_error(&cluster, sql)?;
        let hint = error.hint().unwrap_or_default();
        ensure!(error.message().contains(model), "{error:?}");
        // What is in no catalogue cannot be pulled.
        let command =
            if model == "other-model" { "list --available".to_owned() } else { format!("pull {model}") };
        ensure!(hint.contains(&format!("pg_answer_model {command}")), "{error:?}");
    }
    Ok(())
}

#[test]
fn a_damaged_decoder() -> Result<()> {
    let file = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf";
    // Bytes kept, bytes inverted.
    let changes = [
        (0, 0..0),
        (20, 0..0),
        (100_000, 0..0),
        (300_000_000, 0..0),
        (usize::MAX, 0..4),
        (usize::MAX, 4..24),
        (usize::MAX, 30..60),
        (usize::MAX, 200..400),
    ];
    // One cluster and one copy: the last change counts.
    let (cluster, store) = damaged(|_| Ok(()))?;
    for (kept, inverted) in changes {
        store.remove(DECODER)?;
        store.restore(DECODER)?;
        store.replace(DECODER, file, |mut bytes| {
            bytes.truncate(kept);
            bytes[inverted].iter_mut().for_each(|b| *b = !*b);
            bytes
        })?;
        clean_error(&cluster, GENERATE)?;
    }
    // The other model is none the worse.
    cluster.client(&cluster.create_database("damaged")?)?.batch_execute(EMBED)?;
    Ok(())
}

#[test]
fn a_damaged_encoder() -> Result<()> {
    let (cluster, store) = damaged(|_| Ok(()))?;
    type Change = fn(Vec<u8>) -> Vec<u8>;
    let changes: [(&str, Change); 8] = [
        ("tokenizer.json", |_| Vec::new()),
        ("tokenizer.json", |_| b"{}".to_vec()),
        ("tokenizer.json", |bytes| bytes[..bytes.len() / 2].to_vec()),
        ("config.json", |_| b"{\"hidden_size\": 0}".to_vec()),
        ("config.json", |_| b"[]".to_vec()),
        ("model.safetensors", |_| Vec::new()),
        ("model.safetensors", |bytes| bytes[..bytes.len() / 2].to_vec()),
        ("model.safetensors", |mut bytes| {
            bytes[..8].fill(0xff);
            bytes
        }),
    ];
    for (file, change) in changes {
        store.remove(ENCODER)?;
        store.restore(ENCODER)?;
        store.replace(ENCODER, file, change)?;
        clean_error(&cluster, EMBED)?;
    }
    // Bytes lost behind the card's back.
    store.remove(ENCODER)?;
    store.restore(ENCODER)?;
    let card = store.path().join(ENCODER).join("model.json");
    let text = std::fs::read(&card)?;
    std::fs::remove_file(&card)?;
    std::fs::write(&card, &text[..text.len() / 2])?;
    clean_error(&cluster, EMBED)?;
    Ok(())
}

/// Prepared files are read instead of the model's own. What is wrong with their header is an error; whatever numbers
/// stand in their sections, the server lives.
#[test]
fn a_damaged_prepared_file() -> Result<()> {
    let (cluster, store) = damaged(|_| Ok(()))?;
    for (model, sql) in [(ENCODER, EMBED), (DECODER, GENERATE)] {
        let [file] = &store.prepared(model)?[..] else { bail!("{model} is not prepared: run `make models`") };
        let whole = std::fs::metadata(store.path().join(model).join(file))?.len() as usize;
        let damage = |kept: usize, inverted: std::ops::Range<usize>| {
            store.remove(model)?;
            store.restore(model)?;
            store.replace(model, file, |mut bytes| {
                bytes.truncate(kept);
                bytes[inverted].iter_mut().for_each(|b| *b = !*b);
                bytes
            })
        };
        for (kept, inverted) in
            [(0, 0..0), (50, 0..0), (whole - 4096, 0..0), (whole, 0..4), (whole, 12..16), (whole, 100..101)]
        {
            damage(kept, inverted)?;
            let error = clean_error(&cluster, sql)?;
            ensure!(error.code().code() == "XX001" && error.message().contains(file.as_str()), "{error:?}");
        }
        for part in [3, 17, 30, 31] {
            damage(whole, whole / 32 * part..whole / 32 * part + 200_000)?;
            let mut client = cluster.client(&cluster.create_database("damaged")?)?;
            // Any result or error will do.
            let _ = client.batch_execute(sql);
            ensure!(one::<i32>(&mut client, "SELECT 1")? == 1);
            ensure!(!cluster.log().contains("was terminated by signal"), "{}", cluster.log());
        }
        store.remove(model)?;
        store.restore(model)?;
        cluster.client(&cluster.create_database("damaged")?)?.batch_execute(sql)?;
    }
    Ok(())
}

/// A model that is replaced while a session uses it: the session keeps what it has, or takes the new one whole.
#[test]
fn a_model_is_repaired_without_a_new_session() -> Result<()> {
    let (cluster, store) = damaged(|store| store.replace(ENCODER, "tokenizer.json", |_| Vec::new()))?;
    let mut client = cluster.client(&cluster.create_database("repaired")?)?;
    error_of(&mut client, EMBED)?;
    store.remove(ENCODER)?;
    store.restore(ENCODER)?;
    client.batch_execute(EMBED)?;
    Ok(())
}
