//! Vectors, token counts and texts through SQL against the reference data in `fixtures/`.

use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{Context, Result, ensure};
use pg_answer_tests::cluster::SUPERUSER;
use pg_answer_tests::{Cluster, DECODER, ENCODER, Options, fixtures};
use serde::Deserialize;

const DIMS: usize = 384;

fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    // A panic, since every test of this binary would end with the same error.
    SHARED.get_or_init(|| Options::default().models().start().unwrap_or_else(|e| panic!("{e:?}")))
}

#[derive(Deserialize)]
struct EmbedCase {
    category: String,
    text: String,
    n_tokens_untruncated: i32,
}

fn embed_cases() -> Result<(Vec<EmbedCase>, Vec<Vec<f32>>)> {
    let cases: Vec<EmbedCase> = fixtures::json_lines("embed/minilm_reference.jsonl")?;
    let vectors = fixtures::npy_rows("embed/minilm_reference.npy", DIMS)?;
    ensure!(cases.len() == 461 && vectors.len() == 461, "{} texts, {} vectors", cases.len(), vectors.len());
    Ok((cases, vectors))
}

/// Largest difference of an element, and the cosine.
fn compare(a: &[f32], b: &[f32]) -> (f32, f64) {
    let dot =
        |x: &[f32], y: &[f32]| -> f64 { x.iter().zip(y).map(|(p, q)| f64::from(*p) * f64::from(*q)).sum() };
    let largest = a.iter().zip(b).map(|(p, q)| (p - q).abs()).fold(0.0, f32::max);
    (largest, dot(a, b) / (dot(a, a) * dot(b, b)).sqrt())
}

/// Fails unless `got` is near the reference's vector of `case`; the tests of the crate ask for more in the mean.
fn check(case: &EmbedCase, got: &[f32], reference: &[f32]) -> Result<(f32, f64)> {
    let (largest, cosine) = compare(got, reference);
    let text: String = case.text.chars().take(60).collect();
    ensure!(
        got.len() == DIMS && cosine >= 0.999,
        "{} {text:?}: cosine {cosine}, largest difference {largest:e}",
        case.category
    );
    Ok((largest, cosine))
}

#[test]
fn vectors_are_the_references() -> Result<()> {
    let (cases, vectors) = embed_cases()?;
    let mut client = shared().client(&shared().create_database("embed")?)?;
    let single = client.prepare("SELECT embed($1)::real[]")?;
    let (mut largest, mut cosine) = (0_f32, 1_f64);
    for (case, vector) in cases.iter().zip(&vectors) {
        let got: Vec<f32> = client.query_one(&single, &[&case.text])?.get(0);
        let (l, c) = check(case, &got, vector)?;
        (largest, cosine) = (largest.max(l), cosine.min(c));
    }
    println!("461 texts: largest difference {largest:e}, least cosine {cosine}");
    Ok(())
}

#[test]
fn a_batch_is_its_singles() -> Result<()> {
    let (cases, vectors) = embed_cases()?;
    let mut client = shared().client(&shared().create_database("batch")?)?;
    let texts: Vec<&str> = cases.iter().map(|case| case.text.as_str()).collect();
    let rows = client.query(
        "SELECT v::real[] FROM unnest(embed($1::text[], $2)) WITH ORDINALITY AS t (v, i) ORDER BY i",
        &[&texts, &ENCODER],
    )?;
    ensure!(rows.len() == cases.len());
    for ((case, row), vector) in cases.iter().zip(&rows).zip(&vectors) {
        check(case, &row.get::<_, Vec<f32>>(0), vector)?;
    }
    // NULL elements stay NULL in their places; nothing comes of nothing.
    let row = client.query_one(
        "SELECT (embed(ARRAY['a', NULL, 'b'], $1))[2] IS NULL,
                (embed(ARRAY['a', NULL, 'b'], $1))[3] <-> embed('b', $1) < 1e-5,
                cardinality(embed('{}'::text[], $1)), embed(NULL::text, $1) IS NULL, embed(NULL::text) IS NULL",
        &[&ENCODER],
    )?;
    let got = (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4));
    ensure!(got == (true, true, 0_i32, true, true), "{got:?}");
    Ok(())
}

#[test]
fn token_counts_are_the_references() -> Result<()> {
    let (cases, _) = embed_cases()?;
    let mut client = shared().client(&shared().create_database("count")?)?;
    let count = client.prepare("SELECT count_tokens($1)")?;
    for case in &cases {
        let got: i32 = client.query_one(&count, &[&case.text])?.get(0);
        ensure!(
            got == case.n_tokens_untruncated,
            "{:?}: {got} instead of {}",
            case.text,
            case.n_tokens_untruncated
        );
    }
    Ok(())
}

#[test]
fn long_texts_are_cut_as_the_setting_says() -> Result<()> {
    let notices = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&notices);
    let mut config = shared().config(SUPERUSER, &shared().create_database("cut")?);
    config.notice_callback(move |notice| sink.lock().expect("no panic").push(notice.message().to_owned()));
    let mut client = config.connect(postgres::NoTls)?;
    // 402 tokens, of which the model reads 256.
    let long = "SELECT embed(repeat('word ', 400))";
    for (setting, expected) in [("ignore", 0), ("notice", 1)] {
        client.batch_execute(&format!("SET pg_answer.on_truncate = {setting}"))?;
        client.batch_execute(long)?;
        client.batch_execute("SELECT embed('short')")?;
        let notices = std::mem::take(&mut *notices.lock().expect("no panic"));
        ensure!(notices.len() == expected, "{setting}: {notices:?}");
        ensure!(notices.iter().all(|n| n.contains("402") && n.contains("256")), "{notices:?}");
    }
    client.batch_execute("SET pg_answer.on_truncate = error")?;
    let error = client.batch_execute(long).unwrap_err();
    let error = error.as_db_error().context("the session died")?;
    ensure!(error.message().contains("402") && error.message().contains("256"), "{error:?}");
    ensure!(error.code().code().starts_with("22") || error.code().code().starts_with("54"), "{error:?}");
    client.batch_execute("SELECT embed('short')")?;
    Ok(())
}

#[derive(Deserialize)]
struct GenerateCase {
    id: String,
    messages: Vec<Message>,
    n_prompt: usize,
    text: String,
    margins: Vec<f64>,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: String,
}

/// Where every choice of the reference is clear, SQL gives its text.
#[test]
fn greedy_texts_are_the_references() -> Result<()> {
    let cases: Vec<GenerateCase> = fixtures::json_lines("generate/qwen2.5-0.5b_greedy.jsonl")?;
    let mut client = shared().client(&shared().create_database("generate")?)?;
    let sql = "SELECT generate($1, model => $2, system => $3, max_tokens => 48)";
    let mut compared = 0;
    for case in &cases {
        let (system, prompt) = match case.messages.as_slice() {
            [user] if user.role == "user" => (None, &user.content),
            [system, user] if system.role == "system" && user.role == "user" => {
                (Some(&system.content), &user.content)
            }
            _ => continue,
        };
        // Below that another token may be right, and what follows cannot be compared.
        if case.margins.iter().any(|margin| *margin < 0.25) {
            continue;
        }
        let text: String = client.query_one(sql, &[prompt, &DECODER, &system])?.get(0);
        ensure!(
            text == case.text,
            "{} ({} tokens): {text:?} instead of {:?}",
            case.id,
            case.n_prompt,
            case.text
        );
        compared += 1;
    }
    ensure!(compared >= 7, "only {compared} cases compared");
    Ok(())
}

#[test]
fn options_of_generate() -> Result<()> {
    let mut client = shared().client(&shared().create_database("options")?)?;
    let mut text = |options: &str| -> Result<String> {
        let sql = format!("SELECT generate('Write a sentence about rain.', {options})");
        Ok(client.query_one(&sql, &[])?.get(0))
    };
    let hot = "temperature => 1.5, top_p => 0.95, max_tokens => 24, seed =>";
    let (one, two) = (text(&format!("{hot} 1"))?, text(&format!("{hot} 2"))?);
    ensure!(one == text(&format!("{hot} 1"))?, "a seed must fix the text");
    ensure!(one != two, "seeds 1 and 2 give the same text: {one:?}");
    let greedy = text("max_tokens => 24")?;
    ensure!(greedy == text("max_tokens => 24, temperature => 0, seed => 7")?);
    let word = greedy.split_whitespace().nth(3).context("a short text")?.to_owned();
    let stopped = text(&format!("max_tokens => 24, stop => ARRAY['{word}']"))?;
    ensure!(
        greedy.starts_with(&stopped) && !stopped.contains(&word),
        "{stopped:?} of {greedy:?} at {word:?}"
    );
    let first = text("max_tokens => 1")?;
    ensure!(!first.is_empty() && greedy.starts_with(&first), "{first:?} of {greedy:?}");
    for nonsense in [
        "max_tokens => 0",
        "max_tokens => -1",
        "temperature => -1",
        "temperature => 'NaN'",
        "temperature => 'Infinity'",
        "top_p => 0",
        "top_p => 1.5",
        "top_p => 'NaN'",
    ] {
        let error = client.batch_execute(&format!("SELECT generate('x', {nonsense})")).unwrap_err();
        let error = error.as_db_error().context("the session died")?;
        ensure!(error.code().code().starts_with("22"), "{nonsense}: {error:?}");
    }
    let error = client.batch_execute("SELECT generate(repeat('word ', 40000))").unwrap_err();
    let error = error.as_db_error().context("the session died")?;
    ensure!(!error.code().code().starts_with("XX"), "{error:?}");
    ensure!(client.query_one("SELECT generate(NULL)", &[])?.get::<_, Option<String>>(0).is_none());
    Ok(())
}

/// Text that spells a special token is text: it cannot end a turn or begin another.
#[test]
fn special_tokens_in_a_prompt_are_text() -> Result<()> {
    let mut client = shared().client(&shared().create_database("special")?)?;
    let count: i32 = client.query_one("SELECT count_tokens('<|im_end|>', $1)", &[&DECODER])?.get(0);
    ensure!(count > 1, "<|im_end|> in a text is a special token");
    Ok(())
}
