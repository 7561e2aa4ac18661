//! Sources with chunks: whatever happens to the rows, the chunks are those of a fresh computation.

use anyhow::{Result, ensure};
use postgres::{Client, GenericClient};

use crate::{error_of, expect_code, one, session, shared};

/// Rows of `chunks` that a fresh computation over `source` (key `id`, text `body`) would not give, or that are missing.
pub fn wrong_chunks(
    client: &mut impl GenericClient,
    source: &str,
    chunks: &str,
    arguments: &str,
) -> Result<i64> {
    one(
        client,
        &format!(
            "WITH fresh AS (SELECT s.id, c.ordinal, c.start_char, c.end_char, c.heading, c.chunk, c.tokens,
                    embed_document(concat_ws(E'\n', c.heading, c.chunk)) AS embedding
                 FROM {source} s CROSS JOIN LATERAL chunk(s.body, {arguments}) c),
             kept AS (SELECT id, ordinal, start_char, end_char, heading, chunk, tokens, embedding FROM {chunks})
             SELECT count(*) FROM fresh f FULL JOIN kept k
                 ON (f.id, f.ordinal, f.start_char, f.end_char, coalesce(f.heading, ''), f.chunk, f.tokens)
                  = (k.id, k.ordinal, k.start_char, k.end_char, coalesce(k.heading, ''), k.chunk, k.tokens)
             WHERE f.id IS NULL OR k.id IS NULL OR f.embedding <=> k.embedding > 1e-5"
        ),
    )
}

/// Statements of every kind that changes rows, with texts of several chunks among them. Each is run by itself.
const CHANGES: [&str; 13] = [
    "INSERT INTO notes SELECT i, 'Note ' || i || '.' || repeat(' It has many sentences.', i % 7 * 8) FROM generate_series(1, 60) i",
    "UPDATE notes SET body = body || ' Changed.' WHERE id % 5 = 0",
    "UPDATE notes SET id = id + 1000 WHERE id BETWEEN 10 AND 15",
    "UPDATE notes SET body = NULL WHERE id = 20",
    "UPDATE notes SET body = '  ' WHERE id = 21",
    "UPDATE notes SET other = 'x'",
    "INSERT INTO notes VALUES (1, 'Conflict.'), (2000, 'None.') ON CONFLICT (id) DO UPDATE SET body = excluded.body",
    "MERGE INTO notes n USING (VALUES (2, 'Merged.'), (2001, 'New.')) v(id, t) ON n.id = v.id
        WHEN MATCHED THEN UPDATE SET body = v.t WHEN NOT MATCHED THEN INSERT (id, body) VALUES (v.id, v.t)",
    "DELETE FROM notes WHERE id % 9 = 0",
    "WITH d AS (DELETE FROM notes WHERE id = 7 RETURNING *) INSERT INTO notes SELECT 3000, body FROM d",
    "BEGIN; DELETE FROM notes; INSERT INTO notes VALUES (1, 'undone'); ROLLBACK",
    "BEGIN; UPDATE notes SET body = 'Twice.' WHERE id = 4; SAVEPOINT s; DELETE FROM notes WHERE id = 5; ROLLBACK TO s;
        UPDATE notes SET body = 'Thrice.' WHERE id = 4; COMMIT",
    "DELETE FROM notes WHERE id = 6; INSERT INTO notes VALUES (6, 'Six again.')",
];

fn change(client: &mut impl GenericClient) -> Result<()> {
    CHANGES.iter().try_for_each(|sql| Ok(client.batch_execute(sql)?))
}

const LIMITS: &str = "'recursive', 64, 8";

fn notes(client: &mut impl GenericClient, mode: &str) -> Result<()> {
    Ok(client.batch_execute(&format!(
        "CREATE TABLE notes (id int PRIMARY KEY, body text, other text);
         INSERT INTO notes SELECT i, 'Old note ' || i FROM generate_series(5000, 5060) i;
         SELECT create_source('notes', content => 'body', mode => '{mode}', chunk_tokens => 64, chunk_overlap => 8)"
    ))?)
}

/// Waits until the background worker has seen to all that is queued.
fn wait(client: &mut impl GenericClient, source: &str) -> Result<()> {
    ensure!(one::<bool>(client, &format!("SELECT wait_for_source('{source}', '100 s')"))?, "still waiting");
    Ok(())
}

#[test]
fn immediate_chunks_are_right_at_once() -> Result<()> {
    let (_, mut client) = session("immediate")?;
    notes(&mut client, "immediate")?;
    change(&mut client)?;
    client.batch_execute("CALL process_queue()")?;
    ensure!(wrong_chunks(&mut client, "notes", "notes_chunks", LIMITS)? == 0);
    let longest: i32 = one(&mut client, "SELECT max(tokens) FROM notes_chunks")?;
    ensure!(longest > 40 && longest <= 64, "{longest}");
    // Nothing waits: the writer has done all.
    client.batch_execute(
        "INSERT INTO notes VALUES (1, 'At once.') ON CONFLICT (id) DO UPDATE SET body = excluded.body",
    )?;
    ensure!(one::<i64>(&mut client, "SELECT rows_left FROM pg_answer_source_progress")? == 0);
    ensure!(wrong_chunks(&mut client, "notes", "notes_chunks", LIMITS)? == 0);
    client.batch_execute("TRUNCATE notes")?;
    ensure!(one::<i64>(&mut client, "SELECT count(*) FROM notes_chunks")? == 0);
    Ok(())
}

#[test]
fn the_worker_makes_queued_chunks() -> Result<()> {
    let (_, mut client) = session("queued")?;
    notes(&mut client, "queued")?;
    change(&mut client)?;
    wait(&mut client, "notes")?;
    ensure!(wrong_chunks(&mut client, "notes", "notes_chunks", LIMITS)? == 0);
    let mut writer = client.copy_in("COPY notes (id, body) FROM STDIN")?;
    std::io::Write::write_all(&mut writer, b"7001\tCopied.\n7002\tCopied too.\n")?;
    writer.finish()?;
    wait(&mut client, "notes")?;
    ensure!(wrong_chunks(&mut client, "notes", "notes_chunks", LIMITS)? == 0);
    ensure!(one::<i64>(&mut client, "SELECT count(*) FROM notes_chunks WHERE id IN (7001, 7002)")? == 2);
    // Unchanged text is not queued.
    client.batch_execute("SELECT alter_source('notes', mode => 'manual'); UPDATE notes SET other = 'y'")?;
    ensure!(one::<i64>(&mut client, "SELECT rows_left FROM pg_answer_source_progress")? == 0);
    client
        .batch_execute("INSERT INTO notes VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET body = 'Fresh.'")?;
    expect_code(
        &error_of(
            &mut client,
            "SELECT pg_sleep(0.1), rag_retrieve('fresh?', 'notes', max_staleness => '1 ms')",
        )?,
        "55000",
    )?;
    client.batch_execute("TRUNCATE notes")?;
    ensure!(one::<i64>(&mut client, "SELECT count(*) FROM notes_chunks")? == 0);
    Ok(())
}

#[test]
fn manual_sources_wait_for_their_owner() -> Result<()> {
    let (_, mut client) = session("manual")?;
    notes(&mut client, "manual")?;
    change(&mut client)?;
    expect_code(&error_of(&mut client, "SELECT wait_for_source('notes')")?, "55000")?;
    ensure!(one::<i64>(&mut client, "SELECT count(*) FROM notes_chunks")? == 0);
    client.batch_execute("CALL embed_all('notes')")?;
    ensure!(wrong_chunks(&mut client, "notes", "notes_chunks", LIMITS)? == 0);
    // What was written behind the triggers' back is put right.
    client.batch_execute("SET session_replication_role = replica; UPDATE notes SET body = 'Behind.'")?;
    client.batch_execute("RESET session_replication_role")?;
    client.batch_execute("CALL embed_all('notes', again => true)")?;
    ensure!(wrong_chunks(&mut client, "notes", "notes_chunks", LIMITS)? == 0);
    Ok(())
}

#[test]
fn keys_of_several_columns_and_odd_names() -> Result<()> {
    let (_, mut client) = session("keys")?;
    client.batch_execute(
        r#"CREATE SCHEMA "Odd schema";
         CREATE TABLE "Odd schema"."Odd table" ("Odd, id" uuid, ordinal timestamptz, "the ""text""" text, title varchar(20),
             PRIMARY KEY (ordinal, "Odd, id"));
         SELECT create_source('"Odd schema"."Odd table"', content => ARRAY['title', 'the "text"'], mode => 'immediate');
         INSERT INTO "Odd schema"."Odd table" VALUES
             ('00000000-0000-0000-0000-000000000001', '2024-02-03 04:05:06.789', 'First text', 'One'),
             ('00000000-0000-0000-0000-000000000001', 'infinity', E'Second\ntext', NULL);
         SET datestyle = 'SQL, DMY';
         UPDATE "Odd schema"."Odd table" SET "the ""text""" = 'Third text' WHERE title = 'One'"#,
    )?;
    const CHUNKS: &str =
        r#"SELECT string_agg(chunk, '|' ORDER BY source_ordinal) FROM "Odd schema"."Odd table_chunks""#;
    let expected = "title: One\n\nthe \"text\": Third text|the \"text\":\nSecond\ntext";
    ensure!(one::<String>(&mut client, CHUNKS)? == expected, "{}", one::<String>(&mut client, CHUNKS)?);
    client.batch_execute(r#"SELECT alter_source('"Odd schema"."Odd table"', mode => 'manual')"#)?;
    client.batch_execute(r#"UPDATE "Odd schema"."Odd table" SET title = 'Two'"#)?;
    client.batch_execute(r#"CALL embed_all('"Odd schema"."Odd table"')"#)?;
    ensure!(one::<String>(&mut client, CHUNKS)?.starts_with("title: Two"));
    let key: String = one(
        &mut client,
        r#"SELECT key->>'Odd, id' FROM rag_retrieve('third', '"Odd schema"."Odd table"', 1)"#,
    )?;
    ensure!(key.ends_with('1'), "{key}");
    Ok(())
}

/// Tables and columns get other names, partitions come and go.
#[test]
fn sources_follow_their_tables() -> Result<()> {
    let (_, mut client) = session("follow")?;
    for mode in ["immediate", "manual"] {
        client.batch_execute(&format!(
            "CREATE TABLE notes (id int PRIMARY KEY, head text, body text) PARTITION BY RANGE (id);
             CREATE TABLE low PARTITION OF notes FOR VALUES FROM (0) TO (100);
             SELECT create_source('notes', content => 'body', title => 'head', mode => '{mode}');
             CREATE TABLE high PARTITION OF notes FOR VALUES FROM (100) TO (200);
             CREATE TABLE top (id int PRIMARY KEY, head text, body text);
             ALTER TABLE notes ATTACH PARTITION top FOR VALUES FROM (200) TO (300);
             INSERT INTO notes VALUES (1, 'h', 'One.'), (101, 'h', 'Hundred.');
             INSERT INTO high VALUES (102, 'h', 'In the partition.'); INSERT INTO top VALUES (201, 'h', 'Top.');
             UPDATE notes SET id = 103 WHERE id = 1;
             TRUNCATE top;
             ALTER TABLE notes RENAME COLUMN body TO words; ALTER TABLE notes RENAME COLUMN id TO number;
             ALTER TABLE notes RENAME TO papers; CREATE SCHEMA s; ALTER TABLE papers SET SCHEMA s; ALTER SCHEMA s RENAME TO t;
             INSERT INTO t.papers VALUES (2, 'Title', 'After all names have changed.'); UPDATE t.papers SET words = 'Other.' WHERE number = 101"
        ))?;
        client.batch_execute("CALL process_queue('t.papers')")?;
        let chunks: String = one(&mut client, "SELECT string_agg(chunk, '|' ORDER BY id) FROM notes_chunks")?;
        ensure!(chunks == "After all names have changed.|Other.|In the partition.|One.", "{mode}: {chunks}");
        let found: String = one(
            &mut client,
            "SELECT concat_ws('|', key, title, content) FROM rag_retrieve('names', 't.papers', 1)",
        )?;
        ensure!(found == "{\"number\": 2}|Title|After all names have changed.", "{found}");
        client.batch_execute("DROP SCHEMA t CASCADE")?;
        let left = "SELECT count(*) FROM pg_class WHERE relname ~ 'notes|papers' AND relnamespace = 'public'::regnamespace";
        ensure!(one::<i64>(&mut client, left)? == 0, "the chunks outlive their source");
        ensure!(one::<i64>(&mut client, "SELECT count(*) FROM pg_answer_sources")? == 0);
    }
    Ok(())
}

#[test]
fn other_settings_replace_the_chunks_when_they_are_whole() -> Result<()> {
    let (_, mut client) = session("alter")?;
    client.batch_execute("SET pg_answer.background_worker = off")?;
    notes(&mut client, "manual")?;
    change(&mut client)?;
    client.batch_execute("CALL process_queue()")?;
    client.batch_execute("SELECT alter_source('notes', chunk_tokens => 32)")?;
    // The old chunks answer meanwhile, and go on following the rows.
    client.batch_execute("INSERT INTO notes VALUES (9000, 'The zebra is striped.')")?;
    ensure!(one::<i32>(&mut client, "SELECT max(tokens) FROM notes_chunks")? > 32);
    ensure!(one::<i64>(&mut client, "SELECT count(*) FROM rag_retrieve('database', 'notes', 3)")? == 3);
    client.batch_execute("CALL process_queue('notes')")?;
    ensure!(one::<i64>(&mut client, "SELECT count(*) FROM pg_answer_sources")? == 1);
    ensure!(wrong_chunks(&mut client, "notes", "notes_chunks", "'recursive', 32, 8")? == 0);
    ensure!(one::<bool>(&mut client, "SELECT to_regclass('notes_chunks_new') IS NULL")?);
    client.batch_execute("SELECT drop_source('notes', keep_chunks => true)")?;
    ensure!(one::<i64>(&mut client, "SELECT count(*) FROM notes_chunks")? > 0);
    client.batch_execute(
        "INSERT INTO notes VALUES (9001, 'nobody looks'); DELETE FROM notes WHERE id = 9000",
    )?;
    // The same table serves again.
    client.batch_execute("SELECT create_source('notes', content => 'body', mode => 'manual', chunk_tokens => 32, chunk_overlap => 8)")?;
    client.batch_execute("CALL embed_all('notes')")?;
    ensure!(wrong_chunks(&mut client, "notes", "notes_chunks", "'recursive', 32, 8")? == 0);
    client.batch_execute("SELECT drop_source('notes')")?;
    ensure!(one::<bool>(
        &mut client,
        "SELECT to_regclass('notes_chunks') IS NULL AND to_regclass('notes_chunks_queue') IS NULL"
    )?);
    Ok(())
}

/// A row that fails is tried again by itself and then put aside; the others do not wait for it.
#[test]
fn a_bad_row_does_not_hold_up_the_rest() -> Result<()> {
    let (_, mut client) = session("bad")?;
    client.batch_execute(
        "SET pg_answer.background_worker = off;
         CREATE TABLE notes (id int PRIMARY KEY, body text);
         SELECT create_source('notes', content => 'body', mode => 'manual');
         ALTER TABLE notes_chunks ADD CONSTRAINT bad CHECK (chunk <> 'bad');
         INSERT INTO notes SELECT i, CASE i WHEN 50 THEN 'bad' ELSE 'Good ' || i END FROM generate_series(1, 100) i",
    )?;
    client.batch_execute("CALL process_queue()")?;
    ensure!(one::<i64>(&mut client, "SELECT count(*) FROM notes_chunks")? == 99);
    const FAILED: &str =
        "SELECT concat_ws('|', key, attempts, split_part(error, ' ', 1)) FROM failed_rows('notes')";
    ensure!(
        one::<String>(&mut client, FAILED)? == "{\"id\": 50}|2|23514:",
        "{}",
        one::<String>(&mut client, FAILED)?
    );
    // As time goes by.
    for _ in 0..5 {
        client.batch_execute("UPDATE notes_chunks_queue SET due = '-infinity' WHERE due < 'infinity'")?;
        client.batch_execute("CALL process_queue()")?;
    }
    ensure!(one::<bool>(&mut client, "SELECT due = 'infinity' FROM failed_rows('notes')")?);
    ensure!(one::<i64>(&mut client, "SELECT rows_failed FROM pg_answer_source_progress")? == 1);
    client.batch_execute("ALTER TABLE notes_chunks DROP CONSTRAINT bad")?;
    ensure!(one::<i64>(&mut client, "SELECT retry_failed('notes', '{\"id\": 51}')")? == 0);
    ensure!(one::<i64>(&mut client, "SELECT retry_failed('notes', '{\"id\": 50}')")? == 1);
    client.batch_execute("CALL process_queue()")?;
    ensure!(one::<i64>(&mut client, "SELECT count(*) FROM notes_chunks")? == 100);
    ensure!(one::<i64>(&mut client, "SELECT count(*) FROM failed_rows('notes')")? == 0);
    Ok(())
}

/// Who may not read a row may not read its chunks, by policy, by grant, or by column.
#[test]
fn chunks_are_read_by_those_who_read_the_rows() -> Result<()> {
    let (database, mut owner) = session("chunk_rls")?;
    let (ann, bob) = (format!("ann_{database}"), format!("bob_{database}"));
    owner.batch_execute(&format!(
        "CREATE ROLE {ann} LOGIN; CREATE ROLE {bob} LOGIN;
         CREATE TABLE notes (id serial PRIMARY KEY, writer name, body text);
         ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON notes USING (writer = current_user);
         GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO {ann}; GRANT USAGE ON SEQUENCE notes_id_seq TO {ann};
         GRANT SELECT ON notes TO {bob};
         SELECT create_source('notes', content => 'body', mode => 'immediate')"
    ))?;
    let mut ann_session = shared().client_as(&ann, &database)?;
    ann_session.batch_execute(
        "INSERT INTO notes (writer, body) VALUES (current_user, 'The password of the safe is MAPLE.')",
    )?;
    owner.batch_execute(&format!(
        "INSERT INTO notes (writer, body) VALUES ('{bob}', 'The safe was painted in May.')"
    ))?;
    const SEEN: &str = "SELECT string_agg(chunk, '|') FROM notes_chunks";
    const FOUND: &str = "SELECT string_agg(content, '|') FROM rag_retrieve('the safe', 'notes', 9)";
    // A function of the reader's own, cheap enough to be asked before any other condition.
    const LEAK: &str = "CREATE FUNCTION pg_temp.leak(text) RETURNS bool LANGUAGE plpgsql COST 0.0001 AS
        $$ BEGIN IF $1 ~ 'MAPLE' THEN RAISE EXCEPTION 'leaked %', $1; END IF; RETURN true; END $$";
    let mut bob_session = shared().client_as(&bob, &database)?;
    for sql in [SEEN, FOUND] {
        ensure!(one::<String>(&mut bob_session, sql)? == "The safe was painted in May.");
        ensure!(one::<String>(&mut ann_session, sql)? == "The password of the safe is MAPLE.");
        ensure!(one::<String>(&mut owner, sql)?.len() > 50);
    }
    bob_session.batch_execute(LEAK)?;
    ensure!(
        one::<i64>(&mut bob_session, "SELECT count(*) FROM notes_chunks WHERE pg_temp.leak(chunk)")? == 1
    );
    for (sql, code) in [
        ("SELECT * FROM notes_chunks_queue", "42501"),
        ("DELETE FROM notes_chunks", "42501"),
        ("UPDATE notes_chunks SET chunk = 'x'", "42501"),
        ("SELECT drop_source('notes')", "42501"),
        ("SELECT alter_source('notes', chunk_tokens => 9)", "42501"),
        ("CALL process_queue('notes')", "42501"),
        ("CALL embed_all('notes')", "42501"),
        ("SELECT retry_failed('notes')", "42501"),
        ("SELECT pg_answer_depend('notes_chunks', 'notes')", "42501"),
        ("SELECT pg_answer_embed_entries('notes', false, '{1}')", "42501"),
        // The trigger sees only the tables that it is on.
        (
            "CREATE TEMP TABLE t (id int); CREATE TRIGGER x BEFORE INSERT ON t EXECUTE FUNCTION pg_answer_capture(); INSERT INTO t VALUES (1)",
            "39P01",
        ),
    ] {
        expect_code(&error_of(&mut bob_session, sql)?, code)?;
    }
    // Without a right to the text, none to its chunks.
    owner.batch_execute(&format!(
        "REVOKE SELECT ON notes FROM {bob}; GRANT SELECT (id, writer) ON notes TO {bob}"
    ))?;
    expect_code(&error_of(&mut bob_session, SEEN)?, "42501")?;
    expect_code(&error_of(&mut bob_session, FOUND)?, "42501")?;
    // A policy that binds the owner, too, binds his view of the chunks.
    owner.batch_execute(&format!(
        "ALTER TABLE notes OWNER TO {ann}; ALTER TABLE notes_chunks OWNER TO {ann}; ALTER TABLE notes_chunks_queue OWNER TO {ann};"
    ))?;
    ensure!(one::<String>(&mut ann_session, SEEN)?.contains("May"));
    ann_session.batch_execute("ALTER TABLE notes FORCE ROW LEVEL SECURITY")?;
    ensure!(one::<String>(&mut ann_session, SEEN)? == "The password of the safe is MAPLE.");
    owner.batch_execute(&format!("INSERT INTO notes (writer, body) VALUES ('{bob}', 'New.')"))?;
    ensure!(one::<i64>(&mut owner, "SELECT count(*) FROM notes_chunks")? == 3);
    Ok(())
}

#[test]
fn mistakes_are_told() -> Result<()> {
    let (_, mut client) = session("chunk_mistakes")?;
    client.batch_execute(
        "CREATE TABLE t (id int PRIMARY KEY, body text, maybe int); CREATE TABLE nokey (body text);
         CREATE VIEW v AS SELECT * FROM t; CREATE TABLE t_taken (a int)",
    )?;
    for (arguments, code, word) in [
        ("'t', content => 'nosuch'", "42703", "nosuch"),
        ("'nokey', content => 'body'", "42P16", "primary key"),
        ("'t', content => 'body', key => ARRAY['maybe']", "42P16", "maybe"),
        ("'v', content => 'body', key => ARRAY['id']", "42809", "v"),
        ("'t', content => 'body', mode => 'sometimes'", "23514", "mode"),
        ("'t', content => 'body', chunking => 'words'", "22023", "words"),
        ("'t', content => 'body', chunk_tokens => 9999", "22023", "9999"),
        ("'t', content => 'body', chunk_tokens => 0", "22023", "at least one"),
        ("'t', content => 'body', chunk_tokens => 9, chunk_overlap => 9", "22023", "overlap"),
        ("'t', content => 'body', chunks => 't_taken'", "42P07", "t_taken"),
        ("'t', content => 'body', model => 'no-such-model'", "42704", "no-such-model"),
        ("'t', content => 'body', model => 'qwen2.5-coder-0.5b-instruct'", "22023", "qwen"),
    ] {
        let error = error_of(&mut client, &format!("SELECT create_source({arguments})"))?;
        ensure!(error.code().code() == code && error.message().contains(word), "{arguments}: {error:?}");
    }
    ensure!(one::<i64>(&mut client, "SELECT count(*) FROM pg_class WHERE relname ~ '_chunks'")? == 0);
    Ok(())
}

/// Writers, workers and readers at once.
#[test]
fn sessions_at_once_leave_right_chunks() -> Result<()> {
    let (database, mut client) = session("at_once")?;
    notes(&mut client, "queued")?;
    std::thread::scope(|scope| -> Result<()> {
        let writers: Vec<_> = (0..3)
            .map(|w| {
                let database = &database;
                scope.spawn(move || -> Result<()> {
                    let mut client: Client = shared().client(database)?;
                    for i in 0..60 {
                        let id = 5000 + (i * 7 + w) % 40;
                        client.batch_execute(&format!(
                            "INSERT INTO notes VALUES ({id}, 'w{w} i{i}') ON CONFLICT (id) DO UPDATE SET body = excluded.body"
                        ))?;
                        if i % 10 == w {
                            client.batch_execute(&format!("DELETE FROM notes WHERE id = {id}"))?;
                            client.batch_execute("CALL process_queue('notes')")?;
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        writers.into_iter().try_for_each(|w| w.join().expect("no panic"))
    })?;
    wait(&mut client, "notes")?;
    ensure!(wrong_chunks(&mut client, "notes", "notes_chunks", LIMITS)? == 0);
    Ok(())
}
