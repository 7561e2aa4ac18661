//! What retrieval finds: by meaning, by words, and by both.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use pg_answer_tests::fixtures;
use postgres::Client;
use serde::Deserialize;

use crate::{QUESTION, docs, error_of, expect_code, one, session};

#[derive(Deserialize)]
struct Text {
    id: String,
    text: String,
}

/// nDCG@10 on a labelled set. `tests/fixtures/retrieval/SOURCES.md` tells where they come from.
struct Set {
    name: &'static str,
    /// Every so many-th question is asked; the figures are of these.
    step: usize,
    /// Of all-MiniLM-L6-v2 with exact search.
    vector: f64,
    /// Of BM25 over stems (English) or pairs of characters (Chinese).
    text: f64,
    /// Of the two by reciprocal ranks.
    fused: f64,
}

const SETS: [Set; 3] = [
    Set { name: "cranfield", step: 1, vector: 0.4215, text: 0.4077, fused: 0.4548 },
    Set { name: "xquad_en", step: 3, vector: 0.9423, text: 0.9657, fused: 0.9651 },
    // The model reads a third of it, so ranks alone ruin what the words find.
    Set { name: "xquad_zh", step: 3, vector: 0.2496, text: 0.9566, fused: 0.5816 },
];

/// Makes the source `passages` and the table `questions` of a set.
fn load(client: &mut Client, set: &str, step: usize) -> Result<()> {
    let texts = |file: &str| -> Result<(Vec<String>, Vec<String>)> {
        let lines: Vec<Text> = fixtures::json_lines(&format!("retrieval/{set}/{file}.jsonl.gz"))?;
        Ok(lines.into_iter().map(|line| (line.id, line.text)).unzip())
    };
    client.batch_execute(
        "CREATE TABLE passages (id text PRIMARY KEY, body text);
         CREATE TABLE questions (question text, relevant text[]);",
    )?;
    let (ids, bodies) = texts("corpus")?;
    client.execute("INSERT INTO passages SELECT * FROM unnest($1::text[], $2::text[])", &[&ids, &bodies])?;
    client.batch_execute(
        "SELECT create_source('passages', content => 'body', mode => 'manual', chunking => 'none')",
    )?;
    client.batch_execute("CALL process_queue('passages')")?;
    client.batch_execute("VACUUM ANALYZE passages_chunks")?;
    let judgements = fixtures::text(&format!("retrieval/{set}/qrels.tsv.gz"))?;
    let mut relevant: HashMap<&str, Vec<&str>> = HashMap::new();
    for line in judgements.lines() {
        let mut fields = line.split('\t');
        let (query, passage, relevance) = (fields.next(), fields.next(), fields.next());
        if relevance.context("a judgement has three fields")? != "0" {
            relevant.entry(query.unwrap_or_default()).or_default().extend(passage);
        }
    }
    let (ids, questions) = texts("queries")?;
    for (id, question) in ids.iter().zip(&questions).step_by(step) {
        client.execute("INSERT INTO questions VALUES ($1, $2)", &[question, &relevant[id.as_str()]])?;
    }
    Ok(())
}

/// Each side does what it can, and both together are no worse than the better one, whether or not the model knows the
/// language.
#[test]
fn ranks_as_well_as_the_references() -> Result<()> {
    for set in SETS {
        let (_, mut client) = session(set.name)?;
        load(&mut client, set.name, set.step)?;
        // The references searched exactly, and which lists there are depends on when autovacuum comes: all are visited.
        client.batch_execute("SET pg_answer.target_recall = 0.995; SET pg_answer.probes = 10000")?;
        let rows = client.query(
            "SELECT mode, value FROM evaluate_retrieval('questions', 'passages') WHERE metric = 'ndcg@10'",
            &[],
        )?;
        let ndcg: HashMap<&str, f64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        println!("{}: {ndcg:?}", set.name);
        ensure!((ndcg["vector"] - set.vector).abs() < 0.002, "vectors differ: {ndcg:?}");
        ensure!(ndcg["text"] > set.text - 0.01, "words are worse than BM25: {ndcg:?}");
        let better = ndcg["vector"].max(ndcg["text"]);
        ensure!(ndcg["hybrid"] > better - 0.005, "both are worse than one: {ndcg:?}");
        ensure!(ndcg["hybrid"] > set.fused, "no better than reciprocal ranks: {ndcg:?}");
    }
    Ok(())
}

/// A source of both kinds with rows that only one word tells apart, two languages, and a column to filter by.
fn notes(client: &mut Client) -> Result<()> {
    client.batch_execute(
        "CREATE TABLE notes (id int PRIMARY KEY, kind text, year int, body text);
         INSERT INTO notes VALUES
             (1, 'a', 2020, 'The server stops with error 08P01 when a message is cut.'),
             (2, 'a', 2021, 'The server stops with error 08P02 when a message is cut.'),
             (3, 'b', 2021, 'Set max_connections to change how many may connect.'),
             (4, 'b', NULL, 'Set superuser_reserved_connections to keep some for superusers.'),
             (5, 'b', 2022, '石英砂每吨三十八欧元。'),
             (6, 'b', 2022, '渡轮每天早上六点四十分出发。'),
             (7, NULL, 2022, 'The ferry leaves at 6:40.');
         CREATE TABLE rows AS SELECT *, embed(body) AS embedding FROM notes;
         ALTER TABLE rows ADD PRIMARY KEY (id);
         SELECT create_source('notes', content => 'body', mode => 'manual');
         SELECT create_source('rows', content => 'body', embedding => 'embedding')",
    )?;
    client.batch_execute("CALL process_queue('notes')")?;
    Ok(())
}

const FOUND: &str = "SELECT coalesce(string_agg(key->>'id', ','), '') FROM rag_retrieve(";

#[test]
fn names_and_numbers_are_found() -> Result<()> {
    let (_, mut client) = session("names")?;
    notes(&mut client)?;
    for source in ["notes", "rows"] {
        for (question, id) in [
            ("What does 08P02 mean?", "2"),
            ("max_connections", "3"),
            ("superuser_reserved_connections", "4"),
            ("石英砂多少钱？", "5"),
            ("几点出发", "6"),
            ("ferries at 6:40", "7"),
        ] {
            for mode in ["text", "hybrid"] {
                let found: String =
                    one(&mut client, &format!("{FOUND}'{question}', '{source}', 1, '{mode}')"))?;
                ensure!(found == id, "{source} {mode} {question}: {found}");
            }
        }
        // What no word is common to, and what has no words.
        for question in ["zzz", "?!", "", "the of"] {
            let found: String = one(&mut client, &format!("{FOUND}'{question}', '{source}', 3, 'text')"))?;
            ensure!(found.is_empty(), "{question}: {found}");
            let found: i64 =
                one(&mut client, &format!("SELECT count(*) FROM rag_retrieve('{question}', '{source}', 3)"))?;
            ensure!(found == 3, "{question}: {found}");
        }
        // Either side is told of.
        let row = client
            .query_one(&format!("SELECT * FROM rag_retrieve('What does 08P02 mean?', '{source}', 1)"), &[])?;
        let (vector_rank, text_rank): (i64, i64) = (row.get("vector_rank"), row.get("text_rank"));
        let scores: [f64; 3] = ["score", "vector_score", "text_score"].map(|column| row.get(column));
        ensure!(text_rank == 1 && vector_rank <= 2, "{row:?}");
        ensure!(scores.iter().all(|score| (0.0..=1.0).contains(score)), "{scores:?}");
    }
    // A row that is gone is found no more, and its words count no more.
    client.batch_execute("DELETE FROM notes WHERE id = 2")?;
    client.batch_execute("CALL process_queue('notes')")?;
    ensure!(one::<String>(&mut client, &format!("{FOUND}'08P02', 'notes', 1, 'text')"))?.is_empty());
    Ok(())
}

#[test]
fn filters_and_several_sources() -> Result<()> {
    let (_, mut client) = session("filters")?;
    notes(&mut client)?;
    for source in ["notes", "rows"] {
        for (filter, ids) in [
            (r#"{"kind": "a"}"#, "1,2"),
            (r#"{"kind": "a", "year": 2021}"#, "2"),
            (r#"{"year": [2020, 2021]}"#, "1,2,3"),
            (r#"{"kind": null}"#, "7"),
            (r#"{"kind": "it's; DROP TABLE notes"}"#, ""),
            ("{}", "1,2,3,4,5,6,7"),
        ] {
            for mode in ["vector", "hybrid"] {
                let sql = format!(
                    "SELECT coalesce(string_agg(key->>'id', ',' ORDER BY (key->>'id')::int), '') FROM
                     rag_retrieve('the server 石英砂', '{source}', 10, '{mode}', \"where\" => $1::text::jsonb)"
                );
                let found: String = client.query_one(&sql, &[&filter])?.get(0);
                ensure!(found == ids, "{source} {mode} {filter}: {found}");
            }
        }
    }
    for (arguments, code) in [
        ("'notes', \"where\" => '{\"nosuch\": 1}'", "42703"),
        ("'notes', \"where\" => '[1]'", "22023"),
        ("'notes', mode => 'best'", "22023"),
        ("'notes', 0", "22023"),
        ("'notes', expand => -1", "22023"),
        ("'notes', diversity => 1.5", "22023"),
        ("'notes', diversity => NULL", "22023"),
        ("'nosuch'", "42P01"),
        ("'{notes,pg_class}'", "42704"),
    ] {
        expect_code(&error_of(&mut client, &format!("SELECT * FROM rag_retrieve('x', {arguments})"))?, code)?;
    }
    // The same texts in both sources are one passage each.
    for source in ["'{notes,rows}'", "NULL"] {
        let sql = format!(
            "SELECT count(*) = 7 AND count(DISTINCT content) = 7 FROM rag_retrieve('error of a server', {source}, 20)"
        );
        ensure!(one::<bool>(&mut client, &sql)?, "{source}");
    }
    Ok(())
}

/// Chunks that overlap are one passage, and neighbours come along without what they repeat.
#[test]
fn passages_are_whole() -> Result<()> {
    let (_, mut client) = session("whole")?;
    let text: Vec<String> =
        (0..40).map(|i| format!("Sentence number {i} tells of topic {} only.", i / 4)).collect();
    client.batch_execute("CREATE TABLE books (id int PRIMARY KEY, body text)")?;
    client.execute("INSERT INTO books VALUES (1, $1)", &[&text.join(" ")])?;
    client.batch_execute(
        "SELECT create_source('books', content => 'body', mode => 'manual', chunking => 'sentence', chunk_tokens => 40, chunk_overlap => 12)",
    )?;
    client.batch_execute("CALL process_queue('books')")?;
    let whole = "SELECT bool_and(content = (SELECT substr(body, r.start_char + 1, r.end_char - r.start_char) FROM books))
                 FROM rag_retrieve('sentence number 21', 'books', 4";
    for more in ["", ", expand => 1", ", expand => 3", ", mode => 'text'"] {
        ensure!(
            one::<bool>(&mut client, &format!("{whole}{more}) AS r"))?,
            "{more}: text is lost or repeated"
        );
    }
    let disjoint = "WITH r AS (SELECT *, row_number() OVER () AS i FROM rag_retrieve('topic 5', 'books', 10, expand => 1))
                    SELECT count(*) FROM r AS a, r AS b WHERE a.i < b.i AND a.start_char < b.end_char AND b.start_char < a.end_char";
    ensure!(one::<i64>(&mut client, disjoint)? == 0, "passages overlap");
    let length = |client: &mut Client, expand: i32| {
        one::<i32>(
            client,
            &format!("SELECT length(content) FROM rag_retrieve('number 21', 'books', 1, expand => {expand})"),
        )
    };
    ensure!(length(&mut client, 0)? < length(&mut client, 1)?);
    ensure!(length(&mut client, 1000)? == text.join(" ").len() as i32);
    Ok(())
}

/// The language of a source is that of its rows, unless it is named.
#[test]
fn the_language_is_that_of_the_text() -> Result<()> {
    let (_, mut client) = session("language")?;
    client.batch_execute(
        "CREATE TABLE t (id int PRIMARY KEY, body text, e vector(384));
         INSERT INTO t VALUES (1, 'Der Hund ist im Garten und die Katzen sind auf dem Dach, weil es dort wärmer ist als in dem Haus.');
         UPDATE t SET e = embed(body);
         SELECT create_source('t', content => 'body', embedding => 'e')",
    )?;
    const CONFIG: &str = "SELECT text_search::text FROM pg_answer_sources";
    ensure!(one::<String>(&mut client, CONFIG)? == "german");
    ensure!(one::<i64>(&mut client, "SELECT count(*) FROM rag_retrieve('Katze', 't', 1, 'text')")? == 1);
    let indexed = "SELECT count(*) FROM pg_indexes WHERE tablename = 't' AND indexdef LIKE '%gin%'";
    ensure!(one::<i64>(&mut client, indexed)? == 1);
    client.batch_execute("SELECT drop_source('t')")?;
    ensure!(one::<i64>(&mut client, indexed)? == 0, "drop_source leaves its index");
    client.batch_execute(
        "SELECT create_source('t', content => 'body', embedding => 'e', text_search => 'simple')",
    )?;
    ensure!(one::<String>(&mut client, CONFIG)? == "simple");
    ensure!(one::<i64>(&mut client, "SELECT count(*) FROM rag_retrieve('Katze', 't', 1, 'text')")? == 0);
    Ok(())
}

#[test]
fn diversity_puts_what_differs_first() -> Result<()> {
    let (_, mut client) = session("diversity")?;
    docs(&mut client)?;
    client.batch_execute(
        "INSERT INTO docs (body) SELECT 'Quartz sand of the Ottel quarry costs 38 euros per tonne, says price list ' || i FROM generate_series(1, 5) AS i",
    )?;
    let mut about_sand = |diversity: &str| -> Result<i64> {
        let sql = format!(
            "SELECT count(*) FILTER (WHERE content LIKE 'Quartz%') FROM rag_retrieve('{QUESTION}', 'docs', 3, diversity => {diversity})"
        );
        one(&mut client, &sql)
    };
    ensure!(about_sand("0")? == 3);
    ensure!(about_sand("0.7")? == 1);
    Ok(())
}

/// A language model that judges passages anew reads those found, and its judgement counts beside their scores.
#[test]
fn a_language_model_reranks() -> Result<()> {
    let (_, mut client) = session("rerank")?;
    notes(&mut client)?;
    let found = |client: &mut Client, rerank: bool| -> Result<Vec<(i32, f64)>> {
        let sql = "SELECT (key ->> 'id')::int, score FROM rag_retrieve('When does the ferry leave?', 'notes', 7, rerank => $1)";
        Ok(client.query(sql, &[&rerank])?.iter().map(|row| (row.get(0), row.get(1))).collect())
    };
    let (before, after) = (found(&mut client, false)?, found(&mut client, true)?);
    println!("{before:?}\n{after:?}");
    let ids = |found: &[(i32, f64)]| {
        let mut ids: Vec<i32> = found.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    };
    ensure!(ids(&before) == ids(&after) && after[0].0 == 7, "{after:?}");
    ensure!(after.iter().all(|(_, score)| (0.0..=1.0).contains(score)), "{after:?}");
    ensure!(after.is_sorted_by(|a, b| a.1 >= b.1) && before != after, "{after:?}");
    ensure!(
        one::<i64>(
            &mut client,
            "SELECT count(*) FROM rag_retrieve('ferry', 'notes', rerank => true, \"where\" => '{\"id\": 99}')"
        )? == 0
    );
    let long = "When does the ferry leave, and how do I get to it with much luggage? ".repeat(10);
    for question in [&long, ""] {
        let asked = client.query("SELECT FROM rag_retrieve($1, 'notes', 7, rerank => true)", &[&question])?;
        ensure!(asked.len() == 7, "{question}: {}", asked.len());
    }
    // When it is left open, only where the best is hardly better than what would be left out.
    let mut open = Vec::new();
    for question in ["When does the ferry leave?", "What is said here?"] {
        let sql = format!(
            "SELECT array_agg((key ->> 'id')::int), max(score) - min(score) < 0.1 FROM rag_retrieve('{question}', 'notes', $1, rerank => $2)"
        );
        let mut ask = |k: i32, rerank: Option<bool>| client.query_one(&sql, &[&k, &rerank]);
        let is_open: bool = ask(3, Some(false))?.get(1);
        let ids = |row: postgres::Row| row.get::<_, Vec<i32>>(0);
        ensure!(ids(ask(2, None)?) == ids(ask(2, Some(is_open))?), "{question}");
        open.push(is_open);
    }
    ensure!(open == [false, true], "{open:?}");
    // Whichever model answers, the default one judges.
    client.batch_execute("SET pg_answer.generation_model = 'nobody'")?;
    ensure!(found(&mut client, true)? == after);
    client.batch_execute("SET pg_answer.reranking_model = 'nobody'")?;
    expect_code(&error_of(&mut client, "SELECT rag_retrieve('ferry', 'notes', rerank => true)")?, "42704")?;
    // What no model reads is told of before anything is searched for long.
    client.batch_execute("SET pg_answer.reranking_model = 'all-MiniLM-L6-v2'")?;
    let wrong = error_of(&mut client, "SELECT rag_retrieve('ferry', 'notes', rerank => true)")?;
    expect_code(&wrong, "0A000")
}
