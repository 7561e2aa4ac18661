-- Texts about texts.

CREATE FUNCTION pg_answer_summarize(content text, instruction text, max_tokens integer, context_tokens integer, model text) RETURNS text
    AS 'MODULE_PATHNAME', 'pg_answer_summarize_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000000;
COMMENT ON FUNCTION pg_answer_summarize(text, text, integer, integer, text) IS 'what summarize does, of a text that is not NULL';

CREATE FUNCTION summarize(
    content text,
    instruction text DEFAULT NULL,
    max_tokens integer DEFAULT 192,
    context_tokens integer DEFAULT 2048,
    model text DEFAULT NULL)
    RETURNS text LANGUAGE sql VOLATILE PARALLEL RESTRICTED COST 10000000 AS $$
    SELECT CASE WHEN $1 IS NOT NULL THEN @extschema@.pg_answer_summarize($1, $2, $3, $4, $5) END
$$;
COMMENT ON FUNCTION summarize(text, text, integer, integer, text) IS
    'summary of a text; a long one is summarised piece by piece, and then the summaries';

CREATE FUNCTION pg_answer_summarize_all(contents text[]) RETURNS text
    LANGUAGE sql VOLATILE PARALLEL RESTRICTED COST 10000000 AS $$
    SELECT @extschema@.summarize(pg_catalog.array_to_string($1, E'\n\n'))
$$;
COMMENT ON FUNCTION pg_answer_summarize_all(text[]) IS 'last step of summarize_agg';

CREATE AGGREGATE summarize_agg(content text) (
    SFUNC = pg_catalog.array_append, STYPE = text[], FINALFUNC = pg_answer_summarize_all, PARALLEL = RESTRICTED);
COMMENT ON AGGREGATE summarize_agg(text) IS
    'summary of the texts of a group, in the order given: summarize_agg(content ORDER BY ...)';

CREATE FUNCTION pg_answer_translate(content text, language text, context_tokens integer, model text) RETURNS text
    AS 'MODULE_PATHNAME', 'pg_answer_translate_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000000;
COMMENT ON FUNCTION pg_answer_translate(text, text, integer, text) IS 'what translate does, of a text that is not NULL';

CREATE FUNCTION translate(
    content text,
    language text,
    context_tokens integer DEFAULT 512,
    model text DEFAULT NULL)
    RETURNS text LANGUAGE sql VOLATILE PARALLEL RESTRICTED COST 10000000 AS $$
    SELECT CASE WHEN $1 IS NOT NULL AND $2 IS NOT NULL THEN @extschema@.pg_answer_translate($1, $2, $3, $4) END
$$;
COMMENT ON FUNCTION translate(text, text, integer, text) IS 'a text in another language, piece by piece where it is long';

CREATE FUNCTION pg_answer_rewrite(content text, instruction text, context_tokens integer, model text) RETURNS text
    AS 'MODULE_PATHNAME', 'pg_answer_rewrite_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000000;
COMMENT ON FUNCTION pg_answer_rewrite(text, text, integer, text) IS 'what rewrite does, of a text that is not NULL';

CREATE FUNCTION rewrite(
    content text,
    instruction text,
    context_tokens integer DEFAULT 1024,
    model text DEFAULT NULL)
    RETURNS text LANGUAGE sql VOLATILE PARALLEL RESTRICTED COST 10000000 AS $$
    SELECT CASE WHEN $1 IS NOT NULL AND $2 IS NOT NULL THEN @extschema@.pg_answer_rewrite($1, $2, $3, $4) END
$$;
COMMENT ON FUNCTION rewrite(text, text, integer, text) IS 'a text changed as the instruction says, piece by piece where it is long';
