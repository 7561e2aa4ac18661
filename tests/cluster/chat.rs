//! Conversations: replies, follow-up questions, who sees them, and that they are dumped (`dump.rs`).

use anyhow::{Result, ensure};

use crate::{docs, error_of, expect_code, one, session, shared};

#[test]
fn chat_replies_to_all_messages() -> Result<()> {
    let (_, mut client) = session("chat")?;
    let talk = r#"[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "My name is Ada."},
                   {"role": "assistant", "content": "Hello Ada."}, {"role": "user", "content": "What is my name?"}]"#;
    let reply: String = one(&mut client, &format!("SELECT chat('{talk}', max_tokens => 12)"))?;
    ensure!(reply.contains("Ada"), "{reply}");
    // Without room for the turn before, the name is not known.
    let reply: String =
        one(&mut client, &format!("SELECT chat('{talk}', max_tokens => 12, context_tokens => 1)"))?;
    ensure!(!reply.contains("Ada"), "{reply}");
    ensure!(one::<bool>(&mut client, "SELECT chat(NULL) IS NULL")?);
    let one_message = r#"'[{"role": "user", "content": "Hi"}]'"#;
    for (arguments, code) in [
        ("'[]'".to_owned(), "22023"),
        ("'{}'".to_owned(), "22023"),
        (r#"'[{"role": "robot", "content": "Hi"}]'"#.to_owned(), "22023"),
        (r#"'[{"role": "user"}]'"#.to_owned(), "22023"),
        (format!("{one_message}, max_tokens => 0"), "22023"),
        (format!("{one_message}, context_tokens => 0"), "22023"),
        (format!("{one_message}, model => 'nosuch'"), "42704"),
    ] {
        let error = error_of(&mut client, &format!("SELECT chat({arguments})"))?;
        expect_code(&error, code)?;
        ensure!(error.hint().is_some() || arguments.contains("tokens"), "{error:?}");
    }
    Ok(())
}

#[test]
fn follow_ups_are_looked_up_with_what_they_mean() -> Result<()> {
    let (database, mut client) = session("conversation")?;
    docs(&mut client)?;
    client.batch_execute(
        "UPDATE docs SET body = body || ' A ticket costs 12 crowns.' WHERE id = 5;
         CREATE ROLE chat_reader; GRANT SELECT ON docs TO chat_reader",
    )?;
    let say = |question: &str| format!("SELECT rag_chat('trip', '{question}', 'docs', max_tokens => 48)");
    let first: String = one(&mut client, &say("When does the ferry to Sandholm leave?"))?;
    ensure!(first.contains("6:40"), "{first}");
    let second: String = one(&mut client, &say("And what does a ticket for it cost?"))?;
    let turn = client.query_one(
        "SELECT asked, answer, refused, citations->0->'key'->>'id' FROM pg_answer_conversations WHERE conversation = 'trip' AND turn = 2",
        &[],
    )?;
    let (asked, answer): (&str, &str) = (turn.get(0), turn.get(1));
    println!("{asked}: {answer}");
    ensure!(asked.contains("Sandholm") && asked.contains("ticket"), "{asked}");
    ensure!(answer == second && !turn.get::<_, bool>(2) && turn.get::<_, &str>(3) == "5", "{answer}");
    // Another conversation begins anew.
    one::<Option<String>>(
        &mut client,
        "SELECT rag_chat('other', 'And on Sundays?', 'docs', max_tokens => 8)",
    )?;
    let alone = "SELECT asked FROM pg_answer_conversations WHERE conversation = 'other'";
    ensure!(one::<String>(&mut client, alone)? == "And on Sundays?");
    ensure!(one::<bool>(&mut client, "SELECT rag_chat('trip', NULL) IS NULL")?);
    expect_code(&error_of(&mut client, "SELECT rag_chat(NULL, 'x', 'docs')")?, "22004")?;

    // Others see none of it, and cannot speak for somebody else.
    let mut reader = shared().client(&database)?;
    reader.batch_execute("SET ROLE chat_reader")?;
    ensure!(one::<i64>(&mut reader, "SELECT count(*) FROM pg_answer_conversations")? == 0);
    one::<Option<String>>(&mut reader, &say("What does quartz sand cost?"))?;
    ensure!(one::<i64>(&mut reader, "SELECT max(turn)::bigint FROM pg_answer_conversations")? == 1);
    let forged =
        "INSERT INTO pg_answer_conversations VALUES ('postgres', 'trip', 3, '', '', '', false, '[]')";
    expect_code(&error_of(&mut reader, forged)?, "42501")?;
    ensure!(reader.execute("DELETE FROM pg_answer_conversations", &[])? == 1);
    ensure!(
        one::<i64>(&mut client, "SELECT count(*) FROM pg_answer_conversations WHERE conversation = 'trip'")?
            == 2
    );
    Ok(())
}
