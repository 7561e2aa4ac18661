-- Text from a decoder.

CREATE FUNCTION generate(
    prompt text,
    model text DEFAULT NULL,
    system text DEFAULT NULL,
    max_tokens integer DEFAULT 256,
    temperature double precision DEFAULT 0,
    top_p double precision DEFAULT 1,
    seed bigint DEFAULT NULL,
    stop text[] DEFAULT NULL)
    RETURNS text
    AS 'MODULE_PATHNAME', 'generate_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000000;
COMMENT ON FUNCTION generate(text, text, text, integer, double precision, double precision, bigint, text[]) IS
    'reply of a language model to a prompt; the same each time with temperature 0 or a seed';
