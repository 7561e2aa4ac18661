//! The extension itself: created in any schema, dropped, created again.

use anyhow::{Result, ensure};

use crate::{QUESTION, RETRIEVE, docs, docs_in, error_of, expect_code, one, session, shared};

#[test]
fn it_works_in_a_schema_of_its_own() -> Result<()> {
    let mut reference = session("public")?.1;
    docs(&mut reference)?;
    let database = shared().create_empty_database("schema")?;
    let mut client = shared().client(&database)?;
    // A name that needs quotes everywhere.
    client.batch_execute("CREATE SCHEMA \"My Answers\"; CREATE EXTENSION pg_answer SCHEMA \"My Answers\"")?;
    docs_in(&mut client, "\"My Answers\"")?;
    let retrieve = RETRIEVE.replace("public.rag_retrieve", "\"My Answers\".rag_retrieve");
    let expected: String = one(&mut reference, RETRIEVE)?;
    ensure!(one::<String>(&mut client, &retrieve)? == expected);
    let answer = format!("rag_answer('{QUESTION}', 'public.docs', max_tokens => 32)");
    let expected_answer: String = one(&mut reference, &format!("SELECT {answer}"))?;
    ensure!(one::<String>(&mut client, &format!("SELECT \"My Answers\".{answer}"))? == expected_answer);
    client.batch_execute("SET search_path = \"My Answers\", public")?;
    ensure!(one::<String>(&mut client, &retrieve)? == expected);
    ensure!(one::<String>(&mut client, "SELECT avg(embedding)::text FROM docs")?.starts_with('['));
    ensure!(one::<i64>(&mut client, "SELECT count(*) FROM pg_answer_models")? >= 2);
    ensure!(one::<i64>(&mut client, "SELECT count(*) FROM pg_answer_sources")? == 1);
    client.batch_execute("SELECT drop_source('docs'); DROP TABLE docs")?;
    let stray: Vec<String> = client
        .query(
            "SELECT pg_describe_object(classid, objid, 0) FROM pg_depend JOIN pg_extension e ON refobjid = e.oid
             CROSS JOIN LATERAL pg_identify_object(classid, objid, 0) AS o
             WHERE deptype = 'e' AND extname = 'pg_answer' AND o.schema NOT IN ('\"My Answers\"', 'pg_catalog')",
            &[],
        )?
        .iter()
        .map(|row| row.get(0))
        .collect();
    ensure!(stray.is_empty(), "outside of its schema: {stray:?}");
    Ok(())
}

#[test]
fn dropping_it_asks_first_and_leaves_nothing() -> Result<()> {
    let (_, mut client) = session("dropext")?;
    docs(&mut client)?;
    client.batch_execute("CREATE VIEW vectors AS SELECT embed(body) FROM docs")?;
    let error = error_of(&mut client, "DROP EXTENSION pg_answer")?;
    expect_code(&error, "2BP01")?;
    client.batch_execute("BEGIN; DROP EXTENSION pg_answer CASCADE; ROLLBACK")?;
    let before: String = one(&mut client, RETRIEVE)?;
    client.batch_execute("SET client_min_messages = warning; DROP EXTENSION pg_answer CASCADE")?;
    // The user's rows stay, without what the extension had given them.
    ensure!(one::<i64>(&mut client, "SELECT count(body) FROM docs")? == 5);
    client.batch_execute(
        "INSERT INTO docs (body) VALUES ('without a trigger'); DELETE FROM docs WHERE id > 5",
    )?;
    let left: Option<String> = one(
        &mut client,
        "SELECT string_agg(oid::regprocedure::text, ', ') FROM pg_proc WHERE probin LIKE '%pg_answer%'",
    )?;
    ensure!(left.is_none(), "left behind: {left:?}");
    ensure!(one::<i64>(&mut client, "SELECT count(*) FROM pg_event_trigger")? == 0);
    client.batch_execute("DROP TABLE docs; CREATE EXTENSION pg_answer")?;
    docs(&mut client)?;
    ensure!(one::<String>(&mut client, RETRIEVE)? == before);
    // With no table of its types there is nothing to ask about.
    client.batch_execute("DROP TABLE docs; DROP EXTENSION pg_answer")?;
    Ok(())
}

/// Where texts are not UTF-8, that is said at once and not at the first word with an accent.
#[test]
fn another_encoding_is_refused() -> Result<()> {
    for encoding in ["SQL_ASCII", "LATIN1"] {
        let database = format!("encoding_{}", encoding.to_lowercase());
        shared()
            .client("postgres")?
            .batch_execute(&format!("CREATE DATABASE {database} ENCODING '{encoding}' TEMPLATE template0"))?;
        let error = error_of(&mut shared().client(&database)?, "CREATE EXTENSION pg_answer")?;
        expect_code(&error, "0A000")?;
        ensure!(error.detail().is_some_and(|detail| detail.contains(encoding)), "{error:?}");
        ensure!(error.hint().is_some_and(|hint| hint.contains("ENCODING 'UTF8'")), "{error:?}");
    }
    Ok(())
}

/// The owner of a database, no superuser, may create the extension, since it is trusted.
#[test]
fn a_database_owner_creates_it() -> Result<()> {
    let database = shared().create_empty_database("trusted")?;
    let mut superuser = shared().client(&database)?;
    superuser.batch_execute(&format!(
        "CREATE ROLE owner_{database} LOGIN; ALTER DATABASE {database} OWNER TO owner_{database}"
    ))?;
    let mut owner = shared().client_as(&format!("owner_{database}"), &database)?;
    owner.batch_execute("CREATE EXTENSION pg_answer")?;
    docs(&mut owner)?;
    ensure!(one::<String>(&mut owner, RETRIEVE)?.contains("38 euros"));
    owner.batch_execute("DROP TABLE docs; DROP EXTENSION pg_answer")?;
    Ok(())
}
