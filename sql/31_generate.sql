-- Text from a decoder.

CREATE FUNCTION generate(
    prompt text,
    model text DEFAULT NULL,
    system text DEFAULT NULL,
    max_tokens integer DEFAULT 256,
    temperature double precision DEFAULT 0,
    top_p double precision DEFAULT 1,
    seed bigint DEFAULT NULL,
    stop text[] DEFAULT NULL,
    top_k integer DEFAULT 0,
    min_p double precision DEFAULT 0,
    repetition_penalty double precision DEFAULT 1)
    RETURNS text
    AS 'MODULE_PATHNAME', 'generate_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000000;
COMMENT ON FUNCTION generate(text, text, text, integer, double precision, double precision, bigint, text[], integer,
    double precision, double precision) IS
    'reply of a language model to a prompt, or its continuation by a model without a chat template; the same each time with temperature 0 or a seed';
