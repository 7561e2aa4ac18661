//! Both extensions in one database: pgvector's types in a schema of their own, and casts between theirs and ours.

use anyhow::{Result, ensure};
use postgres::GenericClient;

use crate::{error_of, expect_code, one, session};

/// pgvector is not in every distribution. Where it is missing, an extension of its name with a type of its layout stands in
/// for it, made of our functions; the server takes no notice that its files are missing.
const STAND_IN: &str = "
    CREATE TYPE pgvector.vector;
    CREATE FUNCTION pgvector.vector_in(cstring, oid, integer) RETURNS pgvector.vector
        AS '$libdir/pg_answer', 'pg_answer_vector_in' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
    CREATE FUNCTION pgvector.vector_out(pgvector.vector) RETURNS cstring
        AS '$libdir/pg_answer', 'pg_answer_vector_out' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
    CREATE FUNCTION pgvector.vector_typmod_in(cstring[]) RETURNS integer
        AS '$libdir/pg_answer', 'pg_answer_vector_typmod_in' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
    CREATE FUNCTION pgvector.vector_send(pgvector.vector) RETURNS bytea
        AS '$libdir/pg_answer', 'pg_answer_vector_send' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
    CREATE TYPE pgvector.vector (INPUT = pgvector.vector_in, OUTPUT = pgvector.vector_out, SEND = pgvector.vector_send,
        TYPMOD_IN = pgvector.vector_typmod_in, STORAGE = external);
    CREATE FUNCTION pgvector.vector(pgvector.vector, integer, boolean) RETURNS pgvector.vector
        AS '$libdir/pg_answer', 'pg_answer_vector_check_dims' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
    CREATE CAST (pgvector.vector AS pgvector.vector) WITH FUNCTION pgvector.vector(pgvector.vector, integer, boolean) AS IMPLICIT;
    CREATE FUNCTION pgvector.cosine_distance(pgvector.vector, pgvector.vector) RETURNS float8
        AS '$libdir/pg_answer', 'pg_answer_vector_cosine_distance' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
    CREATE OPERATOR pgvector.<=> (LEFTARG = pgvector.vector, RIGHTARG = pgvector.vector,
        FUNCTION = pgvector.cosine_distance, COMMUTATOR = OPERATOR(pgvector.<=>));
    SET allow_system_table_mods = on;
    INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
        SELECT pg_nextoid('pg_extension', 'oid', 'pg_extension_oid_index'), 'vector', 10, 'pgvector'::regnamespace, true, '0';
    RESET allow_system_table_mods;
    ALTER EXTENSION vector ADD TYPE pgvector.vector;
    ALTER EXTENSION vector ADD FUNCTION pgvector.vector_in(cstring, oid, integer);
    ALTER EXTENSION vector ADD FUNCTION pgvector.vector_out(pgvector.vector);
    ALTER EXTENSION vector ADD FUNCTION pgvector.vector_typmod_in(cstring[]);
    ALTER EXTENSION vector ADD FUNCTION pgvector.vector_send(pgvector.vector);
    ALTER EXTENSION vector ADD FUNCTION pgvector.vector(pgvector.vector, integer, boolean);
    ALTER EXTENSION vector ADD CAST (pgvector.vector AS pgvector.vector);
    ALTER EXTENSION vector ADD FUNCTION pgvector.cosine_distance(pgvector.vector, pgvector.vector);
    ALTER EXTENSION vector ADD OPERATOR pgvector.<=> (pgvector.vector, pgvector.vector)";

fn create_pgvector(client: &mut impl GenericClient) -> Result<()> {
    client.batch_execute("CREATE SCHEMA pgvector")?;
    let packaged =
        one::<bool>(client, "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector')")?;
    let create = if packaged { "CREATE EXTENSION vector SCHEMA pgvector" } else { STAND_IN };
    println!("{}", if packaged { "pgvector itself" } else { "a stand-in for pgvector" });
    Ok(client.batch_execute(create)?)
}

/// Casts between a type of ours and one of another schema.
const CASTS: &str =
    "SELECT count(*) FROM pg_cast c JOIN pg_type s ON s.oid = castsource JOIN pg_type t ON t.oid = casttarget
    WHERE s.typnamespace <> t.typnamespace AND 'public'::regnamespace IN (s.typnamespace, t.typnamespace)
      AND 'pgvector'::regnamespace IN (s.typnamespace, t.typnamespace)";

#[test]
fn our_vectors_find_rows_of_pgvectors_type() -> Result<()> {
    let (_, mut client) = session("beside")?;
    create_pgvector(&mut client)?;
    client.batch_execute("CREATE TABLE t (body text, theirs pgvector.vector(384), ours vector(384))")?;
    let insert =
        "INSERT INTO t (body, theirs) SELECT b, embed(b) FROM unnest(ARRAY['a cat', 'a stock exchange']) b";
    expect_code(&error_of(&mut client, insert)?, "42804")?;
    const NEAREST: &str =
        "SELECT body FROM t ORDER BY theirs OPERATOR(pgvector.<=>) embed('a kitten') LIMIT 1";
    expect_code(&error_of(&mut client, NEAREST)?, "42883")?;

    let types: i64 = one(
        &mut client,
        "SELECT count(*) FROM pg_type WHERE typnamespace = 'pgvector'::regnamespace AND typname IN ('vector', 'halfvec')",
    )?;
    let created: i32 = one(&mut client, "SELECT pg_answer_create_pgvector_casts()")?;
    ensure!(i64::from(created) == 2 * types && one::<i64>(&mut client, CASTS)? == 2 * types);
    ensure!(one::<i32>(&mut client, "SELECT pg_answer_create_pgvector_casts()")? == 0, "made twice");

    client.batch_execute(insert)?;
    client.batch_execute("UPDATE t SET ours = theirs")?;
    ensure!(one::<bool>(
        &mut client,
        "SELECT bool_and(vector_send(ours) = pgvector.vector_send(theirs)) FROM t"
    )?);
    // Whichever schema comes first, names without one find the operator of the column's type.
    for path in ["public, pgvector", "pgvector, public"] {
        client.batch_execute(&format!("SET search_path = {path}"))?;
        for column in ["theirs", "ours"] {
            let nearest = format!("SELECT body FROM t ORDER BY {column} <=> embed('a kitten') LIMIT 1");
            ensure!(one::<String>(&mut client, &nearest)? == "a cat", "{path}: {column}");
        }
        let first = path.split(',').next().unwrap_or_default();
        let of: String = one(
            &mut client,
            "SELECT typnamespace::regnamespace::text FROM pg_type WHERE oid = pg_typeof('[1]'::vector)",
        )?;
        ensure!(of == first, "{path}: vector is that of {of}");
    }
    // A dimension that does not fit is refused in either direction.
    client.batch_execute("SET search_path = public")?;
    expect_code(&error_of(&mut client, "INSERT INTO t (theirs) VALUES ('[1,2]'::vector)")?, "22000")?;
    expect_code(&error_of(&mut client, "INSERT INTO t (ours) VALUES ('[1,2]'::pgvector.vector)")?, "22000")?;
    Ok(())
}

#[test]
fn either_is_dropped_without_the_other() -> Result<()> {
    let (_, mut client) = session("beside_drop")?;
    create_pgvector(&mut client)?;
    client.batch_execute(
        "SELECT pg_answer_create_pgvector_casts();
         CREATE TABLE t (body text, theirs pgvector.vector(3), ours vector(3)); INSERT INTO t VALUES ('x', '[1,2,3]', '[1,2,3]')",
    )?;
    expect_code(&error_of(&mut client, "DROP EXTENSION vector")?, "2BP01")?;
    client.batch_execute("SET client_min_messages = warning; BEGIN; DROP EXTENSION vector CASCADE")?;
    ensure!(one::<i64>(&mut client, CASTS)? == 0, "casts to nowhere");
    ensure!(one::<String>(&mut client, "SELECT ours::text FROM t")? == "[1,2,3]");
    client.batch_execute("ROLLBACK")?;
    expect_code(&error_of(&mut client, "DROP EXTENSION pg_answer")?, "2BP01")?;
    client.batch_execute("DROP EXTENSION pg_answer CASCADE")?;
    ensure!(one::<String>(&mut client, "SELECT theirs::text FROM t")? == "[1,2,3]");
    ensure!(one::<bool>(
        &mut client,
        "SELECT count(*) = 0 FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'ours'"
    )?);
    client.batch_execute("CREATE EXTENSION pg_answer; SELECT pg_answer_create_pgvector_casts()")?;
    Ok(())
}
