//! Sources: what becomes of them when tables change, and what the trigger does.

use anyhow::{Result, ensure};

use crate::{FACTS, QUESTION, RETRIEVE, docs, error_of, expect_code, one, session};

#[test]
fn retrieves_and_answers() -> Result<()> {
    let (_, mut client) = session("rag")?;
    docs(&mut client)?;
    let rows = client.query(
        "SELECT source::text, key::text, content, score FROM rag_retrieve($1, 'docs', 3)",
        &[&QUESTION],
    )?;
    ensure!(rows.len() == 3);
    let (source, key, content): (&str, &str, &str) = (rows[0].get(0), rows[0].get(1), rows[0].get(2));
    ensure!((source, key, content) == ("docs", "{\"id\": 2}", FACTS[1]), "{rows:?}");
    let scores: Vec<f64> = rows.iter().map(|row| row.get(3)).collect();
    ensure!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    let cosine: f64 = client
        .query_one("SELECT 1 - (embedding <=> embed_query($1)) FROM docs WHERE id = 2", &[&QUESTION])?
        .get(0);
    ensure!((scores[0] - cosine).abs() < 1e-5, "score {} for cosine {cosine}", scores[0]);
    let answer: String =
        client.query_one("SELECT rag_answer($1, 'docs', max_tokens => 48)", &[&QUESTION])?.get(0);
    println!("{answer}");
    ensure!(answer.contains("38"), "{answer}");
    // Nothing near enough: a plain refusal that quotes nothing.
    let refusal: String =
        client.query_one("SELECT rag_answer($1, 'docs', min_score => 0.99)", &[&QUESTION])?.get(0);
    println!("{refusal}");
    ensure!(!refusal.contains("38") && !refusal.is_empty(), "{refusal}");
    // Without any source.
    let answer: String = client
        .query_one("SELECT rag_answer($1, $2::text[], max_tokens => 48)", &[&QUESTION, &FACTS.as_slice()])?
        .get(0);
    ensure!(answer.contains("38"), "{answer}");
    for k in ["0", "-1", "NULL"] {
        let error = error_of(&mut client, &format!("SELECT * FROM rag_retrieve('sand', 'docs', {k})"))?;
        expect_code(&error, "22023")?;
    }
    // The only source need not be named.
    ensure!(one::<i64>(&mut client, "SELECT count(*) FROM rag_retrieve('sand', k => 2)")? == 2);
    ensure!(
        one::<i64>(&mut client, "SELECT count(*) FROM rag_retrieve('sand', 'docs', min_score => 0.99)")? == 0
    );
    Ok(())
}

#[test]
fn a_dropped_table_leaves_no_source() -> Result<()> {
    let (_, mut client) = session("droptable")?;
    docs(&mut client)?;
    const COUNT: &str = "SELECT count(*) FROM pg_answer_sources";
    ensure!(one::<i64>(&mut client, COUNT)? == 1);
    // Undone with the transaction.
    client.batch_execute("BEGIN; DROP TABLE docs; ROLLBACK")?;
    ensure!(one::<i64>(&mut client, COUNT)? == 1);
    // A new name is the same table.
    client.batch_execute("ALTER TABLE docs RENAME TO papers")?;
    ensure!(one::<i64>(&mut client, "SELECT count(*) FROM rag_retrieve('sand', 'papers', 2)")? == 2);
    client.batch_execute("CREATE SCHEMA s; ALTER TABLE papers SET SCHEMA s; DROP SCHEMA s CASCADE")?;
    ensure!(one::<i64>(&mut client, COUNT)? == 0);
    docs(&mut client)?;
    client.batch_execute("SELECT drop_source('docs')")?;
    ensure!(one::<i64>(&mut client, COUNT)? == 0);
    ensure!(one::<i64>(&mut client, "SELECT count(*) FROM docs")? == 5, "drop_source took the table along");
    let error = error_of(&mut client, "SELECT * FROM rag_retrieve('sand', 'docs')")?;
    println!("{error:?}");
    Ok(())
}

#[test]
fn renamed_and_dropped_columns() -> Result<()> {
    let (_, mut client) = session("columns")?;
    docs(&mut client)?;
    let before: String = one(&mut client, RETRIEVE)?;
    client.batch_execute("ALTER TABLE docs ADD COLUMN extra int; ALTER TABLE docs DROP COLUMN extra")?;
    ensure!(one::<String>(&mut client, RETRIEVE)? == before);
    // A source whose column is gone says so, and the session lives.
    client.batch_execute("DROP TRIGGER docs_embed ON docs; ALTER TABLE docs DROP COLUMN body CASCADE")?;
    let error = error_of(&mut client, RETRIEVE)?;
    ensure!(!error.code().code().starts_with("XX"), "{error:?}");
    println!("{error:?}");
    Ok(())
}

#[test]
fn the_trigger_embeds_what_changed() -> Result<()> {
    let (_, mut client) = session("trigger")?;
    client.batch_execute(
        "CREATE TABLE t (id int PRIMARY KEY, title text, body text, embedding vector(384), note text);
         CREATE TRIGGER t_embed BEFORE INSERT OR UPDATE ON t
             FOR EACH ROW EXECUTE FUNCTION embed_trigger('title', 'body', 'embedding', 'all-MiniLM-L6-v2');
         INSERT INTO t VALUES (1, 'A title', 'a body'), (2, NULL, 'only a body'), (3, NULL, NULL);
         INSERT INTO t VALUES (4, 'A title', 'a body')",
    )?;
    let same: bool = one(&mut client, "SELECT count(DISTINCT embedding) = 1 FROM t WHERE id IN (1, 4)")?;
    ensure!(same, "the same texts have different vectors");
    ensure!(
        one::<bool>(&mut client, "SELECT embedding IS NULL FROM t WHERE id = 3")?,
        "nothing has a vector"
    );
    let near: f64 =
        one(&mut client, "SELECT embedding <=> embed_document('only a body') FROM t WHERE id = 2")?;
    ensure!(near < 1e-4, "distance {near} to the vector of its only text");
    // Unchanged text keeps its vector, even one that was put there by hand.
    client.batch_execute(
        "ALTER TABLE t DISABLE TRIGGER t_embed;
         UPDATE t SET embedding = (SELECT embedding FROM t WHERE id = 2) WHERE id = 1;
         ALTER TABLE t ENABLE TRIGGER t_embed;
         UPDATE t SET note = 'touched' WHERE id = 1",
    )?;
    ensure!(
        one::<i64>(&mut client, "SELECT count(DISTINCT embedding) FROM t WHERE id IN (1, 2)")? == 1,
        "an unchanged text was embedded again"
    );
    client.batch_execute(
        "UPDATE t SET body = 'another body' WHERE id = 1; UPDATE t SET body = NULL WHERE id = 2",
    )?;
    ensure!(one::<i64>(&mut client, "SELECT count(DISTINCT embedding) FROM t WHERE id IN (1, 4)")? == 2);
    ensure!(one::<bool>(&mut client, "SELECT embedding IS NULL FROM t WHERE id = 2")?);
    Ok(())
}

/// Mistakes are errors that name the mistake, at the creation of the trigger or at its first use.
#[test]
fn mistakes_of_triggers_and_sources() -> Result<()> {
    let (_, mut client) = session("mistakes")?;
    client.batch_execute(
        "CREATE TABLE t (id int PRIMARY KEY, body text, number int, short vector(3), e vector(384))",
    )?;
    for (arguments, word) in [
        ("'body', 'short'", "384"),
        ("'nosuch', 'e'", "nosuch"),
        ("'body', 'nosuch'", "nosuch"),
        ("'body', 'number'", "number"),
        ("'body'", ""),
        ("", ""),
        ("'body', 'e', 'no-such-model'", "no-such-model"),
    ] {
        let mut transaction = client.transaction()?;
        let error = error_of(
            &mut transaction,
            &format!(
                "CREATE TRIGGER b BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION embed_trigger({arguments});
                 INSERT INTO t VALUES (1, 'a body')"
            ),
        )?;
        println!("embed_trigger({arguments}): {}", error.message());
        let all = format!("{} {:?} {:?}", error.message(), error.detail(), error.hint());
        ensure!(all.contains(word) && !error.code().code().starts_with("XX"), "{arguments}: {error:?}");
    }
    let after = "CREATE TRIGGER b AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION embed_trigger('body', 'e');
                 INSERT INTO t VALUES (1, 'x')";
    expect_code(&error_of(&mut client, after)?, "39P01")?;
    for (arguments, word) in [
        ("'t', content => 'nosuch', embedding => 'e'", "nosuch"),
        ("'t', content => 'body', embedding => 'nosuch'", "nosuch"),
        ("'t', content => 'body', embedding => 'number'", "number"),
        ("'t', content => 'body', embedding => 'short'", "384"),
        ("'t', content => 'body', embedding => 'e', title => 'nosuch'", "nosuch"),
        ("'nosuch', content => 'body', embedding => 'e'", "nosuch"),
        ("'t', content => 'body', embedding => 'e', model => 'no-such-model'", "no-such-model"),
    ] {
        let error = error_of(&mut client, &format!("SELECT create_source({arguments})"))?;
        println!("create_source({arguments}): {}", error.message());
        let all = format!("{} {:?} {:?}", error.message(), error.detail(), error.hint());
        ensure!(all.contains(word) && !error.code().code().starts_with("XX"), "{arguments}: {error:?}");
    }
    let create = "SELECT create_source('t', content => 'body', embedding => 'e')";
    client.batch_execute(create)?;
    expect_code(&error_of(&mut client, create)?, "42710")?;
    client.batch_execute(
        "SELECT create_source('t', content => 'body', embedding => 'e', if_not_exists => true)",
    )?;
    Ok(())
}
