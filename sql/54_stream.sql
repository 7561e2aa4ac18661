-- Answers while they are written.

CREATE FUNCTION pg_answer_stream(
    query text, contents text[], titles text[], system text, message text, model text, max_tokens integer, context_tokens integer,
    temperature double precision, seed bigint, on_unsupported text, refusal text)
    RETURNS SETOF text
    AS 'MODULE_PATHNAME', 'pg_answer_stream_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000000 ROWS 3;
COMMENT ON FUNCTION pg_answer_stream(text, text[], text[], text, text, text, integer, integer, double precision, bigint, text, text) IS
    'as pg_answer_write, one sentence a row, made when it is asked for';

-- Declared STABLE, so that the planner puts the statement in the function's place: then a LIMIT stops the model also where the
-- function stands in FROM, whose functions run to their end otherwise.
CREATE FUNCTION rag_answer_stream(
    query text,
    source text DEFAULT NULL,
    k integer DEFAULT 5,
    mode text DEFAULT 'hybrid',
    "where" jsonb DEFAULT NULL,
    rerank boolean DEFAULT NULL,
    expand integer DEFAULT 0,
    min_similarity double precision DEFAULT 0.4,
    max_unknown double precision DEFAULT 0.35,
    on_unsupported text DEFAULT 'drop',
    refusal text DEFAULT 'I cannot answer this from the available sources.',
    model text DEFAULT NULL,
    max_tokens integer DEFAULT 256,
    context_tokens integer DEFAULT 2048,
    temperature double precision DEFAULT 0,
    seed bigint DEFAULT NULL)
    RETURNS SETOF text LANGUAGE sql STABLE PARALLEL RESTRICTED COST 10000000 ROWS 3 AS $$
    SELECT @extschema@.pg_answer_stream($1, CASE WHEN e.enough THEN e.contents ELSE '{}' END, CASE WHEN e.enough THEN e.titles ELSE '{}' END,
                                        p.system, p.message, $12, $13, $14, $15, $16, $10, @extschema@.pg_answer_refusal($1, $11))
        FROM @extschema@.pg_answer_checked_sources($2, $3, $4, $7, $12, $13, $14, $15, $10) AS s(wanted),
             LATERAL @extschema@.pg_answer_evidence($1, s.wanted, $3, $4, $5, $6, $7, $8, $9, $12) AS e,
             LATERAL @extschema@.pg_answer_prompt_for(s.wanted) AS p
        WHERE $1 IS NOT NULL
$$;
COMMENT ON FUNCTION rag_answer_stream(text, text, integer, text, jsonb, boolean, integer, double precision, double precision, text, text, text, integer,
                                      integer, double precision, bigint) IS
    'rag_answer, one checked sentence a row as soon as it is written: LIMIT or a cursor that is closed stops the model';
