-- Questions and passages into scores.

CREATE FUNCTION rerank(query text, passages text[], model text DEFAULT NULL) RETURNS real[]
    AS 'MODULE_PATHNAME', 'rerank_wrapper' LANGUAGE C STABLE PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION rerank(text, text[], text) IS
    'how well each passage answers the question, by a cross-encoder, or by how likely a language model asks it after reading the passage: any number, the higher the better';

CREATE FUNCTION reranking_model() RETURNS text
    AS 'MODULE_PATHNAME', 'reranking_model_wrapper' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION reranking_model() IS 'the model that rerank() uses now: pg_answer.reranking_model';
