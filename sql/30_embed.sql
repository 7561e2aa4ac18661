-- Text into vectors. The functions that name their model are immutable, since a model name pins its content;
-- those that read a setting are stable. The costs are those of a short text on one core, in operator calls.

CREATE FUNCTION embed(content text) RETURNS vector
    AS 'MODULE_PATHNAME', 'embed_wrapper' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION embed(text) IS 'vector of a text, by the model of pg_answer.embedding_model';

CREATE FUNCTION embed(content text, model text) RETURNS vector
    AS 'MODULE_PATHNAME', 'embed_with_model_wrapper' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION embed(text, text) IS 'vector of a text, by the model named';

CREATE FUNCTION embed(contents text[]) RETURNS vector[]
    AS 'MODULE_PATHNAME', 'embed_batch_wrapper' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION embed(text[]) IS 'vectors of several texts as one batch, in their order';

CREATE FUNCTION embed(contents text[], model text) RETURNS vector[]
    AS 'MODULE_PATHNAME', 'embed_batch_with_model_wrapper' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION embed(text[], text) IS 'vectors of several texts as one batch, by the model named';

CREATE FUNCTION embed_query(content text) RETURNS vector
    AS 'MODULE_PATHNAME', 'embed_query_wrapper' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION embed_query(text) IS 'vector of a question, with the prefix that the model wants before questions';

CREATE FUNCTION embed_query(content text, model text) RETURNS vector
    AS 'MODULE_PATHNAME', 'embed_query_with_model_wrapper' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION embed_query(text, text) IS 'vector of a question, by the model named';

CREATE FUNCTION embed_document(content text) RETURNS vector
    AS 'MODULE_PATHNAME', 'embed_document_wrapper' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION embed_document(text) IS 'vector of a stored text, with the prefix that the model wants before documents';

CREATE FUNCTION embed_document(content text, model text) RETURNS vector
    AS 'MODULE_PATHNAME', 'embed_document_with_model_wrapper' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION embed_document(text, text) IS 'vector of a stored text, by the model named';

CREATE FUNCTION embed(content text, model text, dimensions integer) RETURNS vector
    AS 'MODULE_PATHNAME', 'embed_short_with_model_wrapper' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION embed(text, text, integer) IS 'first dimensions of the vector of a text, by a model that was trained to be cut';

CREATE FUNCTION embed_query(content text, model text, dimensions integer) RETURNS vector
    AS 'MODULE_PATHNAME', 'embed_query_short_with_model_wrapper' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION embed_query(text, text, integer) IS 'first dimensions of the vector of a question, by a model that was trained to be cut';

CREATE FUNCTION embed_document(content text, model text, dimensions integer) RETURNS vector
    AS 'MODULE_PATHNAME', 'embed_document_short_with_model_wrapper' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION embed_document(text, text, integer) IS 'first dimensions of the vector of a stored text, by a model that was trained to be cut';

CREATE FUNCTION count_tokens(content text) RETURNS integer
    AS 'MODULE_PATHNAME', 'count_tokens_wrapper' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION count_tokens(text) IS 'tokens of a text for the embedding model, special tokens included, before truncation';

CREATE FUNCTION count_tokens(content text, model text) RETURNS integer
    AS 'MODULE_PATHNAME', 'count_tokens_with_model_wrapper' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION count_tokens(text, text) IS 'tokens of a text for the model named, special tokens included, before truncation';
