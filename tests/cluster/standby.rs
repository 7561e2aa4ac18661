//! A hot standby reads, finds and answers.

use anyhow::{Result, ensure};
use pg_answer_tests::Options;

use crate::{QUESTION, RETRIEVE, docs, error_of, expect_code, one};

#[test]
fn a_standby_embeds_retrieves_and_answers() -> Result<()> {
    let primary = Options::default().models().start()?;
    let database = primary.create_database("standby")?;
    let standby = primary.standby()?;
    let mut client = primary.client(&database)?;
    docs(&mut client)?;
    primary.wait_for_replay(&standby)?;
    let mut replica = standby.client(&database)?;
    ensure!(one::<bool>(&mut replica, "SELECT pg_is_in_recovery()")?);
    let answer = format!("SELECT rag_answer('{QUESTION}', 'docs', max_tokens => 32)");
    for sql in
        ["SELECT embed('a text')::text", "SELECT generate('Say hello.', max_tokens => 8)", RETRIEVE, &answer]
    {
        let (here, there): (String, String) = (one(&mut client, sql)?, one(&mut replica, sql)?);
        ensure!(here == there, "{sql}: {here:?} on the primary, {there:?} on the standby");
    }
    // Writing still is refused as PostgreSQL refuses it.
    let error = error_of(&mut replica, "INSERT INTO docs (body) VALUES ('x')")?;
    expect_code(&error, "25006")?;
    expect_code(&error_of(&mut replica, "SELECT drop_source('docs')")?, "25006")
}
