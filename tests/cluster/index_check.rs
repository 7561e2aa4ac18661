//! `ann_check` compares an index with its table, and names the row that they disagree about.

use anyhow::{Context, Result, ensure};
use postgres::Client;

use crate::{error_of, expect_code, one, session};

/// Fails unless the comparison ends with an error about `row`, in which `words` occur, though the pages are whole.
fn expect_disagreement(client: &mut Client, index: &str, row: &str, words: &str) -> Result<()> {
    one::<i64>(client, &format!("SELECT ann_check('{index}')"))?;
    let error = error_of(client, &format!("SELECT ann_check('{index}', heap => true)"))?;
    expect_code(&error, "XX002")?;
    let named: String = one(client, &format!("SELECT ctid::text FROM t WHERE {row}"))?;
    ensure!(
        error.message().contains(&named) && error.message().contains(words),
        "{named}, {words}: {error:?}"
    );
    ensure!(error.hint().is_some_and(|hint| hint.contains("REINDEX")), "{error:?}");
    Ok(())
}

/// Brings the functions back to what they were, and the index into agreement.
fn repair(client: &mut Client, index: &str) -> Result<()> {
    client.batch_execute(&format!("{}; {}", redefine("shift", "0"), redefine("key_of", "i")))?;
    client.batch_execute(&format!("REINDEX INDEX {index}"))?;
    one::<i64>(client, &format!("SELECT ann_check('{index}', heap => true)")).map(|_| ())
}

/// Makes the function another one, though it is called immutable.
fn redefine(name: &str, body: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION {name}(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN {body}; END'"
    )
}

#[test]
fn rows_of_the_table_are_compared() -> Result<()> {
    let (_, mut client) = session("check")?;
    client.batch_execute(
        "CREATE TABLE t (id int PRIMARY KEY, tag int, note text);
         CREATE FUNCTION shift(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 0; END';
         CREATE FUNCTION vector_of(i int) RETURNS vector(24) LANGUAGE sql IMMUTABLE AS $$
             SELECT CASE WHEN i % 100 = 0 THEN array_fill(0::real, ARRAY[24]) WHEN i % 101 = 0 THEN NULL ELSE
                 (SELECT array_agg(sin(i * 0.37 + j * j * 1.7 + public.shift(i))) FROM generate_series(1, 24) j)::real[] END::public.vector $$;
         CREATE FUNCTION key_of(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN i; END';
         INSERT INTO t SELECT i, i % 7 FROM generate_series(1, 3000) i;",
    )?;
    for class in ["vector_l2_ops", "vector_ip_ops", "vector_cosine_ops", "vector_l1_ops"] {
        client.batch_execute(&format!(
            "CREATE INDEX i_{class} ON t USING ann ((vector_of(id)::vector(24)) {class}, key_of(tag)) WHERE id <> 17"
        ))?;
    }
    // It locks the table and takes a snapshot, which no query that has parallel workers may do.
    client.batch_execute(
        "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0",
    )?;
    let beside = "SELECT ann_check('i_vector_l2_ops', heap => true) <= (SELECT count(*) FROM t)";
    ensure!(one::<bool>(&mut client, beside)?);
    client.batch_execute("RESET ALL")?;
    // Rows that were updated within their page, that were inserted, split off by VACUUM, or left behind by a rollback.
    for statement in [
        "UPDATE t SET note = 'x' WHERE id % 3 = 0",
        "INSERT INTO t SELECT i, i % 7 FROM generate_series(3001, 9000) i",
        "BEGIN; INSERT INTO t SELECT i, 1 FROM generate_series(9001, 9100) i; ROLLBACK",
        "DELETE FROM t WHERE id % 11 = 0",
    ] {
        client.batch_execute(statement)?;
    }
    client.batch_execute("VACUUM t")?;
    client.batch_execute("INSERT INTO t SELECT i, i % 7 FROM generate_series(11, 9000, 11) i")?;
    for class in ["vector_l2_ops", "vector_ip_ops", "vector_cosine_ops", "vector_l1_ops"] {
        let index = format!("i_{class}");
        let rows: i64 = one(&mut client, &format!("SELECT ann_check('{index}', heap => true)"))?;
        ensure!(rows >= 8800, "{index}: {rows} rows");

        client.batch_execute(&format!(
            "UPDATE pg_index SET indisready = false WHERE indexrelid = '{index}'::regclass"
        ))?;
        client.batch_execute("UPDATE t SET id = -id WHERE id = 4243")?;
        client.batch_execute(&format!(
            "UPDATE pg_index SET indisready = true WHERE indexrelid = '{index}'::regclass"
        ))?;
        expect_disagreement(&mut client, &index, "id = -4243", "no entry")
            .with_context(|| format!("{index}: a missing row"))?;
        repair(&mut client, &index)?;

        client.batch_execute(&redefine("shift", "(i = 777)::int"))?;
        expect_disagreement(&mut client, &index, "id = 777", "another vector")
            .with_context(|| format!("{index}: another vector"))?;
        repair(&mut client, &index)?;

        client.batch_execute(&redefine("key_of", "i + (i > 6)::int"))?;
        client.batch_execute("UPDATE t SET tag = 7 WHERE id = 99")?;
        client.batch_execute(&redefine("key_of", "i"))?;
        expect_disagreement(&mut client, &index, "id = 99", "other keys")
            .with_context(|| format!("{index}: other keys"))?;
        client
            .batch_execute("UPDATE t SET tag = 1 WHERE id = 99; UPDATE t SET id = 4243 WHERE id = -4243")?;
        client.batch_execute(&format!("DROP INDEX {index}"))?;
    }
    // A build that was not finished need not hold all rows.
    client.batch_execute("CREATE INDEX broken ON t USING ann ((vector_of(id)::vector(24)) vector_l2_ops)")?;
    client.batch_execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass")?;
    expect_code(&error_of(&mut client, "SELECT ann_check('broken', heap => true)")?, "55000")?;
    for wrong in ["t", "t_pkey"] {
        let error = error_of(&mut client, &format!("SELECT ann_check('{wrong}', heap => true)"))?;
        expect_code(&error, "42809")?;
    }
    Ok(())
}

/// Who checks does not lend its rights to what the index of another calls.
#[test]
fn expressions_run_as_the_owner() -> Result<()> {
    let (_, mut client) = session("check_owner")?;
    client.batch_execute(
        "DROP ROLE IF EXISTS check_owner;
         CREATE ROLE check_owner; CREATE TABLE seen (who text); GRANT ALL ON seen TO public;
         GRANT ALL ON SCHEMA public TO check_owner;
         SET ROLE check_owner;
         CREATE FUNCTION watched(v vector(2)) RETURNS vector(2) LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
             IF current_user <> 'check_owner' THEN RAISE 'called as %', current_user; END IF; RETURN v; END $$;
         CREATE TABLE t (v vector(2));
         INSERT INTO t VALUES ('[1,2]'), ('[3,4]');
         CREATE INDEX i ON t USING ann ((watched(v)::vector(2)) vector_l2_ops);
         RESET ROLE",
    )?;
    ensure!(one::<i64>(&mut client, "SELECT ann_check('i', heap => true)")? == 2);
    ensure!(one::<String>(&mut client, "SELECT current_user::text")? == "postgres");
    Ok(())
}
