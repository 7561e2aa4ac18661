-- Answers from what retrieval finds.

CREATE FUNCTION rag_answer(
    query text,
    passages text[],
    titles text[] DEFAULT NULL,
    model text DEFAULT NULL,
    max_tokens integer DEFAULT 256,
    context_tokens integer DEFAULT 2048,
    temperature double precision DEFAULT 0,
    seed bigint DEFAULT NULL)
    RETURNS text
    AS 'MODULE_PATHNAME', 'rag_answer_passages_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000000;
COMMENT ON FUNCTION rag_answer(text, text[], text[], text, integer, integer, double precision, bigint) IS
    'answers a question from the passages given, citing them as [1], [2], ...';

CREATE FUNCTION rag_answer(
    query text,
    source text DEFAULT NULL,
    k integer DEFAULT 5,
    min_score double precision DEFAULT 0.4,
    model text DEFAULT NULL,
    max_tokens integer DEFAULT 256,
    context_tokens integer DEFAULT 2048,
    temperature double precision DEFAULT 0,
    seed bigint DEFAULT NULL)
    RETURNS text LANGUAGE sql VOLATILE PARALLEL RESTRICTED COST 10000000 AS $$
    SELECT @extschema@.rag_answer($1, f.contents, f.titles, $5, $6, $7, $8, $9)
        FROM (SELECT pg_catalog.array_agg(r.content ORDER BY r.score DESC) AS contents,
                     pg_catalog.array_agg(pg_catalog.concat_ws(' > ', r.title, r.heading) ORDER BY r.score DESC) AS titles
              FROM (SELECT *, pg_catalog.max(vector_score) OVER () AS nearest FROM @extschema@.rag_retrieve($1, $2, $3)) AS r
              WHERE $4 IS NULL OR r.nearest OPERATOR(pg_catalog.>=) $4) AS f
$$;
COMMENT ON FUNCTION rag_answer(text, text, integer, double precision, text, integer, integer, double precision, bigint) IS
    'answers a question from the rows nearest to it, citing them as [1], [2], ...; refuses when none is so similar';
