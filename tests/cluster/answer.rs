//! Answers: what they rest on, when they are refused, and what the model is asked.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::{FACTS, QUESTION, docs, error_of, expect_code, one, session, shared};

#[test]
fn details_tell_what_an_answer_rests_on() -> Result<()> {
    let (_, mut client) = session("details")?;
    docs(&mut client)?;
    let row = client.query_one(
        "SELECT answer, refused, confidence, citations, passages, model, prompt_tokens, answer_tokens, retrieve_ms,
                first_token_ms, total_ms FROM rag_answer_details($1, 'docs', max_tokens => 48)",
        &[&QUESTION],
    )?;
    let (answer, refused, confidence): (&str, bool, f64) = (row.get(0), row.get(1), row.get(2));
    let (citations, passages): (Value, Value) = (row.get(3), row.get(4));
    println!("{answer} {confidence} {citations}");
    ensure!(answer.contains("38") && !refused && confidence > 0.5 && confidence <= 1.0);
    let citation = &citations[0];
    let number = citation["passage"].as_u64().unwrap_or(0);
    ensure!(answer.contains(&format!("[{number}]")), "{answer}: {citations}");
    ensure!(citation["source"] == "public.docs" && citation["key"]["id"] == 2, "{citations}");
    let cited = &passages[usize::try_from(number)? - 1];
    ensure!(cited["content"] == FACTS[1] && cited["key"] == citation["key"], "{passages}");
    let (start, end) = (citation["start_char"].as_u64(), citation["end_char"].as_u64());
    let characters = FACTS[1].chars().skip(usize::try_from(start.unwrap_or(0))?);
    let quote: String = characters.take(usize::try_from(end.unwrap_or(0) - start.unwrap_or(0))?).collect();
    ensure!(citation["quote"] == quote.as_str() && quote.contains("38"), "{citations}");
    ensure!(row.get::<_, i32>(6) > 50 && row.get::<_, i32>(7) > 3);
    let times: Vec<f64> = (8..11).map(|i| row.get(i)).collect();
    ensure!(times[0] > 0.0 && times.is_sorted(), "{times:?}");
    Ok(())
}

/// What all prompts begin with is kept for other sessions, whose answers are the same.
#[test]
fn instructions_are_read_once_for_all_sessions() -> Result<()> {
    let (database, mut client) = session("instructions")?;
    docs(&mut client)?;
    let ask = format!("SELECT rag_answer('{QUESTION}', 'docs', max_tokens => 32)");
    let first = one::<String>(&mut client, &ask)?;
    let kept =
        "SELECT count(*) FROM pg_ls_dir('pg_stat_tmp') AS f WHERE f ~ '^pg_answer\\.[0-9a-f]{64}\\.keys$'";
    ensure!(one::<i64>(&mut client, kept)? > 0);
    ensure!(one::<String>(&mut shared().client(&database)?, &ask)? == first);
    Ok(())
}

/// Without evidence the model is not asked, and says the refusal that is wanted.
#[test]
fn refuses_without_evidence() -> Result<()> {
    let (_, mut client) = session("refuses")?;
    docs(&mut client)?;
    for (arguments, refused) in [
        ("min_similarity => 0.99", true),
        ("max_unknown => -1", true),
        ("min_similarity => NULL, max_unknown => NULL", false),
        ("\"where\" => '{\"id\": 0}'", true),
    ] {
        let sql = format!(
            "SELECT * FROM rag_answer_details('{QUESTION}', 'docs', max_tokens => 32, refusal => NULL, {arguments})"
        );
        let row = client.query_one(&sql, &[])?;
        ensure!(row.get::<_, bool>("refused") == refused, "{arguments}");
        ensure!(row.get::<_, Option<String>>("answer").is_none() == refused, "{arguments}");
        if refused {
            let tokens: i32 = row.get("prompt_tokens");
            ensure!(
                tokens == 0 && row.get::<_, f64>("confidence") == 0.0,
                "{arguments}: the model was asked"
            );
        }
    }
    let none = "SELECT rag_answer(NULL, 'docs') IS NULL AND rag_answer(NULL, ARRAY['x']) IS NULL AND rag_prompt(NULL, 'docs') IS NULL";
    ensure!(one::<bool>(&mut client, none)?);
    let refusal = "SELECT rag_answer('Who?', ARRAY[NULL, ' ']::text[], refusal => 'No.')";
    ensure!(one::<String>(&mut client, refusal)? == "No.");
    let wrong = "SELECT rag_answer('What does sand cost?', 'docs', on_unsupported => 'burn')";
    expect_code(&error_of(&mut client, wrong)?, "22023")?;
    Ok(())
}

#[test]
fn a_chinese_question_is_refused_in_chinese() -> Result<()> {
    let (_, mut client) = session("chinese")?;
    docs(&mut client)?;
    for (call, refusal) in [
        ("rag_answer('谁赢得了世界杯？', 'docs', \"where\" => '{\"id\": 0}')", "现有资料无法回答这个问题。"),
        ("rag_answer('谁赢得了世界杯？', ARRAY[' '])", "现有资料无法回答这个问题。"),
        (
            "rag_answer_stream('谁赢得了世界杯？', 'docs', \"where\" => '{\"id\": 0}')",
            "现有资料无法回答这个问题。",
        ),
        ("rag_answer('谁赢得了世界杯？', 'docs', \"where\" => '{\"id\": 0}', refusal => 'No.')", "No."),
        ("rag_answer('Who won?', ARRAY[' '])", "I cannot answer this from the available sources."),
    ] {
        let said = one::<String>(&mut client, &format!("SELECT {call}"))?;
        ensure!(said == refusal, "{call}: {said}");
    }
    let prompt =
        one::<String>(&mut client, "SELECT rag_prompt('沙子多少钱？', 'docs', min_similarity => NULL)")?;
    ensure!(
        prompt.contains("现有资料无法回答这个问题。") && prompt.contains("问题：沙子多少钱？"),
        "{prompt}"
    );
    Ok(())
}

/// Where the encoder does not know the language, a question that shares no words with what is found is refused.
#[test]
fn a_question_without_a_word_of_the_source_is_refused() -> Result<()> {
    let (_, mut client) = session("foreign")?;
    docs(&mut client)?;
    client.execute(
        "INSERT INTO docs (body) VALUES ('石英砂每吨价格为三十八欧元。'), ('渡轮早上六点四十分出发。')",
        &[],
    )?;
    let details =
        "SELECT prompt_tokens > 0 FROM rag_answer_details($1, 'docs', min_similarity => $2, max_tokens => 1)";
    for (question, least, asked) in [
        ("渡轮几点出发？", Some(0.4), true),
        ("谁赢得了世界杯？", Some(0.4), false),
        ("谁赢得了世界杯？", None, true),
    ] {
        let is_asked: bool = client.query_one(details, &[&question, &least])?.get(0);
        ensure!(is_asked == asked, "{question}");
    }
    Ok(())
}

/// `min_similarity` is about all that is found: the passages with the best scores need not be the nearest ones.
#[test]
fn the_nearest_passage_counts_wherever_it_stands() -> Result<()> {
    let (_, mut client) = session("nearest")?;
    docs(&mut client)?;
    client.execute("INSERT INTO docs (body) VALUES ('Loaves stay in the oven for an hour.')", &[])?;
    let question = "How long must a loaf bake, says the lighthouse door code?";
    let row = client.query_one(
        "SELECT (array_agg(vector_score ORDER BY score DESC))[1], max(vector_score) FROM rag_retrieve($1, 'docs', 50)",
        &[&question],
    )?;
    let (best, nearest): (f64, f64) = (row.get(0), row.get(1));
    ensure!(best < nearest, "the best is the nearest");
    let details = "SELECT prompt_tokens > 0 FROM rag_answer_details($1, 'docs', 1, min_similarity => $2, max_unknown => NULL, max_tokens => 1)";
    for (least, asked) in [((best + nearest) / 2.0, true), (nearest + 0.001, false)] {
        let is_asked: bool = client.query_one(details, &[&question, &least])?.get(0);
        ensure!(is_asked == asked, "{best} {nearest} {least}");
    }
    Ok(())
}

#[test]
fn the_prompt_is_what_the_templates_say() -> Result<()> {
    let (_, mut client) = session("prompt")?;
    docs(&mut client)?;
    let prompt = |client: &mut postgres::Client, arguments: &str| {
        one::<String>(client, &format!("SELECT rag_prompt('{QUESTION}', 'docs'{arguments})"))
    };
    let usual = prompt(&mut client, "")?;
    ensure!(usual.contains(QUESTION) && usual.contains(FACTS[1]), "{usual}");
    // What is about something else is left out, unless nothing need be near.
    ensure!(!usual.contains(FACTS[2]), "{usual}");
    // Then the better half is read at first, and three at least.
    let first = prompt(&mut client, ", min_similarity => NULL")?;
    ensure!(FACTS.iter().filter(|fact| first.contains(**fact)).count() == 3, "{first}");
    // A small budget keeps the best passage whole, and the question.
    let short = prompt(&mut client, ", context_tokens => 40")?;
    ensure!(short.contains(QUESTION) && short.contains(FACTS[1]) && !short.contains(FACTS[0]), "{short}");
    client.batch_execute(
        "INSERT INTO pg_answer_prompts VALUES (NULL, 1, 'ALL', 'Q {{ query }}'), ('docs', 1, 'OLD', ''),
             ('docs', 2, 'MINE {{ refusal }}', '{% for p in passages %}<{{ p.content }}>{% endfor %} {{ query }}')",
    )?;
    let own = prompt(&mut client, "")?;
    ensure!(own.contains("MINE I cannot answer") && own.contains(&format!("<{}>", FACTS[1])), "{own}");
    let all = one::<String>(&mut client, &format!("SELECT rag_prompt('{QUESTION}')"))?;
    ensure!(all.contains("ALL"), "{all}");
    client.batch_execute("INSERT INTO pg_answer_prompts VALUES ('docs', 3, '{% if %}', '')")?;
    expect_code(&error_of(&mut client, "SELECT rag_prompt('sand', 'docs')")?, "22023")?;
    Ok(())
}

/// A wrong source is told of before any statement of the extension's own runs.
#[test]
fn a_wrong_source_is_a_short_error() -> Result<()> {
    let (_, mut client) = session("short_error")?;
    docs(&mut client)?;
    for call in [
        "rag_answer('x', 'pg_class')",
        "rag_chat('c', 'x', 'pg_class')",
        "rag_answer_stream('x', 'pg_class')",
    ] {
        let error = error_of(&mut client, &format!("SELECT {call}"))?;
        expect_code(&error, "42704")?;
        let context = error.where_().unwrap_or_default();
        ensure!(context.lines().count() <= 4 && error.hint().is_some(), "{call}: {context}");
    }
    Ok(())
}

/// So are wrong arguments, before anything is searched for.
#[test]
fn wrong_arguments_are_short_errors() -> Result<()> {
    let (_, mut client) = session("short_arguments")?;
    docs(&mut client)?;
    for (argument, code, lines) in [
        ("k => 0", "22023", 4),
        ("mode => 'guess'", "22023", 4),
        ("expand => -1", "22023", 4),
        ("context_tokens => 0", "22023", 4),
        ("model => 'nobody'", "42704", 4),
        (r#""where" => '[1]'"#, "22023", 7),
        (r#""where" => '{"nobody": 1}'"#, "42703", 7),
    ] {
        for function in ["rag_answer", "rag_answer_details", "rag_answer_stream", "rag_prompt"] {
            let error = error_of(&mut client, &format!("SELECT {function}('x', 'docs', {argument})"))?;
            expect_code(&error, code)?;
            let context = error.where_().unwrap_or_default();
            ensure!(context.lines().count() <= lines, "{function}, {argument}: {context}");
        }
    }
    for argument in
        ["max_tokens => 0", "on_unsupported => 'burn'", "temperature => -1", "temperature => 'NaN'"]
    {
        for function in ["rag_answer", "rag_answer_details", "rag_answer_stream"] {
            let error = error_of(&mut client, &format!("SELECT {function}('x', 'docs', {argument})"))?;
            expect_code(&error, "22023")?;
            let context = error.where_().unwrap_or_default();
            ensure!(context.lines().count() <= 4, "{function}, {argument}: {context}");
        }
    }
    Ok(())
}

#[test]
fn answers_are_evaluated() -> Result<()> {
    let (_, mut client) = session("evaluate_answers")?;
    docs(&mut client)?;
    client.batch_execute(
        "CREATE TABLE asked (question text, expected text[], relevant int);
         INSERT INTO asked VALUES ('What does quartz sand cost?', '{38}', 2),
             ('When does the ferry to Sandholm leave?', '{noon}', 1), ('Who won the World Cup in 2018?', NULL, NULL), (NULL, '{x}', 1)",
    )?;
    let mut metric = |name: &str, arguments: &str| -> Result<Option<f64>> {
        let sql = format!(
            "SELECT value FROM evaluate_answers('asked', 'docs', max_tokens => 32{arguments}) WHERE metric = '{name}'"
        );
        one(&mut client, &sql)
    };
    for (name, value) in [
        ("questions", 3.0),
        ("right_answer", 0.5),
        ("right_citation", 0.5),
        ("wrongly_refused", 0.0),
        ("unanswerable_refused", 1.0),
    ] {
        ensure!(metric(name, "")? == Some(value), "{name}");
    }
    ensure!(metric("wrongly_refused", ", min_similarity => 0.99, relevant => NULL")? == Some(1.0));
    ensure!(metric("right_citation", ", min_similarity => 0.99, relevant => NULL")?.is_none());
    let says = |answer: &str, expected: &str, patterns: bool| {
        format!("SELECT pg_answer_says('{answer}', '{expected}', {patterns})")
    };
    for (sql, holds) in [
        (says("It costs 38 EUROS (net).", "38 euros (", false), true),
        (says("It costs 380 euros.", "38", false), false),
        (says("Version 1038", "38", false), false),
        (says("a.b", "a_b", false), false),
        (says("a.b", "a.b", false), true),
        (says("axb", "a.b", false), false),
        (says("axb", "^a.B$", true), true),
    ] {
        ensure!(one::<bool>(&mut client, &sql)? == holds, "{sql}");
    }
    Ok(())
}
