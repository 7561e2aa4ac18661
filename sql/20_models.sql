-- Installed models and the ones in use.

CREATE FUNCTION embedding_model() RETURNS text
    AS 'MODULE_PATHNAME', 'embedding_model_wrapper' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION embedding_model() IS 'the model that embed(text) uses now: pg_answer.embedding_model';

CREATE FUNCTION generation_model() RETURNS text
    AS 'MODULE_PATHNAME', 'generation_model_wrapper' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION generation_model() IS 'the model that generate() and rag_answer() use now: pg_answer.generation_model';

CREATE FUNCTION pg_answer_installed_models(
    OUT name text, OUT kind text, OUT architecture text, OUT dims integer, OUT context_length integer,
    OUT quantization text, OUT bytes bigint, OUT sha256 text, OUT license text, OUT loaded boolean, OUT memory bigint)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'pg_answer_installed_models_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 10;
COMMENT ON FUNCTION pg_answer_installed_models() IS 'rows of the view pg_answer_models';

CREATE VIEW pg_answer_models AS SELECT * FROM pg_answer_installed_models();
COMMENT ON VIEW pg_answer_models IS
    'models in pg_answer.model_path; loaded and memory (bytes) are those of this session';
GRANT SELECT ON pg_answer_models TO PUBLIC;

CREATE FUNCTION pg_answer_counters(
    OUT model text, OUT calls bigint, OUT failed bigint, OUT texts bigint, OUT tokens_in bigint,
    OUT tokens_out bigint, OUT truncated bigint, OUT total_time double precision, OUT stats_reset timestamptz)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'pg_answer_counters_wrapper' LANGUAGE C VOLATILE PARALLEL SAFE ROWS 10;
COMMENT ON FUNCTION pg_answer_counters() IS 'rows of the view pg_answer_stats';

-- Sessions that first use a model at the same moment may count it in two places.
CREATE VIEW pg_answer_stats AS
    SELECT model, sum(calls)::bigint AS calls, sum(failed)::bigint AS failed, sum(texts)::bigint AS texts,
        sum(tokens_in)::bigint AS tokens_in, sum(tokens_out)::bigint AS tokens_out,
        sum(truncated)::bigint AS truncated, sum(total_time) AS total_time, min(stats_reset) AS stats_reset
    FROM pg_answer_counters() GROUP BY model;
COMMENT ON VIEW pg_answer_stats IS
    'what the models have done in all sessions and databases of this server; total_time in milliseconds';
GRANT SELECT ON pg_answer_stats TO PUBLIC;

CREATE FUNCTION pg_answer_stats_reset(model text DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'pg_answer_stats_reset_wrapper' LANGUAGE C VOLATILE PARALLEL SAFE;
REVOKE EXECUTE ON FUNCTION pg_answer_stats_reset(text) FROM PUBLIC;
COMMENT ON FUNCTION pg_answer_stats_reset(text) IS 'sets the counters of a model, or of all, to zero';
