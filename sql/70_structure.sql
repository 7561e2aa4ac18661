-- Answers of a given form.

CREATE FUNCTION pg_answer_json(
    prompt text, schema text, extracts boolean, system text, model text, max_tokens integer, temperature double precision, seed bigint)
    RETURNS text
    AS 'MODULE_PATHNAME', 'pg_answer_json_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000000;
COMMENT ON FUNCTION pg_answer_json(text, text, boolean, text, text, integer, double precision, bigint) IS
    'JSON valid against a schema, as text: an answer to a prompt, or what it says';

CREATE FUNCTION generate_json(
    prompt text,
    schema jsonb,
    model text DEFAULT NULL,
    system text DEFAULT NULL,
    max_tokens integer DEFAULT 512,
    temperature double precision DEFAULT 0,
    seed bigint DEFAULT NULL)
    RETURNS jsonb LANGUAGE sql VOLATILE PARALLEL RESTRICTED COST 10000000 AS $$
    SELECT CASE WHEN $1 IS NOT NULL AND $2 IS NOT NULL
        THEN @extschema@.pg_answer_json($1, $2::pg_catalog.text, false, $4, $3, $5, $6, $7)::pg_catalog.jsonb END
$$;
COMMENT ON FUNCTION generate_json(text, jsonb, text, text, integer, double precision, bigint) IS
    'reply of a language model to a prompt as JSON, always valid against a JSON Schema';

CREATE FUNCTION extract_json(
    content text,
    schema jsonb,
    model text DEFAULT NULL,
    instruction text DEFAULT NULL,
    max_tokens integer DEFAULT 512)
    RETURNS jsonb LANGUAGE sql VOLATILE PARALLEL RESTRICTED COST 10000000 AS $$
    SELECT CASE WHEN $1 IS NOT NULL AND $2 IS NOT NULL
        THEN @extschema@.pg_answer_json($1, $2::pg_catalog.text, true, $4, $3, $5, 0, 0)::pg_catalog.jsonb END
$$;
COMMENT ON FUNCTION extract_json(text, jsonb, text, text, integer) IS
    'what a text says, as JSON that is always valid against a JSON Schema';

-- SQL's EXTRACT(… FROM …) takes the plain name: this one is called with a schema before it, or in double quotes.
CREATE FUNCTION "extract"(
    content text,
    schema jsonb,
    model text DEFAULT NULL,
    instruction text DEFAULT NULL,
    max_tokens integer DEFAULT 512)
    RETURNS jsonb LANGUAGE sql VOLATILE PARALLEL RESTRICTED COST 10000000 AS $$
    SELECT @extschema@.extract_json($1, $2, $3, $4, $5)
$$;
COMMENT ON FUNCTION "extract"(text, jsonb, text, text, integer) IS
    'extract_json under the name that SQL''s EXTRACT(... FROM ...) leaves only to "extract" in double quotes';

CREATE FUNCTION pg_answer_label_probabilities(content text, labels text[], instruction text, model text) RETURNS double precision[]
    AS 'MODULE_PATHNAME', 'pg_answer_label_probabilities_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000000;
COMMENT ON FUNCTION pg_answer_label_probabilities(text, text[], text, text) IS 'how probable each label is for a text, in their order';

CREATE FUNCTION classify_details(
    content text,
    labels text[],
    instruction text DEFAULT NULL,
    model text DEFAULT NULL,
    OUT label text, OUT probability double precision)
    RETURNS SETOF record LANGUAGE sql VOLATILE PARALLEL RESTRICTED COST 10000000 ROWS 10 AS $$
    SELECT l.label, l.probability
        FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest(CASE WHEN $1 IS NOT NULL AND $2 IS NOT NULL
                THEN @extschema@.pg_answer_label_probabilities($1, $2, $3, $4) END)) WITH ORDINALITY AS l(label, probability, place)
        WHERE l.label IS NOT NULL AND l.probability IS NOT NULL
        ORDER BY l.probability DESC, l.place
$$;
COMMENT ON FUNCTION classify_details(text, text[], text, text) IS
    'labels with their probabilities for a text, the likeliest first, as a language model sees it';

CREATE FUNCTION classify(
    content text,
    labels text[],
    instruction text DEFAULT NULL,
    model text DEFAULT NULL)
    RETURNS text LANGUAGE sql VOLATILE PARALLEL RESTRICTED COST 10000000 AS $$
    SELECT d.label FROM @extschema@.classify_details($1, $2, $3, $4) AS d LIMIT 1
$$;
COMMENT ON FUNCTION classify(text, text[], text, text) IS
    'the label that fits a text best, by a language model, or by an encoder where no language model is installed';
