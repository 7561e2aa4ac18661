//! Every function of the extension with arguments that nobody should give it.

use anyhow::{Context, Result, ensure};

use crate::session;

/// Values of a type, as SQL: a usual one first.
const VALUES: [(&str, &[&str]); 22] = [
    (
        "text",
        &[
            "'docs'",
            "''",
            "'no-such-model'",
            "'../../etc/passwd'",
            "repeat('word ', 9000)",
            "E'\\u4e2d \\x01'",
        ],
    ),
    ("text[]", &["'{a,b}'", "'{}'", "'{NULL}'", "'{{a,b},{c,d}}'", "'[5:6]={a,b}'"]),
    ("integer", &["1", "0", "-1", "2147483647", "-2147483648"]),
    ("bigint", &["1", "0", "-9223372036854775808"]),
    ("smallint", &["1", "-1"]),
    ("real", &["0.5", "'NaN'", "'-Infinity'"]),
    ("double precision", &["0.5", "-1", "'NaN'", "'Infinity'", "1e308"]),
    ("boolean", &["true", "false"]),
    ("regclass", &["'docs'", "'pg_class'", "'docs_pkey'", "'docs_ann'", "'docs_view'"]),
    ("regclass[]", &["'{docs}'", "'{}'", "'{docs,docs}'", "'{pg_class}'"]),
    ("oid", &["'docs'::regclass", "0"]),
    (
        "jsonb",
        &["'{\"id\": 1}'", "'null'", "'[]'", "'[[1]]'", "'\"x\"'", "'1e400'", "'{\"type\": \"object\"}'"],
    ),
    ("vector", &["'[1,2,3]'", "'[0]'", "'[3e38,3e38]'", "array_fill(1, ARRAY[16000])::vector"]),
    ("halfvec", &["'[1,2,3]'", "'[0]'", "'[65504,65504]'"]),
    ("vector[]", &["ARRAY['[1]'::vector]", "'{}'", "ARRAY['[1,2]'::vector, NULL, '[1]']"]),
    ("real[]", &["'{1,2}'", "'{}'", "'{1,NULL}'", "'{NaN}'"]),
    ("double precision[]", &["'{2,2,2}'", "'{}'", "'{1e300}'", "'{1,NULL}'"]),
    ("integer[]", &["'{1,2}'", "'{}'", "'{{1},{2}}'", "'{1,NULL}'"]),
    ("bigint[]", &["'{1,2}'", "'{}'", "'{NULL}'"]),
    ("numeric[]", &["'{1,2}'", "'{1e500}'"]),
    ("interval", &["'1 ms'", "'-1 day'"]),
    ("regconfig", &["'english'", "'simple'"]),
];

/// What may be XX000: a relation that is not there, as PostgreSQL's own functions say it, pgvector's words for what
/// only aggregates call, and NULL in arrays that only other functions of the extension make.
const INTERNAL: [&str; 3] =
    ["could not open relation with OID", "expected state array", "array contains NULL"];

fn values(type_name: &str) -> Option<&'static [&'static str]> {
    VALUES.iter().find(|(name, _)| *name == type_name).map(|(_, values)| *values)
}

/// Calls of a function: with all usual values, with nothing but NULL, and with each argument NULL or unusual by itself.
fn calls(types: &[&str]) -> Option<Vec<String>> {
    let lists: Vec<_> = types.iter().map(|name| values(name)).collect::<Option<_>>()?;
    let written = |at: usize, value: &str| {
        let list = lists.iter().zip(types).enumerate();
        let list = list.map(|(i, (list, name))| format!("{}::{name}", if i == at { value } else { list[0] }));
        list.collect::<Vec<_>>().join(", ")
    };
    let mut all = vec![
        written(usize::MAX, ""),
        types.iter().map(|t| format!("NULL::{t}")).collect::<Vec<_>>().join(", "),
    ];
    for (at, list) in lists.iter().enumerate() {
        all.extend(["NULL"].iter().chain(&list[1..]).map(|value| written(at, value)));
    }
    Some(all)
}

#[test]
fn no_arguments_upset_a_function() -> Result<()> {
    let (_, mut client) = session("arguments")?;
    client.batch_execute(
        "CREATE TABLE docs (id bigint PRIMARY KEY, body text, embedding vector(3));
         INSERT INTO docs SELECT i, 'row ' || i, ARRAY[i, 1, 2]::vector FROM generate_series(1, 50) AS i;
         CREATE INDEX docs_ann ON docs USING ann (embedding vector_cosine_ops);
         CREATE VIEW docs_view AS TABLE docs;
         SET statement_timeout = '2s';",
    )?;
    // What needs a model ends at its absence: other tests run models.
    client
        .batch_execute("SET pg_answer.embedding_model = 'none'; SET pg_answer.generation_model = 'none'")?;
    let functions = client.query(
        "SELECT p.oid::regproc::text, p.prokind::text, ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) AS t)
         FROM pg_proc AS p JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
         JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
         -- Counters are all sessions', and other tests read them.
         WHERE d.deptype = 'e' AND e.extname = 'pg_answer' AND p.proname <> 'pg_answer_stats_reset' ORDER BY p.oid",
        &[],
    )?;
    let (mut called, mut faults) = (0, Vec::new());
    for function in &functions {
        let (name, kind, types): (String, String, Vec<String>) =
            (function.get(0), function.get(1), function.get(2));
        let types: Vec<&str> = types.iter().map(String::as_str).collect();
        // Left out: what has arguments that SQL cannot write.
        let Some(calls) = calls(&types) else { continue };
        for arguments in calls {
            let statement = match &kind[..] {
                "p" => format!("CALL {name}({arguments})"),
                "w" => format!("SELECT {name}({arguments}) OVER () FROM generate_series(1, 3)"),
                _ => format!(
                    "SELECT count(*) FROM (SELECT {name}({arguments}) FROM generate_series(1, 2)) AS t"
                ),
            };
            called += 1;
            client.batch_execute("BEGIN")?;
            if let Err(error) = client.batch_execute(&statement) {
                let Some(error) = error.as_db_error() else {
                    anyhow::bail!("the server is gone after {statement}: {error}");
                };
                let message = error.message();
                if error.code().code() == "XX000" && !INTERNAL.iter().any(|known| message.contains(known)) {
                    faults.push(format!("{statement}: {message}"));
                }
            }
            client.batch_execute("ROLLBACK")?;
        }
    }
    ensure!(called > 2000, "only {called} calls");
    ensure!(faults.is_empty(), "{} of {called} calls: {faults:#?}", faults.len());
    Ok(())
}

#[test]
fn null_in_place_of_a_default_is_named() -> Result<()> {
    let (_, mut client) = session("null_argument")?;
    for (call, name) in [
        ("generate('Hello', temperature => NULL)", "temperature"),
        ("generate_json('Hello', '{}', max_tokens => NULL)", "max_tokens"),
        ("rag_answer('Hello', ARRAY['Good morning'], context_tokens => NULL)", "context_tokens"),
        ("ai_filter('Hello', 'It is polite.', doubt => NULL)", "doubt"),
    ] {
        let error = client.query(&format!("SELECT {call}"), &[]).err();
        let error =
            error.as_ref().and_then(|e| e.as_db_error()).with_context(|| format!("{call} succeeds"))?;
        ensure!(error.code().code() == "22004", "{call}: {error:?}");
        ensure!(error.message() == format!("{name} must not be NULL"), "{call}: {error:?}");
    }
    Ok(())
}
