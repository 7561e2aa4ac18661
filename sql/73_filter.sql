-- Rows that meet a criterion.

CREATE FUNCTION pg_answer_filter(content text, criterion text, doubt double precision, model text, embedding_model text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'pg_answer_filter_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000000;
COMMENT ON FUNCTION pg_answer_filter(text, text, double precision, text, text) IS 'what ai_filter does, of a text that is not NULL';

CREATE FUNCTION ai_filter(
    content text,
    criterion text,
    doubt double precision DEFAULT 0.1,
    model text DEFAULT NULL,
    embedding_model text DEFAULT NULL)
    RETURNS boolean LANGUAGE sql VOLATILE PARALLEL RESTRICTED COST 1000000 AS $$
    SELECT CASE WHEN $1 IS NOT NULL AND $2 IS NOT NULL THEN @extschema@.pg_answer_filter($1, $2, $3, $4, $5) END
$$;
COMMENT ON FUNCTION ai_filter(text, text, double precision, text, text) IS
    'whether a text meets a criterion: by the verdicts on texts with similar vectors in this session, or where they leave more doubt, by a language model';

CREATE FUNCTION ai_filter_stats(
    OUT criterion text, OUT model text, OUT embedding_model text, OUT row_count bigint, OUT asked bigint) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'ai_filter_stats_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 16;
COMMENT ON FUNCTION ai_filter_stats() IS
    'for each criterion that ai_filter remembers in this session, how many rows it had and for how many the language model was asked';

CREATE FUNCTION ai_filter_reset() RETURNS void
    AS 'MODULE_PATHNAME', 'ai_filter_reset_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION ai_filter_reset() IS 'forgets what ai_filter has learned in this session';
