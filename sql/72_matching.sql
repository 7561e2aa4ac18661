-- Whether two texts name the same thing.

CREATE FUNCTION pg_answer_match(item text, candidate text, reasons boolean, model text, embedding_model text)
    RETURNS TABLE (verdict boolean, probability double precision, similarity double precision, reason text)
    AS 'MODULE_PATHNAME', 'pg_answer_match_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000000 ROWS 1;
COMMENT ON FUNCTION pg_answer_match(text, text, boolean, text, text) IS 'what semantic_match does, of texts that are not NULL';

CREATE FUNCTION semantic_match(
    item text,
    candidate text,
    reasons boolean DEFAULT true,
    model text DEFAULT NULL,
    embedding_model text DEFAULT NULL,
    OUT verdict boolean, OUT probability double precision, OUT similarity double precision, OUT reason text)
    LANGUAGE sql VOLATILE PARALLEL RESTRICTED COST 10000000 AS $$
    SELECT m.verdict, m.probability, m.similarity, m.reason
        FROM (SELECT 1 WHERE $1 IS NOT NULL AND $2 IS NOT NULL) AS given,
             LATERAL @extschema@.pg_answer_match($1, $2, coalesce($3, true), $4, $5) AS m
$$;
COMMENT ON FUNCTION semantic_match(text, text, boolean, text, text) IS
    'whether two texts name the same thing: true, false, or NULL where that is in doubt; with the probability and a reason';

CREATE FUNCTION match_candidates(
    item text,
    source text DEFAULT NULL,
    k integer DEFAULT 5,
    "where" jsonb DEFAULT NULL,
    reasons boolean DEFAULT true,
    model text DEFAULT NULL,
    embedding_model text DEFAULT NULL,
    OUT key jsonb, OUT candidate text, OUT similarity double precision, OUT verdict boolean, OUT probability double precision,
    OUT reason text)
    RETURNS SETOF record LANGUAGE sql VOLATILE PARALLEL RESTRICTED COST 10000000 ROWS 5 AS $$
    SELECT r.key, r.content, m.similarity, m.verdict, m.probability, m.reason
        FROM @extschema@.rag_retrieve($1, $2, $3, "where" => $4) AS r,
             LATERAL @extschema@.semantic_match($1, r.content, $5, $6, $7) AS m
        WHERE $1 IS NOT NULL
        ORDER BY m.probability DESC
$$;
COMMENT ON FUNCTION match_candidates(text, text, integer, jsonb, boolean, text, text) IS
    'the rows of a source that may name the same thing as an item, each with a verdict and a reason, the likeliest first';
