//! Recall of filtered scans of the index `ann`, by key columns and by others, in the plans that the planner chooses.

use anyhow::{Result, ensure};

use crate::{one, session};

/// Share of the ten nearest that fulfil a condition, of 100 queries, among what the planner's choice finds, and how many results are short.
const RECALL: &str = "CREATE FUNCTION recall(condition text, forced bool) RETURNS text LANGUAGE plpgsql AS $$
    DECLARE query vector; exact float8[]; found float8[]; hits int := 0; wanted int := 0; short int := 0;
    BEGIN
        FOR query IN SELECT v FROM q LOOP
            SET LOCAL enable_indexscan = off;
            SET LOCAL enable_seqscan = on;
            EXECUTE format('SELECT array_agg(d) FROM (SELECT v <-> $1 AS d FROM t WHERE %s ORDER BY v <-> $1 LIMIT 10) AS x', condition) INTO exact USING query;
            SET LOCAL enable_indexscan = on;
            PERFORM set_config('enable_seqscan', (NOT forced)::text, true);
            EXECUTE format('SELECT array_agg(d) FROM (SELECT v <-> $1 AS d FROM t WHERE %s ORDER BY v <-> $1 LIMIT 10) AS x', condition) INTO found USING query;
            hits := hits + (SELECT count(*) FROM unnest(found) AS d WHERE d <= exact[cardinality(exact)] + 1e-9);
            wanted := wanted + cardinality(exact);
            short := short + (cardinality(found) < cardinality(exact))::int;
        END LOOP;
        RETURN format('%s %s', hits::float8 / wanted, short);
    END $$";

#[test]
fn filters_of_each_selectivity_keep_recall() -> Result<()> {
    let (_, mut client) = session("filters")?;
    // Rows lie around 60 places; `key` and `other` say the same.
    client.batch_execute(
        "SELECT setseed(0.5);
         CREATE TABLE t (id int, v vector(24), key int, other int);
         CREATE TABLE places AS SELECT i, array_agg(random() * 4) AS at FROM generate_series(0, 59) i, generate_series(1, 24) GROUP BY i;
         CREATE FUNCTION near(i int) RETURNS vector LANGUAGE sql VOLATILE AS $$
             SELECT array_agg(x + random() + random() - 1)::real[]::public.vector FROM public.places, unnest(at) AS x WHERE places.i = near.i % 60 $$;
         INSERT INTO t SELECT i, near(i), r, r FROM (SELECT i, (random() * 1e5)::int AS r FROM generate_series(1, 30000) i) AS x;
         CREATE TABLE q AS SELECT near(i) AS v FROM generate_series(1, 100) i;
         CREATE INDEX ON t USING ann (v vector_l2_ops, key);
         ANALYZE t",
    )?;
    client.batch_execute(RECALL)?;
    for column in ["key", "other"] {
        // A half, a tenth, a hundredth, a thousandth, and about ten rows.
        for most in [50_000, 10_000, 1000, 100, 33] {
            for plans in ["the planner's choice", "the index"] {
                let forced = plans == "the index";
                let found: String =
                    one(&mut client, &format!("SELECT recall('{column} <= {most}', {forced})"))?;
                println!("{column} <= {most}, {plans}: {found}");
                let (recall, short) = found.split_once(' ').unwrap_or_default();
                ensure!(recall.parse::<f64>()? >= 0.95, "{column} <= {most}, {plans}: recall {found}");
                ensure!(short == "0", "{column} <= {most}, {plans}: {short} results are short");
            }
        }
    }
    Ok(())
}
