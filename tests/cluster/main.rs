//! What needs real models and more than one session, role or server.

mod answer;
mod arguments;
mod cancel;
mod catalog;
mod chat;
mod chunks;
mod crash;
mod damage;
mod dump;
mod extension;
mod families;
mod index;
mod index_check;
mod index_data;
mod index_disk;
mod index_filter;
mod injection;
mod pgvector;
mod queue;
mod retrieve;
mod security;
mod sessions;
mod source;
mod source_changes;
mod standby;
mod stats;
mod stream;
mod structure;
mod tasks;

use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use pg_answer_tests::{Cluster, Options};
use postgres::error::DbError;
use postgres::{Client, GenericClient};

/// The cluster of all tests that need none of their own; each uses a database of its own in it.
fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    // A panic, since every test of this binary would end with the same error.
    SHARED.get_or_init(|| {
        Options::default()
            .models()
            .setting("max_connections = 50")
            .start()
            .unwrap_or_else(|e| panic!("{e:?}"))
    })
}

/// A session in a new database of the shared cluster, with the extension.
fn session(prefix: &str) -> Result<(String, Client)> {
    let database = shared().create_database(prefix)?;
    let client = shared().client(&database)?;
    Ok((database, client))
}

/// Facts that no model knows, one a row, far from each other in meaning.
const FACTS: [&str; 5] = [
    "The maintenance door of the Brennick lighthouse opens with the code 4711.",
    "Quartz sand of the Ottel quarry costs 38 euros per tonne.",
    "The choir of Marlow village rehearses every Thursday in the old bakery.",
    "Doctor Imke Falter discovered the blue moss beetle in 1987.",
    "The ferry to Sandholm leaves at 6:40 in the morning, except on Sundays.",
];

/// A question whose answer is in `FACTS[1]`.
const QUESTION: &str = "What does quartz sand cost?";

/// Makes the table `docs(id, body, embedding)` with its trigger and the facts, and a source over it. The extension
/// lies in `schema`.
fn docs_in(client: &mut impl GenericClient, schema: &str) -> Result<()> {
    client.batch_execute(&format!(
        "CREATE TABLE public.docs (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text,
             embedding {schema}.vector(384));
         CREATE TRIGGER docs_embed BEFORE INSERT OR UPDATE OF body ON public.docs
             FOR EACH ROW EXECUTE FUNCTION {schema}.embed_trigger('body', 'embedding');
         SELECT {schema}.create_source('public.docs', content => 'body', embedding => 'embedding');"
    ))?;
    client.execute("INSERT INTO public.docs (body) SELECT unnest($1::text[])", &[&FACTS.as_slice()])?;
    Ok(())
}

/// [`docs_in`] schema `public`.
fn docs(client: &mut impl GenericClient) -> Result<()> {
    docs_in(client, "public")
}

/// What `rag_retrieve` finds for `QUESTION`, as text.
const RETRIEVE: &str =
    "SELECT string_agg(concat_ws('|', source, key, title, content, round(score::numeric, 5)),
    E'\n' ORDER BY score DESC) FROM public.rag_retrieve('What does quartz sand cost?', 'public.docs', 3)";

/// The first column of the first row.
fn one<T: for<'a> postgres::types::FromSql<'a>>(client: &mut impl GenericClient, sql: &str) -> Result<T> {
    let row = client.query_one(sql, &[]).with_context(|| sql.to_owned())?;
    Ok(row.try_get(0)?)
}

/// The error that `sql` must end with.
fn error_of(client: &mut impl GenericClient, sql: &str) -> Result<DbError> {
    match client.batch_execute(sql) {
        Ok(()) => anyhow::bail!("no error: {sql}"),
        Err(error) => match error.as_db_error() {
            Some(db) => Ok(db.clone()),
            None => Err(anyhow::Error::new(error).context(format!("the session died: {sql}"))),
        },
    }
}

/// Fails unless `error` has SQLSTATE `code`.
fn expect_code(error: &DbError, code: &str) -> Result<()> {
    ensure!(error.code().code() == code, "expected SQLSTATE {code}: {error:?}");
    Ok(())
}
