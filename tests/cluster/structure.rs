//! JSON by a schema, and labels.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pg_answer_tests::timing::{HANG, interrupt};
use serde_json::{Value, json};

use crate::{error_of, expect_code, one, session, shared};

/// Schemas that are hard to keep to by chance, with a prompt that says nothing about them.
fn awkward() -> Vec<Value> {
    let short = json!({ "type": "string", "maxLength": 12 });
    vec![
        json!({ "enum": ["石英砂", "a \"quoted\" word", null, 7, { "k": [true] }] }),
        json!({ "type": "integer", "minimum": -3, "exclusiveMaximum": 12 }),
        json!({ "type": "number", "minimum": 0.25, "maximum": 0.75 }),
        json!({ "type": "array", "minItems": 2, "maxItems": 3,
                "items": { "type": "array", "maxItems": 2, "items": { "type": "boolean" } } }),
        json!({ "type": "object", "required": ["ключ", "b"], "additionalProperties": false,
                "properties": { "b": short, "ключ": { "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}$" }, "c": { "const": 1 } } }),
        json!({ "$defs": { "node": { "type": "object", "required": ["v"], "additionalProperties": false,
                "properties": { "v": { "type": "integer", "minimum": 0, "maximum": 9 } } } },
                "type": "array", "minItems": 1, "maxItems": 2, "items": { "$ref": "#/$defs/node" } }),
        json!({ "anyOf": [{ "type": "null" }, { "type": "string", "format": "date" }] }),
    ]
}

#[test]
fn json_is_always_valid() -> Result<()> {
    let (_, mut client) = session("json")?;
    for schema in awkward() {
        let valid = jsonschema::validator_for(&schema).map_err(|e| anyhow::anyhow!("{e}"))?;
        // Drawn wildly, the model leaves no choice to habit.
        for (temperature, seed) in [(0.0, 0_i64), (2.0, 1), (2.0, 2)] {
            let sql = "SELECT generate_json('Tell me a story.', $1, max_tokens => 400, temperature => $2, seed => $3)";
            let row = client.query_one(sql, &[&schema, &temperature, &seed])?;
            let written: Value = row.get(0);
            println!("{written}");
            ensure!(valid.is_valid(&written), "{written} is not valid against {schema}");
        }
    }
    Ok(())
}

/// The first JSON of a session puts the vocabulary in order, which must stop too.
#[test]
fn cancel_stops_the_first_json() -> Result<()> {
    let (database, _) = session("json_cancel")?;
    let long = r#"SELECT generate_json('Tell a long story.', '{"type": "array", "minItems": 900, "items": {"type": "string"}}', max_tokens => 4000)"#;
    for milliseconds in [0, 20, 60, 120, 250] {
        let mut client = shared().client(&database)?;
        // The model is loaded and nothing else.
        one::<i32>(&mut client, "SELECT count_tokens('a', generation_model())")?;
        let after = Duration::from_millis(milliseconds);
        let end = interrupt(shared(), &mut client, long, after, "SELECT pg_cancel_backend($1)")?;
        println!("{} ms after the cancel at {milliseconds}", end.delay.as_millis());
        expect_code(&end.error.context("the session died")?, "57014")?;
        ensure!(end.delay < HANG);
        let written: Value = one(&mut client, r#"SELECT generate_json('Yes?', '{"type": "boolean"}')"#)?;
        ensure!(written.is_boolean(), "{written}");
    }
    Ok(())
}

#[test]
fn facts_are_extracted_and_repeat() -> Result<()> {
    let (_, mut client) = session("extract")?;
    let schema = r#"{"type": "object", "required": ["product", "price", "currency"], "additionalProperties": false,
        "properties": {"product": {"type": "string", "maxLength": 40}, "price": {"type": "number", "minimum": 0},
                       "currency": {"enum": ["EUR", "USD"]}}}"#;
    let sql =
        format!("extract_json('Quartz sand of the Ottel quarry costs 38 euros per tonne.', '{schema}')");
    let first: Value = one(&mut client, &format!("SELECT {sql}"))?;
    println!("{first}");
    ensure!(first["price"] == 38 && first["currency"] == "EUR", "{first}");
    ensure!(first["product"].as_str().context("no product")?.to_lowercase().contains("sand"), "{first}");
    // The decoder goes on from what it has read, and from another text: the answer is the same.
    ensure!(
        one::<String>(&mut client, "SELECT generate('What is the capital of France?', max_tokens => 8)")?
            .contains("Paris")
    );
    ensure!(one::<Value>(&mut client, &format!("SELECT {sql}"))? == first);
    ensure!(
        one::<Value>(&mut client, &format!("SELECT public.{}", sql.replace("extract_json", "extract")))?
            == first
    );
    let none = "SELECT generate_json(NULL, '{}') IS NULL AND generate_json('x', NULL) IS NULL AND extract_json(NULL, '{}') IS NULL";
    ensure!(one::<bool>(&mut client, none)?);
    Ok(())
}

#[test]
fn what_cannot_be_held_is_an_error() -> Result<()> {
    let (_, mut client) = session("schemas")?;
    for (schema, code) in [
        (r#"{"type": "array", "uniqueItems": true}"#, "22023"),
        (r#"{"type": "object", "properties": {"a": {"not": {"type": "null"}}}}"#, "22023"),
        (r#"{"$ref": "https://example.com/schema"}"#, "22023"),
        (r#"{"type": "strange"}"#, "22023"),
        (r#"{"type": "integer", "minimum": 3, "maximum": 2}"#, "22023"),
        (r#"{"enum": []}"#, "22023"),
        ("7", "22023"),
        ("false", "22023"),
    ] {
        let error =
            error_of(&mut client, &format!("SELECT generate_json('x', '{schema}', max_tokens => 40)"))?;
        println!("{schema}: {} {:?} {:?}", error.message(), error.detail(), error.hint());
        expect_code(&error, code)?;
        ensure!(error.detail().is_some() && error.hint().is_some(), "{error:?}");
    }
    // Options of the library must not come in by the schema.
    let lenient = r#"{"type": "array", "uniqueItems": true, "x-guidance": {"lenient": true}}"#;
    expect_code(&error_of(&mut client, &format!("SELECT generate_json('x', '{lenient}')"))?, "22023")?;
    let cut = error_of(
        &mut client,
        r#"SELECT generate_json('Count to a hundred.', '{"type": "array", "minItems": 90, "items": {"type": "integer"}}', max_tokens => 20)"#,
    )?;
    expect_code(&cut, "54000")?;
    ensure!(cut.hint().is_some_and(|hint| hint.contains("max_tokens")), "{cut:?}");
    Ok(())
}

#[test]
fn labels_are_chosen_by_their_probabilities() -> Result<()> {
    let (_, mut client) = session("classify")?;
    for (text, label) in [
        ("The striker scored twice in the second half.", "sport"),
        ("Simmer the onions in butter until they are golden.", "cooking"),
        ("The central bank raised interest rates again.", "finance"),
    ] {
        let found: String = client
            .query_one("SELECT classify($1, ARRAY['finance', 'sport', NULL, 'cooking'])", &[&text])?
            .get(0);
        ensure!(found == label, "{text}: {found}");
    }
    let sums = "SELECT abs(sum(probability) - 1) < 1e-9 AND count(*) = 2 AND bool_and(probability > 0)
        FROM classify_details('It rains.', ARRAY['weather', 'music'])";
    ensure!(one::<bool>(&mut client, sums)?);
    // An encoder does it, too.
    let near = "SELECT classify('The striker scored twice.', ARRAY['sport', 'cooking'], model => 'all-MiniLM-L6-v2')";
    ensure!(one::<String>(&mut client, near)? == "sport");
    ensure!(one::<bool>(
        &mut client,
        "SELECT classify(NULL, ARRAY['a']) IS NULL AND classify('x', NULL) IS NULL"
    )?);
    for wrong in ["ARRAY[]::text[]", "ARRAY[NULL]::text[]", "ARRAY['a', ' ']"] {
        expect_code(&error_of(&mut client, &format!("SELECT classify('x', {wrong})"))?, "22023")?;
    }
    Ok(())
}

#[test]
fn a_cancel_stops_the_writing_of_json() -> Result<()> {
    let (_, mut client) = session("cancel_json")?;
    let endless = r#"SELECT generate_json('Count to ten thousand.', '{"type": "array", "minItems": 5000,
        "items": {"type": "integer"}}', max_tokens => 9000)"#;
    let end = interrupt(
        shared(),
        &mut client,
        endless,
        Duration::from_millis(900),
        "SELECT pg_cancel_backend($1)",
    )?;
    println!("{:>4} ms after the cancel", end.delay.as_millis());
    expect_code(&end.error.context("the session died")?, "57014")?;
    ensure!(end.delay < HANG);
    ensure!(one::<Value>(&mut client, r#"SELECT generate_json('x', '{"const": 1}')"#)? == 1);
    Ok(())
}
