-- How well retrieval and answers do, by questions whose right passages are known.

CREATE FUNCTION pg_answer_evaluate_retrieval(questions regclass, wanted regclass[], k integer, modes text[], question_column text, relevant_column text)
    RETURNS TABLE (mode text, metric text, value double precision) LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    tried text;
BEGIN
    IF k IS NULL OR k < 1 THEN
        RAISE EXCEPTION 'k must be at least 1' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOREACH tried IN ARRAY modes LOOP
        RETURN QUERY EXECUTE format(
            'WITH asked AS (SELECT row_number() OVER () AS number, t.%1$I::text AS question, to_jsonb(t.%2$I) AS relevant FROM %3$s AS t '
            'WHERE t.%1$I IS NOT NULL), '
            -- A key of one column may be given by its value alone; one of several things may stand without an array.
            'wanted AS (SELECT a.number, r.wanted, count(*) OVER (PARTITION BY a.number) AS relevant FROM asked AS a, LATERAL ('
            'SELECT DISTINCT e.wanted FROM jsonb_array_elements(CASE jsonb_typeof(a.relevant) WHEN ''array'' THEN a.relevant '
            'ELSE jsonb_build_array(a.relevant) END) AS e(wanted) WHERE jsonb_typeof(e.wanted) <> ''null'') AS r), '
            -- Passages of one row count once, where the first of them stands.
            'found AS (SELECT a.number, r.key, row_number() OVER (PARTITION BY a.number ORDER BY min(r.place)) AS place FROM asked AS a, LATERAL ('
            'SELECT f.key, row_number() OVER () AS place FROM @extschema@.pg_answer_retrieve(a.question, $1, $2, $3, NULL, NULL, false, 0, NULL) AS f'
            ') AS r GROUP BY a.number, r.key), '
            'hits AS (SELECT w.number, w.wanted, w.relevant, min(f.place) AS place FROM wanted AS w LEFT JOIN found AS f ON f.number = w.number AND '
            '(f.key = w.wanted OR jsonb_typeof(w.wanted) IN (''string'', ''number'') AND (SELECT count(*) = 1 AND bool_and(v = w.wanted #>> ''{}'') '
            'FROM jsonb_each_text(f.key) AS x(n, v))) GROUP BY w.number, w.wanted, w.relevant), '
            'each AS (SELECT number, sum(1 / log(2, (place + 1)::numeric)) / (SELECT sum(1 / log(2, (i + 1)::numeric)) FROM generate_series(1, least($2, max(relevant))) AS i) AS ndcg, '
            'count(place)::double precision / max(relevant) AS recall, coalesce(1.0 / min(place), 0) AS mrr, '
            '(coalesce(min(place), 0) = 1)::int AS first FROM hits GROUP BY number) '
            'SELECT $3, m.metric, m.value::double precision FROM (SELECT count(*) AS n, avg(coalesce(ndcg, 0)) AS ndcg, avg(recall) AS recall, avg(mrr) AS mrr, '
            'avg(first) AS first FROM each) AS e, LATERAL (VALUES (''questions'', e.n), (''ndcg@'' || $2, e.ndcg), (''recall@'' || $2, e.recall), '
            '(''mrr@'' || $2, e.mrr), (''precision@1'', e.first)) AS m(metric, value)',
            question_column, relevant_column, questions)
            USING wanted, k, tried;
    END LOOP;
END $$;
COMMENT ON FUNCTION pg_answer_evaluate_retrieval(regclass, regclass[], integer, text[], text, text) IS
    'what evaluate_retrieval does, in sources that are known';

CREATE FUNCTION evaluate_retrieval(
    questions regclass,
    source text DEFAULT NULL,
    k integer DEFAULT 10,
    modes text[] DEFAULT '{hybrid,vector,text}',
    question text DEFAULT 'question',
    relevant text DEFAULT 'relevant')
    RETURNS TABLE (mode text, metric text, value double precision)
    LANGUAGE sql STABLE COST 10000000 ROWS 15 AS $$
    SELECT * FROM @extschema@.pg_answer_evaluate_retrieval($1, @extschema@.pg_answer_named_sources($2), $3, $4, $5, $6)
$$;
COMMENT ON FUNCTION evaluate_retrieval(regclass, text, integer, text[], text, text) IS
    'how well rag_retrieve finds what a table of questions says is relevant (keys or arrays of keys): nDCG, recall, MRR, precision';
