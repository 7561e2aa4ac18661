-- Long texts into chunks.

CREATE FUNCTION chunk(
    content text,
    method text DEFAULT 'recursive',
    max_tokens integer DEFAULT NULL,
    overlap integer DEFAULT 0,
    model text DEFAULT NULL)
    RETURNS TABLE (ordinal integer, start_char integer, end_char integer, heading text, chunk text, tokens integer)
    AS 'MODULE_PATHNAME', 'chunk_wrapper' LANGUAGE C STABLE PARALLEL SAFE COST 100000 ROWS 10;
COMMENT ON FUNCTION chunk(text, text, integer, integer, text) IS
    'pieces of a text that fit the model''s window, cut by none, sentence, recursive, markdown or html';
