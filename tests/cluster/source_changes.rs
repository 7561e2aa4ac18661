//! Declarations and tables of sources change under sessions that write; the chunks stay right.

use anyhow::{Context, Result, ensure};
use postgres::{Client, GenericClient};

use crate::chunks::wrong_chunks;
use crate::{error_of, expect_code, one, session, shared};

const CUT: &str = "'recursive', 256, 0";

/// A source without a worker: what is queued stays so until somebody calls process_queue().
fn notes(client: &mut impl GenericClient, mode: &str) -> Result<()> {
    Ok(client.batch_execute(&format!(
        "SET pg_answer.background_worker = off;
         CREATE TABLE notes (id int PRIMARY KEY, body text, other text);
         SELECT create_source('notes', content => 'body', mode => '{mode}')"
    ))?)
}

/// Each by itself: a procedure that commits cannot be called among others.
fn run(client: &mut impl GenericClient, statements: &[&str]) -> Result<()> {
    statements.iter().try_for_each(|sql| Ok(client.batch_execute(sql)?))
}

const PROCESS: &str = "CALL process_queue()";

fn left(client: &mut impl GenericClient) -> Result<i64> {
    one(client, "SELECT rows_left FROM pg_answer_source_progress WHERE NOT building")
}

fn wrong(client: &mut Client) -> Result<i64> {
    client.batch_execute(PROCESS)?;
    wrong_chunks(client, "notes", "notes_chunks", CUT)
}

/// A session keeps what it has learned of a source only as long as it is true.
#[test]
fn sessions_learn_of_changes() -> Result<()> {
    let (database, mut owner) = session("learn")?;
    notes(&mut owner, "manual")?;
    let mut writer = shared().client(&database)?;
    writer.batch_execute("SET pg_answer.background_worker = off; INSERT INTO notes VALUES (1, 'queued')")?;
    ensure!(left(&mut owner)? == 1);
    owner.batch_execute("SELECT alter_source('notes', mode => 'immediate')")?;
    writer.batch_execute("INSERT INTO notes VALUES (2, 'at once')")?;
    ensure!(left(&mut owner)? == 1);
    ensure!(one::<String>(&mut owner, "SELECT string_agg(chunk, '|') FROM notes_chunks")? == "at once");
    // The writer's table, its schema, the queue and a column get other names.
    owner.batch_execute("SELECT alter_source('notes', mode => 'manual')")?;
    writer.batch_execute("INSERT INTO notes VALUES (3, 'queued')")?;
    owner.batch_execute("CREATE SCHEMA s; ALTER TABLE notes_chunks_queue SET SCHEMA s")?;
    writer.batch_execute("INSERT INTO notes VALUES (4, 'queued')")?;
    owner.batch_execute("ALTER SCHEMA s RENAME TO t")?;
    writer.batch_execute("INSERT INTO notes VALUES (5, 'queued')")?;
    owner.batch_execute("ALTER TABLE t.notes_chunks_queue RENAME TO q")?;
    writer.batch_execute("INSERT INTO notes VALUES (6, 'queued')")?;
    owner.batch_execute("ALTER TABLE notes RENAME COLUMN id TO number")?;
    writer.batch_execute(
        "INSERT INTO notes VALUES (7, 'queued'); UPDATE notes SET body = 'new' WHERE number = 2",
    )?;
    owner.batch_execute("ALTER TABLE notes RENAME COLUMN number TO id")?;
    ensure!(left(&mut owner)? == 7);
    ensure!(wrong(&mut owner)? == 0);
    // What is rolled back was never so.
    writer.batch_execute(
        "BEGIN; SELECT alter_source('notes', mode => 'immediate'); INSERT INTO notes VALUES (8, 'x'); ROLLBACK;
         INSERT INTO notes VALUES (8, 'queued')",
    )?;
    ensure!(left(&mut owner)? == 1);
    owner.batch_execute("SELECT drop_source('notes')")?;
    writer.batch_execute("INSERT INTO notes VALUES (9, 'nobody looks')")?;
    owner.batch_execute("SELECT create_source('notes', content => 'body', mode => 'manual')")?;
    writer.batch_execute("INSERT INTO notes VALUES (10, 'queued')")?;
    ensure!(wrong(&mut owner)? == 0);
    Ok(())
}

#[test]
fn only_what_is_embedded_counts_as_changed() -> Result<()> {
    let (_, mut client) = session("changed")?;
    // From version 18 on a generated column can be made when it is read: then a row does not tell what it was.
    let is_virtual = one::<bool>(&mut client, "SELECT current_setting('server_version_num')::int >= 180000")?;
    let generated = if is_virtual { "VIRTUAL" } else { "STORED" };
    client.batch_execute(&format!(
        "SET pg_answer.background_worker = off;
         CREATE TABLE notes (id int PRIMARY KEY, word text, body text GENERATED ALWAYS AS ('The ' || word) {generated}, big text, other text);
         SELECT create_source('notes', content => ARRAY['body', 'big'], mode => 'manual');
         INSERT INTO notes (id, word, big) SELECT i, 'note ' || i, (SELECT string_agg(md5(j::text), ' ') FROM generate_series(1, 300) j)
             FROM generate_series(1, 3) i"
    ))?;
    run(&mut client, &[PROCESS, "UPDATE notes SET other = 'x'"])?;
    ensure!(left(&mut client)? == if is_virtual { 3 } else { 0 });
    run(&mut client, &[PROCESS, "UPDATE notes SET big = big || ''"])?;
    ensure!(left(&mut client)? == if is_virtual { 3 } else { 0 });
    client.batch_execute(PROCESS)?;
    for change in ["word = 'changed'", "big = big || '.'", "big = NULL", "id = id + 100", "big = ''"] {
        client.batch_execute(&format!("UPDATE notes SET {change} WHERE id % 10 = 2"))?;
        let expected = if change.starts_with("id") { 2 } else { 1 };
        ensure!(left(&mut client)? == expected, "{change}");
        client.batch_execute(PROCESS)?;
    }
    const KEYS: &str = "SELECT string_agg(DISTINCT id::text, ',' ORDER BY id::text) FROM notes_chunks";
    ensure!(one::<String>(&mut client, KEYS)? == "1,102,3");
    ensure!(one::<bool>(
        &mut client,
        "SELECT chunk LIKE 'body: The changed%' FROM notes_chunks WHERE id = 102"
    )?);
    Ok(())
}

/// Many entries of one row are the work of one row.
#[test]
fn a_row_written_often_is_embedded_once() -> Result<()> {
    let (_, mut client) = session("often")?;
    notes(&mut client, "manual")?;
    client.batch_execute("INSERT INTO notes VALUES (1, 'a body')")?;
    for i in 0..300 {
        client.batch_execute(&format!("UPDATE notes SET body = 'body {i}'"))?;
    }
    ensure!(one::<i64>(&mut client, "SELECT pg_answer_process_batch('notes', false)")? == 1);
    ensure!(left(&mut client)? == 0);
    ensure!(wrong(&mut client)? == 0);
    Ok(())
}

/// Transactions that keep their snapshot write rows of which others have made chunks, or a source, since.
#[test]
fn writers_with_old_snapshots() -> Result<()> {
    let (database, mut client) = session("snapshot")?;
    client.batch_execute(
        "SET pg_answer.background_worker = off; CREATE TABLE notes (id int PRIMARY KEY, body text, other text);
         INSERT INTO notes SELECT i, 'old ' || i FROM generate_series(1, 5) i",
    )?;
    let mut writer = shared().client(&database)?;
    writer.batch_execute(
        "SET default_transaction_isolation = 'repeatable read'; BEGIN; SELECT 1 FROM pg_class",
    )?;
    client.batch_execute("SELECT create_source('notes', content => 'body', mode => 'immediate')")?;
    client.batch_execute(PROCESS)?;
    ensure!(one::<i64>(&mut client, "SELECT count(*) FROM notes_chunks")? == 5);
    writer.batch_execute(
        "UPDATE notes SET body = 'new 1' WHERE id = 1; UPDATE notes SET body = NULL WHERE id = 2;
         DELETE FROM notes WHERE id = 3; UPDATE notes SET id = 40 WHERE id = 4; INSERT INTO notes VALUES (6, 'new 6'); COMMIT",
    )?;
    ensure!(wrong_chunks(&mut client, "notes", "notes_chunks", CUT)? == 0);
    // Whoever sees to the queue may have such a default, too.
    client.batch_execute(
        "SELECT alter_source('notes', mode => 'manual'); UPDATE notes SET body = body || '.'",
    )?;
    writer.batch_execute("CALL process_queue()")?;
    ensure!(left(&mut client)? == 0);
    ensure!(wrong_chunks(&mut client, "notes", "notes_chunks", CUT)? == 0);
    client.batch_execute("UPDATE notes SET body = body || '!'")?;
    writer.batch_execute("CALL embed_all('notes', again => true)")?;
    ensure!(wrong_chunks(&mut client, "notes", "notes_chunks", CUT)? == 0);
    Ok(())
}

#[test]
fn children_of_a_table() -> Result<()> {
    for mode in ["immediate", "manual"] {
        let (_, mut client) = session("children")?;
        notes(&mut client, mode)?;
        client.batch_execute(
            "CREATE TABLE letters (id int PRIMARY KEY, sender text) INHERITS (notes);
             CREATE TABLE old_letters (year int, PRIMARY KEY (id)) INHERITS (letters);
             CREATE TABLE faxes (year int, body text, id int PRIMARY KEY, other text); ALTER TABLE faxes INHERIT notes;
             INSERT INTO notes VALUES (1, 'One.'), (2, 'Two.'); INSERT INTO letters VALUES (11, 'Eleven.'), (12, 'Twelve.');
             INSERT INTO old_letters (id, body) VALUES (21, 'Twenty-one.'), (22, 'Twenty-two.');
             INSERT INTO faxes (id, body) VALUES (31, 'Thirty-one.'), (32, 'Thirty-two.');
             UPDATE notes SET body = 'Changed.' WHERE id % 10 = 2; UPDATE letters SET body = 'A letter.' WHERE id % 10 = 1;
             UPDATE ONLY notes SET body = 'Only one.' WHERE id IN (1, 11); UPDATE faxes SET id = 33 WHERE id = 31;
             DELETE FROM notes WHERE id IN (2, 12); UPDATE old_letters SET body = body || '!'",
        )?;
        ensure!(wrong(&mut client)? == 0, "{mode}");
        ensure!(one::<i64>(&mut client, "SELECT count(*) FROM notes_chunks")? == 6);
        client.batch_execute(
            "TRUNCATE ONLY letters; DROP TABLE faxes;
             CREATE TABLE cards (id int PRIMARY KEY, body text, other text); INSERT INTO cards VALUES (41, 'Forty-one.');
             ALTER TABLE cards INHERIT notes; ALTER TABLE letters NO INHERIT notes",
        )?;
        ensure!(wrong(&mut client)? == 0, "{mode}");
        ensure!(one::<String>(&mut client, "SELECT string_agg(id::text, ' ') FROM notes_chunks")? == "1 41");
        client.batch_execute("TRUNCATE notes")?;
        ensure!(one::<i64>(&mut client, "SELECT count(*) FROM notes_chunks")? == 0);
    }
    Ok(())
}

/// Partitions bring their rows and take them away.
#[test]
fn partitions_come_and_go() -> Result<()> {
    for (mode, replica) in [("queued", false), ("immediate", true)] {
        let (_, mut client) = session("partitions")?;
        client.batch_execute(&format!(
            "SET pg_answer.background_worker = off;
             CREATE TABLE notes (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);
             CREATE TABLE first PARTITION OF notes FOR VALUES FROM (0) TO (100);
             CREATE TABLE second PARTITION OF notes FOR VALUES FROM (100) TO (200);
             INSERT INTO notes VALUES (1, 'One.'), (101, 'One hundred and one.');
             SELECT create_source('notes', content => 'body', mode => '{mode}', replica => {replica});
             CREATE TABLE parts (body text, id int PRIMARY KEY) PARTITION BY RANGE (id);
             CREATE TABLE third PARTITION OF parts FOR VALUES FROM (200) TO (300);
             CREATE TABLE fourth (id int PRIMARY KEY, body text);
             INSERT INTO parts (id, body) VALUES (201, 'Two hundred and one.');
             INSERT INTO fourth SELECT i, 'Number ' || i FROM generate_series(300, 499) i"
        ))?;
        const IDS: &str = "SELECT string_agg(id::text, ' ' ORDER BY id) FROM notes_chunks WHERE id < 300 OR id IN (300, 499)";
        for (change, ids) in [
            ("ALTER TABLE notes ATTACH PARTITION parts FOR VALUES FROM (200) TO (300)", "1 101 201"),
            ("ALTER TABLE notes ATTACH PARTITION fourth FOR VALUES FROM (300) TO (500)", "1 101 201 300 499"),
            ("CREATE TABLE fifth PARTITION OF notes FOR VALUES FROM (500) TO (600)", "1 101 201 300 499"),
            ("ALTER TABLE notes DETACH PARTITION first", "101 201 300 499"),
            ("ALTER TABLE notes DETACH PARTITION parts", "101 300 499"),
            ("DROP TABLE second", "300 499"),
        ] {
            client.batch_execute(change)?;
            ensure!(wrong(&mut client)? == 0, "{mode}, {change}");
            ensure!(one::<String>(&mut client, IDS)? == ids, "{mode}, {change}");
        }
        // What has left is written like any other table.
        client.batch_execute("INSERT INTO first VALUES (2, 'Two.'); UPDATE third SET body = 'None.'")?;
        const TRIGGERS: &str = "SELECT count(*) FROM pg_trigger
            WHERE tgname ~ '^pg_answer' AND tgrelid IN ('first'::regclass, 'parts'::regclass, 'third'::regclass)";
        ensure!(one::<i64>(&mut client, TRIGGERS)? == 0, "{mode}: triggers stay");
        ensure!(left(&mut client)? == 0);
    }
    Ok(())
}

#[test]
fn a_new_owner_gets_the_chunks() -> Result<()> {
    let (database, mut client) = session("owner")?;
    let (ann, bob) = (format!("ann_{database}"), format!("bob_{database}"));
    client.batch_execute(&format!(
        "CREATE ROLE {ann} LOGIN; CREATE ROLE {bob} LOGIN; GRANT {bob} TO {ann};
         GRANT CREATE ON SCHEMA public TO {ann}, {bob}"
    ))?;
    let mut first = shared().client_as(&ann, &database)?;
    notes(&mut first, "manual")?;
    first.batch_execute(&format!("ALTER TABLE notes OWNER TO {bob}"))?;
    const OWNERS: &str =
        "SELECT string_agg(DISTINCT relowner::regrole::text, ',') FROM pg_class WHERE relname ~ '^notes'";
    ensure!(one::<String>(&mut client, OWNERS)? == bob);
    let mut second = shared().client_as(&bob, &database)?;
    second.batch_execute("SET pg_answer.background_worker = off; INSERT INTO notes VALUES (1, 'One.')")?;
    ensure!(wrong(&mut second)? == 0);
    run(&mut second, &["SELECT alter_source('notes', chunk_tokens => 32)", PROCESS])?;
    client.batch_execute(&format!("REASSIGN OWNED BY {bob} TO postgres"))?;
    ensure!(one::<String>(&mut client, OWNERS)? == "postgres");
    run(&mut client, &["INSERT INTO notes VALUES (2, 'Two.')", PROCESS, "DROP TABLE notes"])
}

#[test]
fn parts_of_new_chunks_have_the_old_names() -> Result<()> {
    let (_, mut client) = session("names")?;
    notes(&mut client, "manual")?;
    client.batch_execute("INSERT INTO notes VALUES (1, 'One.')")?;
    const NAMES: &str =
        "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relname ~ '^notes_chunks'";
    let before: String = one(&mut client, NAMES)?;
    for tokens in [32, 64] {
        run(&mut client, &[&format!("SELECT alter_source('notes', chunk_tokens => {tokens})"), PROCESS])?;
        let after: String = one(&mut client, NAMES)?;
        ensure!(after == before, "{after}, not {before}");
    }
    Ok(())
}

#[test]
fn keys_that_are_arrays() -> Result<()> {
    let (_, mut client) = session("arrays")?;
    client.batch_execute("CREATE TABLE t (id int[] PRIMARY KEY, body text)")?;
    let error = error_of(&mut client, "SELECT create_source('t', content => 'body')")?;
    expect_code(&error, "0A000")?;
    ensure!(error.message().contains("\"id\"") && error.hint().is_some(), "{error:?}");
    Ok(())
}

/// The names of roles that begin with pg_ are PostgreSQL's: members of the owner's role administer a source.
#[test]
fn members_of_the_owners_role_administer() -> Result<()> {
    let (database, mut client) = session("members")?;
    let [keepers, ann, bob] = ["keepers", "ann", "bob"].map(|name| format!("{name}_{database}"));
    client.batch_execute(&format!(
        "CREATE ROLE {keepers}; CREATE ROLE {ann} LOGIN; CREATE ROLE {bob} LOGIN; GRANT {keepers} TO {ann};
         GRANT CREATE ON SCHEMA public TO {keepers}; SET ROLE {keepers}"
    ))?;
    notes(&mut client, "manual")?;
    client.batch_execute("INSERT INTO notes VALUES (1, 'One.'); RESET ROLE")?;
    expect_code(&error_of(&mut client, "CREATE ROLE pg_answer_admin")?, "42939")?;
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = std::sync::Arc::clone(&told);
    let mut config = shared().config(&ann, &database);
    config.notice_callback(move |notice| sink.lock().expect("no panic").push(notice.message().to_owned()));
    let mut member = config.connect(postgres::NoTls)?;
    run(&mut member, &["CALL embed_all('notes')"])?;
    let told = told.lock().expect("no panic").join("|");
    ensure!(told.starts_with("notes: 1 of 1 rows, ") && told.ends_with(" a second, 0 s left"), "{told}");
    ensure!(wrong(&mut member)? == 0);
    run(
        &mut member,
        &[
            "SELECT alter_source('notes', chunk_tokens => 32)",
            PROCESS,
            "SELECT retry_failed('notes')",
            "SELECT drop_source('notes')",
            "SELECT create_source('notes', content => 'body', mode => 'manual')",
        ],
    )?;
    let mut stranger = shared().client_as(&bob, &database)?;
    for sql in ["CALL embed_all('notes')", "SELECT drop_source('notes')"] {
        expect_code(&error_of(&mut stranger, sql)?, "42501").context(sql)?;
    }
    Ok(())
}
