//! pg_dump and restore lose nothing.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use postgres::Client;

use crate::{RETRIEVE, docs, one, session, shared};

/// More than the usual table: a generated column, an expression index, a source with several columns and a schema of
/// its own with a name that needs quotes.
const MORE: &str = r#"
    CREATE TABLE pages (page text, nr int, head text, body text,
        embedding vector(384) GENERATED ALWAYS AS (embed(body, 'all-MiniLM-L6-v2')) STORED,
        PRIMARY KEY (page, nr));
    CREATE INDEX pages_expression ON pages ((embed(head, 'all-MiniLM-L6-v2')));
    CREATE INDEX pages_keys ON pages USING ann (embedding vector_cosine_ops, nr) WITH (lists = 3);
    INSERT INTO pages SELECT 'p', i, 'head ' || i, 'body of page ' || i FROM generate_series(1, 20) AS i;
    SELECT create_source('pages', content => ARRAY['head', 'body'], embedding => 'embedding', title => 'head',
        model => 'all-MiniLM-L6-v2');
    CREATE SCHEMA "Odd schema";
    CREATE TABLE "Odd schema"."Odd table" ("Odd id" int PRIMARY KEY, "Odd text" text, "Odd vector" halfvec(384));
    INSERT INTO "Odd schema"."Odd table" SELECT 1, 'odd', embed('odd')::halfvec;
    CREATE TABLE plain (v vector, h halfvec(2), a vector[]);
    INSERT INTO plain VALUES ('[1,2.5]', '[0.5,-0]', ARRAY['[1]', NULL]::vector[]), (NULL, NULL, NULL);
    INSERT INTO pg_answer_conversations (conversation, turn, question, asked, answer, refused, citations)
        VALUES ('tea', 1, 'And how hot?', 'How hot for tea?', '70 degrees [1].', false, '[{"passage": 1}]');
"#;

/// Everything that must be equal before and after.
const CONTENT: [&str; 8] = [
    "SELECT string_agg(c::text, E'\n') FROM pg_answer_conversations AS c",
    "SELECT string_agg(docs::text, E'\n' ORDER BY id) FROM docs",
    "SELECT string_agg(pages::text, E'\n' ORDER BY nr) FROM pages",
    "SELECT string_agg(plain::text, E'\n' ORDER BY plain::text) FROM plain",
    r#"SELECT string_agg(t::text, E'\n') FROM "Odd schema"."Odd table" AS t"#,
    "SELECT string_agg(concat_ws('|', source, key, title, content, round(score::numeric, 5)), E'\n' ORDER BY score DESC)
     FROM rag_retrieve('page number seven', 'pages', 5)",
    "SELECT string_agg(indexdef, E'\n' ORDER BY indexname) || (ann_stats('pages_keys')->>'rows') FROM pg_indexes
     WHERE tablename = 'pages'",
    RETRIEVE,
];

fn content(client: &mut Client) -> Result<Vec<String>> {
    CONTENT.iter().map(|sql| one(client, sql)).collect()
}

/// `pg_dump options from | psql to`, both as `role`.
pub fn dump_and_restore(from: &str, to: &str, role: &str, options: &[&str]) -> Result<()> {
    let mut dump = shared()
        .connected_command("pg_dump")
        .args(["-U", role, "-d", from])
        .args(options)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run pg_dump")?;
    let input = dump.stdout.take().context("no pipe from pg_dump")?;
    let restore: &mut Command = &mut shared().connected_command("psql");
    restore.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", role, "-d", to]).stdin(input);
    let output = restore.output().context("cannot run psql")?;
    ensure!(dump.wait()?.success(), "pg_dump failed");
    ensure!(output.status.success(), "the restore failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The restored database goes on as the first one would.
fn goes_on(client: &mut Client) -> Result<()> {
    client.batch_execute("INSERT INTO docs (body) VALUES ('after the restore')")?;
    ensure!(one::<bool>(
        client,
        "SELECT embedding <-> embed(body) < 1e-5 FROM docs WHERE body = 'after the restore'"
    )?);
    client.batch_execute("SELECT drop_source('pages'); DROP TABLE docs")?;
    ensure!(one::<i64>(client, "SELECT count(*) FROM pg_answer_sources")? == 0);
    Ok(())
}

#[test]
fn a_restored_database_is_the_same() -> Result<()> {
    let (database, mut client) = session("dump")?;
    docs(&mut client)?;
    client.batch_execute(MORE)?;
    let before = content(&mut client)?;
    let restored = shared().create_empty_database("restored")?;
    dump_and_restore(&database, &restored, "postgres", &[])?;
    let mut client = shared().client(&restored)?;
    ensure!(content(&mut client)? == before);
    // A dump of the restored one is the same again.
    let again = shared().create_empty_database("again")?;
    dump_and_restore(&restored, &again, "postgres", &[])?;
    ensure!(content(&mut shared().client(&again)?)? == before);
    goes_on(&mut client)
}

/// No superuser anywhere: the owner of both databases dumps and restores.
#[test]
fn an_owner_dumps_and_restores() -> Result<()> {
    let from = shared().create_empty_database("owned")?;
    let to = shared().create_empty_database("owned")?;
    let role = format!("owner_{from}");
    shared().client("postgres")?.batch_execute(&format!("CREATE ROLE {role} LOGIN"))?;
    for database in [&from, &to] {
        shared().client("postgres")?.batch_execute(&format!("ALTER DATABASE {database} OWNER TO {role}"))?;
    }
    let mut client = shared().client_as(&role, &from)?;
    client.batch_execute("CREATE EXTENSION pg_answer")?;
    docs(&mut client)?;
    client.batch_execute(MORE)?;
    let before = content(&mut client)?;
    dump_and_restore(&from, &to, &role, &[])?;
    let mut client = shared().client_as(&role, &to)?;
    ensure!(content(&mut client)? == before);
    goes_on(&mut client)
}

/// Renamed at restore time, sources follow their tables; `pg_dump --schema-only` and `--table` work too.
#[test]
fn parts_of_a_database_are_dumped() -> Result<()> {
    let (database, mut client) = session("parts")?;
    docs(&mut client)?;
    for option in ["--schema-only", "--table=docs", "--data-only"] {
        let mut dump = shared().connected_command("pg_dump");
        let text = pg_answer_tests::installation::run(dump.args([option, "-d", &database]))?;
        ensure!(text.contains("docs"), "{option}: {text}");
    }
    Ok(())
}
