//! Labels of everything that the extension creates.

use anyhow::{Result, ensure};
use postgres::Client;

use crate::session;

/// The extension's functions, procedures and aggregates: alias `p` of pg_proc, signature as first column.
const FUNCTIONS: &str =
    "FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
    JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
    WHERE d.deptype = 'e' AND e.extname = 'pg_answer'";

/// Signatures of the functions for which `condition` holds.
fn functions(client: &mut Client, condition: &str) -> Result<Vec<String>> {
    let sql = format!("SELECT p.oid::regprocedure::text {FUNCTIONS} AND ({condition}) ORDER BY 1");
    Ok(client.query(&sql, &[])?.iter().map(|row| row.get(0)).collect())
}

fn none(client: &mut Client, what: &str, condition: &str) -> Result<()> {
    let found = functions(client, condition)?;
    ensure!(found.is_empty(), "{what}: {found:#?}");
    Ok(())
}

#[test]
fn functions_are_labelled() -> Result<()> {
    let (_, mut client) = session("catalog")?;
    let all = functions(&mut client, "true")?;
    ensure!(all.len() > 60, "only {} functions", all.len());
    none(
        &mut client,
        "security definer without a safe path",
        "p.prosecdef AND NOT coalesce(array_to_string(p.proconfig, ',') LIKE '%search_path=%', false)",
    )?;
    none(
        &mut client,
        "a relative path in SET search_path",
        "array_to_string(p.proconfig, ',') LIKE '%$user%'",
    )?;
    // A name that pins its content gives the same vector for ever; the setting does not.
    none(&mut client, "embed with a model is not immutable",
        "p.proname IN ('embed', 'embed_query', 'embed_document', 'count_tokens') AND p.proargnames[p.pronargs] = 'model'
         AND p.pronargdefaults = 0 AND p.provolatile <> 'i'")?;
    none(
        &mut client,
        "embed that reads a setting is not stable",
        "p.proname IN ('embed', 'embed_query', 'embed_document', 'count_tokens')
         AND (p.pronargdefaults > 0 OR p.pronargs = 1) AND p.provolatile <> 's'",
    )?;
    none(
        &mut client,
        "embed is not parallel safe",
        "p.proname IN ('embed', 'embed_query', 'embed_document', 'count_tokens') AND p.proparallel <> 's'",
    )?;
    none(
        &mut client,
        "generation is not volatile",
        "p.proname IN ('generate', 'rag_answer', 'generate_json', 'extract_json', 'classify', 'summarize', 'translate', 'rewrite',
                       'semantic_match', 'match_candidates', 'ai_filter') AND p.provolatile <> 'v'",
    )?;
    none(
        &mut client,
        "the cost of a model is not told to the planner",
        "p.proname ~ '^(embed|embed_query|embed_document|generate|rag_answer|rag_retrieve)$' AND p.procost < 1000",
    )?;
    none(
        &mut client,
        "generation is cheaper than embedding",
        "p.proname IN ('generate', 'rag_answer')
         AND p.procost <= (SELECT max(procost) FROM pg_proc WHERE proname = 'embed')",
    )?;
    none(&mut client, "arithmetic on vectors must be immutable, strict and parallel safe",
        "p.prokind = 'f' AND p.prorettype <> 'trigger'::regtype
         AND p.proname ~ '(distance|norm|^vector|^halfvec|^l2_|_product|^subvector|quantize|^array_to|_accum|_combine)'
         AND p.proname !~ 'pgvector' AND NOT (p.provolatile = 'i' AND p.proisstrict AND p.proparallel = 's')")?;
    none(
        &mut client,
        "aggregates must be parallel safe and have combine functions",
        // What runs a model is no partial aggregate.
        "p.prokind = 'a' AND p.proname <> 'summarize_agg' AND (p.proparallel <> 's'
         OR (SELECT aggcombinefn = 0 FROM pg_aggregate WHERE aggfnoid = p.oid))",
    )?;
    // Creating casts between two extensions' types is for those who own both; a check of an index holds writers off;
    // counters are everybody's.
    none(
        &mut client,
        "public may not execute it",
        "NOT has_function_privilege('public', p.oid, 'EXECUTE')
         AND p.proname NOT IN ('pg_answer_create_pgvector_casts', 'ann_check', 'pg_answer_stats_reset')",
    )?;
    Ok(())
}

#[test]
fn what_users_call_is_described() -> Result<()> {
    let (_, mut client) = session("comments")?;
    none(
        &mut client,
        "no comment",
        "p.proname IN ('embed', 'embed_query', 'embed_document', 'count_tokens', 'generate', 'embed_trigger',
                       'create_source', 'drop_source', 'rag_retrieve', 'rag_answer', 'generate_json', 'extract_json', 'extract',
                       'classify', 'classify_details', 'summarize', 'summarize_agg', 'translate', 'rewrite', 'semantic_match',
                       'match_candidates', 'ai_filter', 'ai_filter_stats', 'ai_filter_reset')
         AND obj_description(p.oid, 'pg_proc') IS NULL",
    )?;
    Ok(())
}

/// PostgreSQL's own check of catalogues, as far as it concerns operators and operator classes.
#[test]
fn operators_are_whole() -> Result<()> {
    let (_, mut client) = session("operators")?;
    let rows = client.query(
        "SELECT o.oid::regoperator::text, oprcanmerge, oprcom::regoperator::text, oprnegate::regoperator::text,
                oprrest::text, oprjoin::text
         FROM pg_operator o JOIN pg_depend d ON d.classid = 'pg_operator'::regclass AND d.objid = o.oid
         JOIN pg_extension e ON d.refobjid = e.oid AND d.deptype = 'e' WHERE e.extname = 'pg_answer'",
        &[],
    )?;
    ensure!(rows.len() >= 20, "only {} operators", rows.len());
    for row in &rows {
        let name: &str = row.get(0);
        let commutator: &str = row.get(2);
        if ["<->", "<#>", "<=>", "<+>", "+", "*"].iter().any(|o| name.split('(').next() == Some(o)) {
            ensure!(commutator != "0", "{name} has no commutator");
        }
        if ["=", "<>", "<", "<=", ">", ">="].iter().any(|o| name.split('(').next() == Some(o)) {
            let (negator, restrict, join): (&str, &str, &str) = (row.get(3), row.get(4), row.get(5));
            ensure!(commutator != "0" && negator != "0", "{name} has no commutator or negator");
            ensure!(restrict != "-" && join != "-", "{name} has no estimators");
        }
    }
    for class in ["vector_ops", "halfvec_ops"] {
        let valid: bool = client
            .query_one(
                "SELECT amvalidate(c.oid) FROM pg_opclass c JOIN pg_am a ON a.oid = opcmethod
                 WHERE amname = 'btree' AND opcname = $1",
                &[&class],
            )?
            .get(0);
        ensure!(valid, "{class}");
    }
    Ok(())
}
