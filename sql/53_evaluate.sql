-- How well retrieval and answers do, by questions whose right passages are known.

-- One of several things may stand without an array.
CREATE FUNCTION pg_answer_each(things jsonb) RETURNS SETOF jsonb LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT e FROM jsonb_array_elements(CASE jsonb_typeof(things) WHEN 'array' THEN things ELSE jsonb_build_array(things) END) AS e
        WHERE jsonb_typeof(e) <> 'null'
$$;
COMMENT ON FUNCTION pg_answer_each(jsonb) IS 'what is in an array, or one thing';

-- A key of one column may be given by its value alone.
CREATE FUNCTION pg_answer_is_key(key jsonb, wanted jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT key = wanted OR jsonb_typeof(wanted) IN ('string', 'number')
        AND (SELECT count(*) = 1 AND bool_and(v = wanted #>> '{}') FROM jsonb_each_text(key) AS x(n, v))
$$;
COMMENT ON FUNCTION pg_answer_is_key(jsonb, jsonb) IS 'whether a passage''s key is the one wanted';

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
            'wanted AS (SELECT a.number, r.wanted, count(*) OVER (PARTITION BY a.number) AS relevant FROM asked AS a, LATERAL ('
            'SELECT DISTINCT e.wanted FROM @extschema@.pg_answer_each(a.relevant) AS e(wanted)) AS r), '
            -- Passages of one row count once, where the first of them stands.
            'found AS (SELECT a.number, r.key, row_number() OVER (PARTITION BY a.number ORDER BY min(r.place)) AS place FROM asked AS a, LATERAL ('
            'SELECT f.key, row_number() OVER () AS place FROM @extschema@.pg_answer_retrieve(a.question, $1, $2, $3, NULL, NULL, false, 0, NULL, 0, NULL, NULL) AS f'
            ') AS r GROUP BY a.number, r.key), '
            'hits AS (SELECT w.number, w.wanted, w.relevant, min(f.place) AS place FROM wanted AS w LEFT JOIN found AS f ON f.number = w.number AND '
            '@extschema@.pg_answer_is_key(f.key, w.wanted) GROUP BY w.number, w.wanted, w.relevant), '
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

-- Letter case aside; a number is not found within a longer one.
CREATE FUNCTION pg_answer_says(answer text, expected text, patterns boolean) RETURNS boolean LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT answer ~* CASE WHEN patterns THEN expected ELSE concat(
        CASE WHEN expected ~ '^\d' THEN '(?<!\d)' END, regexp_replace(expected, '([^[:alnum:][:space:]])', '\\\1', 'g'),
        CASE WHEN expected ~ '\d$' THEN '(?!\d)' END) END
$$;
COMMENT ON FUNCTION pg_answer_says(text, text, boolean) IS 'whether an answer has a text or a match of a pattern';

CREATE FUNCTION pg_answer_evaluate_answers(questions regclass, wanted regclass[], k integer, mode text, min_similarity double precision,
    max_unknown double precision, model text, max_tokens integer, context_tokens integer, patterns boolean, question_column text,
    expected_column text, relevant_column text)
    RETURNS TABLE (metric text, value double precision) LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'WITH asked AS (SELECT t.%1$I::text AS question, ARRAY(SELECT e #>> ''{}'' FROM @extschema@.pg_answer_each(to_jsonb(t.%2$I)) AS e) AS expected, '
        'ARRAY(SELECT @extschema@.pg_answer_each(%3$s)) AS relevant FROM %4$s AS t WHERE t.%1$I IS NOT NULL), '
        'answered AS MATERIALIZED (SELECT a.*, a.expected <> ''{}'' OR a.relevant <> ''{}'' AS answerable, d.* FROM asked AS a, '
        'LATERAL @extschema@.pg_answer_details(a.question, $1, $2, $3, NULL, NULL, 0, $4, $5, ''drop'', NULL, $6, $7, $8, 0, NULL) AS d), '
        'judged AS (SELECT *, EXISTS (SELECT FROM unnest(expected) AS e WHERE @extschema@.pg_answer_says(answer, e, $9)) AS is_right, '
        'EXISTS (SELECT FROM jsonb_array_elements(citations) AS c, unnest(relevant) AS r WHERE @extschema@.pg_answer_is_key(c -> ''key'', r)) AS cites '
        'FROM answered) '
        'SELECT m.metric, m.value::double precision FROM (SELECT count(*) AS n, avg(is_right::int) FILTER (WHERE expected <> ''{}'') AS is_right, '
        'avg(cites::int) FILTER (WHERE relevant <> ''{}'') AS cites, avg(refused::int) FILTER (WHERE answerable) AS wrongly_refused, '
        'avg(refused::int) FILTER (WHERE NOT answerable) AS rightly_refused, avg(prompt_tokens) AS prompt_tokens, avg(answer_tokens) AS answer_tokens, '
        'avg(total_ms) AS total_ms FROM judged) AS j, LATERAL (VALUES (''questions'', n), (''right_answer'', is_right), (''right_citation'', cites), '
        '(''wrongly_refused'', wrongly_refused), (''unanswerable_refused'', rightly_refused), (''prompt_tokens'', prompt_tokens), '
        '(''answer_tokens'', answer_tokens), (''total_ms'', total_ms)) AS m(metric, value)',
        question_column, expected_column, CASE WHEN relevant_column IS NULL THEN 'NULL' ELSE format('to_jsonb(t.%I)', relevant_column) END, questions)
        USING wanted, k, mode, min_similarity, max_unknown, model, max_tokens, context_tokens, patterns;
END $$;
COMMENT ON FUNCTION pg_answer_evaluate_answers(regclass, regclass[], integer, text, double precision, double precision, text, integer, integer, boolean,
                                               text, text, text) IS 'what evaluate_answers does, in sources that are known';

CREATE FUNCTION evaluate_answers(
    questions regclass,
    source text DEFAULT NULL,
    k integer DEFAULT 5,
    mode text DEFAULT 'hybrid',
    min_similarity double precision DEFAULT 0.4,
    max_unknown double precision DEFAULT 0.35,
    model text DEFAULT NULL,
    max_tokens integer DEFAULT 256,
    context_tokens integer DEFAULT 2048,
    patterns boolean DEFAULT false,
    question text DEFAULT 'question',
    expected text DEFAULT 'expected',
    relevant text DEFAULT 'relevant')
    RETURNS TABLE (metric text, value double precision)
    LANGUAGE sql VOLATILE COST 10000000 ROWS 8 AS $$
    SELECT * FROM @extschema@.pg_answer_evaluate_answers($1, @extschema@.pg_answer_named_sources($2), $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
$$;
COMMENT ON FUNCTION evaluate_answers(regclass, text, integer, text, double precision, double precision, text, integer, integer, boolean, text, text,
                                     text) IS
    'how well rag_answer answers a table of questions: says what is expected, cites what is relevant, refuses what has neither; means of tokens and ms';
