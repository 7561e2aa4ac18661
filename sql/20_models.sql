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
