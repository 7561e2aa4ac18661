//! What one role may see of another's, and what it may not change.

use anyhow::{Result, ensure};
use postgres::Client;

use crate::{RETRIEVE, docs, error_of, expect_code, one, session, shared};

/// Creates a role whose name begins with `prefix` and the database's, since roles are of the whole cluster.
fn role(client: &mut Client, prefix: &str, database: &str) -> Result<String> {
    let name = format!("{prefix}_{database}");
    client.batch_execute(&format!("CREATE ROLE {name} LOGIN"))?;
    Ok(name)
}

#[test]
fn row_level_security_holds() -> Result<()> {
    let (database, mut owner) = session("rls")?;
    let (ann, bob) = (role(&mut owner, "ann", &database)?, role(&mut owner, "bob", &database)?);
    owner.batch_execute(&format!(
        "CREATE TABLE notes (id serial PRIMARY KEY, writer name, body text, embedding vector(384));
         ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON notes USING (writer = current_user);
         GRANT SELECT ON notes TO {ann}, {bob};
         INSERT INTO notes (writer, body, embedding) SELECT w, b, embed(b) FROM (VALUES
             ('{ann}', 'The password of the safe is MAPLE.'),
             ('{ann}', 'The safe stands behind the green curtain.'),
             ('{bob}', 'The safe was painted in May.')) AS v(w, b);
         SELECT create_source('notes', content => 'body', embedding => 'embedding');"
    ))?;
    const SEEN: &str =
        "SELECT string_agg(content, ' ') FROM rag_retrieve('What is the password of the safe?', 'notes', 10)";
    const ANSWER: &str =
        "SELECT rag_answer('What is the password of the safe?', 'notes', 10, max_tokens => 32)";
    ensure!(one::<String>(&mut owner, SEEN)?.len() > 80, "the owner sees all");
    let mut ann = shared().client_as(&ann, &database)?;
    let seen: String = one(&mut ann, SEEN)?;
    ensure!(seen.contains("MAPLE") && seen.contains("curtain") && !seen.contains("May"), "{seen}");
    ensure!(one::<String>(&mut ann, ANSWER)?.contains("MAPLE"));
    let mut bob_session = shared().client_as(&bob, &database)?;
    ensure!(one::<String>(&mut bob_session, SEEN)? == "The safe was painted in May.");
    let answer: String = one(&mut bob_session, ANSWER)?;
    ensure!(!answer.to_uppercase().contains("MAPLE"), "{answer}");
    // The same session under another role: nothing may be left of the first role's plans.
    ensure!(one::<String>(&mut owner, SEEN)?.contains("MAPLE"));
    owner.batch_execute(&format!("SET ROLE {bob}"))?;
    ensure!(one::<String>(&mut owner, SEEN)? == "The safe was painted in May.");
    owner.batch_execute("RESET ROLE")?;
    ensure!(one::<String>(&mut owner, SEEN)?.contains("MAPLE"));
    Ok(())
}

#[test]
fn grants_hold() -> Result<()> {
    let (database, mut owner) = session("grants")?;
    docs(&mut owner)?;
    let guest = role(&mut owner, "guest", &database)?;
    let mut session = shared().client_as(&guest, &database)?;
    expect_code(&error_of(&mut session, RETRIEVE)?, "42501")?;
    expect_code(&error_of(&mut session, "SELECT rag_answer('sand?', 'docs')")?, "42501")?;
    expect_code(&error_of(&mut session, "SELECT drop_source('docs')")?, "42501")?;
    // Columns that the source needs are enough.
    owner.batch_execute(&format!("GRANT SELECT (id, body, embedding) ON docs TO {guest}"))?;
    ensure!(one::<String>(&mut session, RETRIEVE)? == one::<String>(&mut owner, RETRIEVE)?);
    owner.batch_execute("CREATE TABLE other (id int PRIMARY KEY, body text, embedding vector(384))")?;
    let create = "SELECT create_source('other', content => 'body', embedding => 'embedding')";
    expect_code(&error_of(&mut session, create)?, "42501")?;
    expect_code(
        &error_of(&mut session, "INSERT INTO pg_answer_sources SELECT * FROM pg_answer_sources")?,
        "42501",
    )?;
    expect_code(&error_of(&mut session, "DELETE FROM pg_answer_sources")?, "42501")?;
    for source in ["NULL", "'docs'"] {
        let write = format!("INSERT INTO pg_answer_prompts VALUES ({source}, 9, 'Say yes.', '')");
        expect_code(&error_of(&mut session, &write)?, "42501")?;
    }
    // An ordinary role has models and sources of its own.
    ensure!(one::<i64>(&mut session, "SELECT count(*) FROM pg_answer_models WHERE dims = 384")? >= 1);
    owner.batch_execute(&format!("GRANT CREATE ON SCHEMA public TO {guest}"))?;
    session.batch_execute(
        "CREATE TABLE mine (id int PRIMARY KEY, body text, embedding vector(384));
         INSERT INTO mine SELECT 1, 'mine', embed('mine');
         SELECT create_source('mine', content => 'body', embedding => 'embedding');
         INSERT INTO pg_answer_prompts VALUES ('mine', 1, 'Mine', '{{ query }}')",
    )?;
    ensure!(one::<bool>(&mut session, "SELECT rag_prompt('x', 'mine') LIKE '%Mine%'")?);
    ensure!(one::<i64>(&mut session, "SELECT count(*) FROM rag_retrieve('mine', 'mine')")? == 1);
    session.batch_execute("SELECT drop_source('mine'); DROP TABLE mine")?;
    Ok(())
}

#[test]
fn model_files_come_only_from_where_the_superuser_says() -> Result<()> {
    let (database, mut owner) = session("paths")?;
    let guest = role(&mut owner, "guest", &database)?;
    let mut session = shared().client_as(&guest, &database)?;
    expect_code(
        &error_of(&mut session, "SELECT embed('load'); SET pg_answer.model_path = '/tmp'")?,
        "42501",
    )?;
    for name in ["../all-MiniLM-L6-v2", "/etc/passwd", "a/b", "", ".hidden", "a\\b", &"x".repeat(200)] {
        let error = error_of(&mut session, &format!("SELECT embed('x', '{name}')"))?;
        expect_code(&error, "22023")?;
        expect_code(&error_of(&mut session, &format!("SELECT generate('x', model => '{name}')"))?, "22023")?;
    }
    Ok(())
}

/// Functions, operators, casts and tables of a schema that comes first in the search path change nothing.
#[test]
fn a_hostile_search_path_changes_nothing() -> Result<()> {
    let (_, mut client) = session("hostile")?;
    docs(&mut client)?;
    let answer = "SELECT public.rag_answer('What does quartz sand cost?', 'public.docs', max_tokens => 32)";
    let (retrieved, answered): (String, String) = (one(&mut client, RETRIEVE)?, one(&mut client, answer)?);
    client.batch_execute(
        "CREATE SCHEMA evil;
         CREATE FUNCTION evil.trap() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
         CREATE FUNCTION evil.embed(text) RETURNS public.vector LANGUAGE plpgsql AS
             $$ BEGIN PERFORM evil.trap(); RETURN NULL; END $$;
         CREATE FUNCTION evil.embed(text, text) RETURNS public.vector LANGUAGE plpgsql AS
             $$ BEGIN PERFORM evil.trap(); RETURN NULL; END $$;
         CREATE FUNCTION evil.embed_query(text, text) RETURNS public.vector LANGUAGE plpgsql AS
             $$ BEGIN PERFORM evil.trap(); RETURN NULL; END $$;
         CREATE FUNCTION evil.distance(public.vector, public.vector) RETURNS float8 LANGUAGE plpgsql AS
             $$ BEGIN PERFORM evil.trap(); RETURN 0; END $$;
         CREATE OPERATOR evil.<=> (FUNCTION = evil.distance, LEFTARG = public.vector, RIGHTARG = public.vector);
         CREATE OPERATOR evil.<#> (FUNCTION = evil.distance, LEFTARG = public.vector, RIGHTARG = public.vector);
         CREATE FUNCTION evil.equal(oid, oid) RETURNS bool LANGUAGE plpgsql AS
             $$ BEGIN PERFORM evil.trap(); RETURN true; END $$;
         CREATE OPERATOR evil.= (FUNCTION = evil.equal, LEFTARG = oid, RIGHTARG = oid);
         CREATE FUNCTION evil.minus(float8, float8) RETURNS float8 LANGUAGE plpgsql AS
             $$ BEGIN PERFORM evil.trap(); RETURN 0; END $$;
         CREATE OPERATOR evil.- (FUNCTION = evil.minus, LEFTARG = float8, RIGHTARG = float8);
         CREATE FUNCTION evil.minus(int, float8) RETURNS float8 LANGUAGE plpgsql AS
             $$ BEGIN PERFORM evil.trap(); RETURN 0; END $$;
         CREATE OPERATOR evil.- (FUNCTION = evil.minus, LEFTARG = int, RIGHTARG = float8);
         CREATE FUNCTION evil.format(text, VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS
             $$ BEGIN PERFORM evil.trap(); RETURN ''; END $$;
         CREATE FUNCTION evil.jsonb_build_object(VARIADIC text[]) RETURNS jsonb LANGUAGE plpgsql AS
             $$ BEGIN PERFORM evil.trap(); RETURN '{}'; END $$;
         CREATE FUNCTION evil.concat_ws(text, VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS
             $$ BEGIN PERFORM evil.trap(); RETURN ''; END $$;
         CREATE TABLE evil.pg_answer_sources (relation int);
         CREATE TABLE evil.pg_class (oid int);
         CREATE DOMAIN evil.vector AS int;
         CREATE TABLE evil.docs (id int PRIMARY KEY);
         CREATE TEMP TABLE pg_answer_sources (relation int);
         CREATE TEMP TABLE docs (id int);
         SET search_path = evil, pg_temp, pg_catalog, public",
    )?;
    // The test's own query must not fall into the traps.
    const PLAIN: &str =
        "SELECT content FROM public.rag_retrieve('What does quartz sand cost?', 'public.docs', 1)";
    ensure!(retrieved.contains(&one::<String>(&mut client, PLAIN)?));
    ensure!(one::<String>(&mut client, answer)? == answered);
    client.batch_execute(
        "INSERT INTO public.docs (body) VALUES ('embedded by the trigger');
         SELECT public.drop_source('public.docs');
         SELECT public.create_source('public.docs', content => 'body', embedding => 'embedding')",
    )?;
    ensure!(one::<bool>(
        &mut client,
        "SELECT embedding IS NOT NULL FROM public.docs ORDER BY id DESC LIMIT 1"
    )?);
    client.batch_execute("SET search_path = ''")?;
    ensure!(retrieved.contains(&one::<String>(&mut client, PLAIN)?));
    client.batch_execute("INSERT INTO public.docs (body) VALUES ('with an empty path')")?;
    ensure!(one::<String>(&mut client, answer)? == answered);
    Ok(())
}
