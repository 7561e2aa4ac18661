//! Answers while they are written: the model stops when nobody asks for more, and a session can do other things meanwhile.

use anyhow::{Result, ensure};
use postgres::Client;

use crate::{docs, error_of, expect_code, one, session};

const QUESTION: &str = "When does the ferry to Sandholm leave, and what does a ticket cost?";

/// The facts, and one of two sentences.
fn ferry(client: &mut Client) -> Result<()> {
    docs(client)?;
    client.execute("UPDATE docs SET body = body || ' A ticket costs 12 crowns.' WHERE id = 5", &[])?;
    Ok(())
}

/// Tokens that the default model has written in this server.
fn written(client: &mut Client) -> Result<i64> {
    one(client, "SELECT coalesce(sum(tokens_out), 0)::bigint FROM pg_answer_stats")
}

fn rows(client: &mut Client, sql: &str) -> Result<Vec<String>> {
    Ok(client.query(sql, &[])?.iter().map(|row| row.get(0)).collect())
}

fn stream(arguments: &str) -> String {
    format!("rag_answer_stream('{QUESTION}', 'docs', max_tokens => 64{arguments})")
}

#[test]
fn the_sentences_of_a_stream_are_the_answer() -> Result<()> {
    let (_, mut client) = session("stream")?;
    ferry(&mut client)?;
    let whole: String =
        one(&mut client, &format!("SELECT rag_answer('{QUESTION}', 'docs', max_tokens => 64)"))?;
    for sql in [format!("SELECT {}", stream("")), format!("SELECT * FROM {}", stream(""))] {
        let sentences = rows(&mut client, &sql)?;
        println!("{sentences:?}");
        ensure!(sentences.len() > 1 && sentences.join(" ") == whole, "{sentences:?}: {whole}");
    }
    let refused = rows(&mut client, &format!("SELECT {}", stream(", min_similarity => 0.99")))?;
    ensure!(refused.len() == 1 && refused[0].starts_with("I cannot answer"), "{refused:?}");
    let silent = format!("SELECT {}", stream(", min_similarity => 0.99, refusal => NULL"));
    ensure!(rows(&mut client, &silent)?.is_empty());
    ensure!(rows(&mut client, "SELECT rag_answer_stream(NULL, 'docs')")?.is_empty());
    expect_code(
        &error_of(&mut client, &format!("SELECT {}", stream(", on_unsupported => 'burn'")))?,
        "22023",
    )?;
    expect_code(&error_of(&mut client, &format!("SELECT {}", stream(", model => 'nosuch'")))?, "42704")?;
    Ok(())
}

/// A server of its own: what other tests write would count, too.
#[test]
fn a_limit_stops_the_model() -> Result<()> {
    let cluster = pg_answer_tests::Options::default().models().start()?;
    let mut client = cluster.client(&cluster.create_database("limit")?)?;
    ferry(&mut client)?;
    let mut tokens = |sql: &str| -> Result<i64> {
        let before = written(&mut client)?;
        ensure!(!rows(&mut client, sql)?.is_empty());
        Ok(written(&mut client)? - before)
    };
    let all = tokens(&format!("SELECT {}", stream("")))?;
    for sql in [format!("SELECT {} LIMIT 1", stream("")), format!("SELECT * FROM {} LIMIT 1", stream(""))] {
        let some = tokens(&sql)?;
        ensure!(some > 0 && some < all, "{some} of {all} tokens: {sql}");
    }
    Ok(())
}

/// What a cursor leaves behind is text: another query, another cursor, an error or its end do no harm.
#[test]
fn cursors_share_a_session() -> Result<()> {
    let (_, mut client) = session("cursors")?;
    ferry(&mut client)?;
    let whole = rows(&mut client, &format!("SELECT {}", stream("")))?;
    let other = "rag_answer_stream('What does quartz sand cost?', 'docs')";
    let price = rows(&mut client, &format!("SELECT {other}"))?;
    ensure!(price[0].contains("38"), "{price:?}");
    client.batch_execute(&format!(
        "BEGIN; DECLARE a CURSOR FOR SELECT {0}; DECLARE b CURSOR FOR SELECT {other}; DECLARE c CURSOR FOR SELECT {0}",
        stream("")
    ))?;
    let first = rows(&mut client, "FETCH 1 FROM a")?;
    ensure!(rows(&mut client, "FETCH 1 FROM b")? == price[..1]);
    let between: String =
        one(&mut client, "SELECT rag_answer('What is the code of the lighthouse door?', 'docs')")?;
    ensure!(between.contains("4711"), "{between}");
    ensure!(rows(&mut client, "FETCH 1 FROM c")? == whole[..1]);
    client.batch_execute("CLOSE c; SAVEPOINT s")?;
    error_of(&mut client, "SELECT 1 / 0")?;
    client.batch_execute("ROLLBACK TO s")?;
    let rest = rows(&mut client, "FETCH ALL FROM a")?;
    ensure!([first, rest].concat() == whole, "{whole:?}");
    client.batch_execute("COMMIT")?;
    // One whose transaction ends runs to its end before.
    client.batch_execute(&format!("BEGIN; DECLARE h CURSOR WITH HOLD FOR SELECT {}; COMMIT", stream("")))?;
    ensure!(rows(&mut client, "FETCH ALL FROM h")? == whole);
    // A cancel in the middle of a piece.
    client.batch_execute(&format!("BEGIN; DECLARE a CURSOR FOR SELECT {}; SAVEPOINT s", stream("")))?;
    client.batch_execute("SET LOCAL statement_timeout = '40ms'")?;
    expect_code(&error_of(&mut client, "FETCH ALL FROM a")?, "57014")?;
    client.batch_execute("ROLLBACK")?;
    ensure!(rows(&mut client, &format!("SELECT {}", stream("")))? == whole);
    Ok(())
}
