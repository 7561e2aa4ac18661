-- Answers from what retrieval finds.

-- Prompt templates, in the language of Jinja: of a source, or of all (NULL). The latest version counts.
CREATE TABLE pg_answer_prompts (
    source regclass,
    version integer NOT NULL CHECK (version >= 0),
    system text NOT NULL,
    message text NOT NULL,
    UNIQUE NULLS NOT DISTINCT (source, version)
);
COMMENT ON TABLE pg_answer_prompts IS
    'templates of what rag_answer asks the model, from query, its language, passages (title, content) and refusal; version 0 is the extension''s own';
INSERT INTO pg_answer_prompts VALUES (NULL, 0,
'You answer questions from passages of documents. Use only what the passages say, and copy names, numbers and code from them exactly. '
'Answer in one or two complete sentences, in the language of the question. If the passages do not hold the answer, reply exactly: {{ refusal }}',
-- Passages have no numbers: small models then write "[1]" in place of the answer. The check finds what supports a sentence by itself.
'{% for passage in passages -%}
{% if passage.title %}# {{ passage.title }}
{% endif %}{{ passage.content }}

{% endfor -%}
{% if language == "Chinese" %}问题：{% else %}Question: {% endif %}{{ query }}');
SELECT pg_catalog.pg_extension_config_dump('pg_answer_prompts', 'WHERE version > 0');
GRANT SELECT, INSERT, UPDATE, DELETE ON pg_answer_prompts TO PUBLIC;

-- Everybody may write templates for sources of their own; those for all are the database owner's.
CREATE FUNCTION pg_answer_guard_prompts() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed @extschema@.pg_answer_prompts[] := CASE TG_OP WHEN 'INSERT' THEN ARRAY[NEW] WHEN 'DELETE' THEN ARRAY[OLD] ELSE ARRAY[OLD, NEW] END;
BEGIN
    IF EXISTS (SELECT FROM unnest(changed) AS p LEFT JOIN pg_class c ON c.oid = p.source
               WHERE NOT pg_has_role(coalesce(c.relowner, (SELECT datdba FROM pg_database WHERE datname = current_database())), 'USAGE')) THEN
        RAISE EXCEPTION 'must be owner of the source, or of the database for templates of all sources'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
COMMENT ON FUNCTION pg_answer_guard_prompts() IS 'lets users change the templates of their own sources only';
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON pg_answer_prompts
    FOR EACH ROW EXECUTE FUNCTION pg_answer_guard_prompts();

CREATE FUNCTION pg_answer_prompt_for(wanted regclass[]) RETURNS pg_answer_prompts LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT p FROM @extschema@.pg_answer_prompts AS p
        WHERE p.source IS NULL OR cardinality(wanted) = 1 AND p.source = wanted[1]
        ORDER BY p.source NULLS LAST, p.version DESC LIMIT 1
$$;
COMMENT ON FUNCTION pg_answer_prompt_for(regclass[]) IS 'the templates for a question to some sources';

CREATE FUNCTION pg_answer_prompt(
    query text, contents text[], titles text[], system text, message text, model text, context_tokens integer)
    RETURNS text
    AS 'MODULE_PATHNAME', 'pg_answer_prompt_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000;
COMMENT ON FUNCTION pg_answer_prompt(text, text[], text[], text, text, text, integer) IS 'the prompt for an answer from some passages';

CREATE FUNCTION pg_answer_write(
    query text, contents text[], titles text[], read integer, system text, message text, model text, max_tokens integer, context_tokens integer,
    temperature double precision, seed bigint, on_unsupported text)
    RETURNS TABLE (answer text, support double precision, citations jsonb, model text, prompt_tokens integer, answer_tokens integer,
                   first_token_ms double precision, write_ms double precision)
    AS 'MODULE_PATHNAME', 'pg_answer_write_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000000 ROWS 1;
COMMENT ON FUNCTION pg_answer_write(text, text[], text[], integer, text, text, text, integer, integer, double precision, bigint, text) IS
    'an answer from the first passages (NULL: all), each sentence looked up in all and cited; NULL when they support none';

CREATE FUNCTION pg_answer_attempts(passages integer) RETURNS integer[]
    AS 'MODULE_PATHNAME', 'pg_answer_attempts_wrapper' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pg_answer_attempts(integer) IS 'how many of so many passages to read, one attempt after the other';

CREATE FUNCTION pg_answer_refusal(query text, wanted text) RETURNS text
    AS 'MODULE_PATHNAME', 'pg_answer_refusal_wrapper' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION pg_answer_refusal(text, text) IS 'what to say where nothing answers the question: the default, in its language, or what is wanted';

-- Of wrong arguments it is told before anything is searched for, and with little context.
CREATE FUNCTION pg_answer_check_answer(model text, max_tokens integer, context_tokens integer, temperature double precision, on_unsupported text)
    RETURNS boolean
    AS 'MODULE_PATHNAME', 'pg_answer_check_answer_wrapper' LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION pg_answer_check_answer(text, integer, integer, double precision, text) IS
    'true, or an error about the first argument that makes no sense';

-- The sources that a text names, once all other arguments have been looked at. The caller's search path is that of the names.
CREATE FUNCTION pg_answer_checked_sources(
    source text, k integer, mode text, expand integer, model text, max_tokens integer, context_tokens integer, temperature double precision,
    on_unsupported text)
    RETURNS regclass[] LANGUAGE sql STABLE PARALLEL RESTRICTED AS $$
    SELECT CASE WHEN @extschema@.pg_answer_check_search($2, $3, $4, 0) AND @extschema@.pg_answer_check_answer($5, $6, $7, $8, $9)
           THEN @extschema@.pg_answer_named_sources($1) END
$$;
COMMENT ON FUNCTION pg_answer_checked_sources(text, integer, text, integer, text, integer, integer, double precision, text) IS
    'the sources that a text names, or an error about the first argument that makes no sense';

-- What a question finds, whether that can hold an answer, and how long it took.
CREATE FUNCTION pg_answer_evidence(
    query text, wanted regclass[], k integer, mode text, filter jsonb, rerank boolean, expand integer, min_similarity double precision,
    max_unknown double precision, model text, OUT passages jsonb, OUT contents text[], OUT titles text[], OUT enough boolean, OUT retrieve_ms double precision)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    began CONSTANT timestamptz := clock_timestamp();
BEGIN
    PERFORM @extschema@.pg_answer_check_filter(wanted, filter);
    SELECT coalesce(jsonb_agg(jsonb_build_object('source', r.source, 'key', r.key, 'title', r.title, 'heading', r.heading, 'content', r.content,
               'score', r.score, 'start_char', r.start_char, 'end_char', r.end_char) ORDER BY r.place), '[]'),
           coalesce(array_agg(r.content ORDER BY r.place), '{}'),
           coalesce(array_agg(nullif(concat_ws(' > ', r.title, r.heading), '') ORDER BY r.place), '{}'),
           count(*) > 0 AND coalesce(min(r.unknown_share), 0) <= coalesce(max_unknown, 1)
               AND coalesce(bool_or(min_similarity IS NULL OR r.vector_score IS NULL OR CASE
                   -- A model that does not know the question's language cannot tell that nothing is near it. Its words tell, where they
                   -- are pairs of characters, one of a dozen is enough.
                   WHEN r.trust < 0.5 THEN coalesce(r.most_words, 1) >= 0.02
                   -- The nearest of all that were found: a model that judges may prefer others.
                   ELSE r.nearest >= min_similarity END), false)
        INTO passages, contents, titles, enough
        FROM (SELECT *, row_number() OVER () AS place, max(vector_score) OVER () AS most_similar, max(text_score) OVER () AS most_words
              FROM @extschema@.pg_answer_retrieve(query, wanted, k, mode, filter, NULL, rerank, expand, NULL, 0, max_unknown, model)) AS r
        -- What is not half as near as the nearest nor has half as many of the words as the best is about something else: small
        -- models would answer from it, whatever it says.
        WHERE min_similarity IS NULL OR r.trust >= 0.5 AND r.vector_score >= r.most_similar / 2 OR r.text_score >= r.most_words / 2
           OR r.vector_score IS NULL AND r.text_score IS NULL;
    retrieve_ms := 1000 * extract(epoch FROM clock_timestamp() - began);
END $$;
COMMENT ON FUNCTION pg_answer_evidence(text, regclass[], integer, text, jsonb, boolean, integer, double precision, double precision, text) IS
    'the passages for an answer, and whether they can hold one';

CREATE FUNCTION pg_answer_details(
    query text, wanted regclass[], k integer, mode text, filter jsonb, rerank boolean, expand integer, min_similarity double precision,
    max_unknown double precision, on_unsupported text, refusal text, model_wanted text, max_tokens integer, context_tokens integer,
    temperature double precision, seed bigint,
    OUT answer text, OUT refused boolean, OUT confidence double precision, OUT citations jsonb, OUT passages jsonb, OUT model text,
    OUT prompt_tokens integer, OUT answer_tokens integer, OUT retrieve_ms double precision, OUT first_token_ms double precision,
    OUT total_ms double precision)
    LANGUAGE plpgsql VOLATILE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    e record;
    w record;
    p @extschema@.pg_answer_prompts;
    read integer;
BEGIN
    IF query IS NULL THEN
        RETURN;
    END IF;
    PERFORM @extschema@.pg_answer_check_search(k, mode, expand, 0);
    PERFORM @extschema@.pg_answer_check_answer(model_wanted, max_tokens, context_tokens, temperature, on_unsupported);
    e := @extschema@.pg_answer_evidence(query, wanted, k, mode, filter, rerank, expand, min_similarity, max_unknown, model_wanted);
    p := @extschema@.pg_answer_prompt_for(wanted);
    -- Of nothing the model is not asked.
    FOREACH read IN ARRAY CASE WHEN e.enough THEN @extschema@.pg_answer_attempts(cardinality(e.contents)) ELSE '{0}' END LOOP
        SELECT * INTO w FROM @extschema@.pg_answer_write(query, e.contents, e.titles, read, p.system, p.message, model_wanted, max_tokens,
                                                         context_tokens, temperature, seed, on_unsupported) AS t;
        prompt_tokens := coalesce(prompt_tokens, 0) + w.prompt_tokens;
        answer_tokens := coalesce(answer_tokens, 0) + w.answer_tokens;
        first_token_ms := coalesce(first_token_ms, e.retrieve_ms + w.first_token_ms);
        total_ms := coalesce(total_ms, e.retrieve_ms) + w.write_ms;
        EXIT WHEN w.answer IS NOT NULL;
    END LOOP;
    refused := w.answer IS NULL;
    answer := coalesce(w.answer, @extschema@.pg_answer_refusal(query, refusal));
    confidence := CASE WHEN refused THEN 0 ELSE w.support END;
    -- Places become sources and keys, and characters those of the row's text.
    SELECT coalesce(jsonb_agg(jsonb_build_object('passage', c -> 'place', 'source', f.passage -> 'source', 'key', f.passage -> 'key', 'quote', c -> 'quote',
               'start_char', (c ->> 'start_char')::integer + (f.passage ->> 'start_char')::integer,
               'end_char', (c ->> 'end_char')::integer + (f.passage ->> 'start_char')::integer, 'support', c -> 'support') ORDER BY n), '[]')
        INTO citations
        FROM jsonb_array_elements(w.citations) WITH ORDINALITY AS u(c, n),
             LATERAL (SELECT e.passages -> ((c ->> 'place')::integer - 1) AS passage) AS f WHERE NOT refused;
    passages := e.passages;
    model := w.model;
    retrieve_ms := e.retrieve_ms;
END $$;
COMMENT ON FUNCTION pg_answer_details(text, regclass[], integer, text, jsonb, boolean, integer, double precision, double precision, text, text, text,
                                      integer, integer, double precision, bigint) IS 'what rag_answer_details does, in sources that are known';

CREATE FUNCTION rag_answer_details(
    query text,
    source text DEFAULT NULL,
    k integer DEFAULT 5,
    mode text DEFAULT 'hybrid',
    "where" jsonb DEFAULT NULL,
    rerank boolean DEFAULT NULL,
    expand integer DEFAULT 0,
    min_similarity double precision DEFAULT 0.4,
    max_unknown double precision DEFAULT 0.35,
    on_unsupported text DEFAULT 'drop',
    refusal text DEFAULT 'I cannot answer this from the available sources.',
    model text DEFAULT NULL,
    max_tokens integer DEFAULT 256,
    context_tokens integer DEFAULT 2048,
    temperature double precision DEFAULT 0,
    seed bigint DEFAULT NULL,
    OUT answer text, OUT refused boolean, OUT confidence double precision, OUT citations jsonb, OUT passages jsonb, OUT model text,
    OUT prompt_tokens integer, OUT answer_tokens integer, OUT retrieve_ms double precision, OUT first_token_ms double precision,
    OUT total_ms double precision)
    LANGUAGE sql VOLATILE PARALLEL RESTRICTED COST 10000000 AS $$
    SELECT * FROM @extschema@.pg_answer_details($1, @extschema@.pg_answer_named_sources($2), $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
$$;
COMMENT ON FUNCTION rag_answer_details(text, text, integer, text, jsonb, boolean, integer, double precision, double precision, text, text, text,
                                       integer, integer, double precision, bigint) IS
    'an answer with what it rests on and what it took: citations quote the passages, and refused tells that nothing supports one';

CREATE FUNCTION rag_answer(
    query text,
    source text DEFAULT NULL,
    k integer DEFAULT 5,
    mode text DEFAULT 'hybrid',
    "where" jsonb DEFAULT NULL,
    rerank boolean DEFAULT NULL,
    expand integer DEFAULT 0,
    min_similarity double precision DEFAULT 0.4,
    max_unknown double precision DEFAULT 0.35,
    on_unsupported text DEFAULT 'drop',
    refusal text DEFAULT 'I cannot answer this from the available sources.',
    model text DEFAULT NULL,
    max_tokens integer DEFAULT 256,
    context_tokens integer DEFAULT 2048,
    temperature double precision DEFAULT 0,
    seed bigint DEFAULT NULL)
    RETURNS text LANGUAGE sql VOLATILE PARALLEL RESTRICTED COST 10000000 AS $$
    SELECT d.answer FROM @extschema@.pg_answer_details($1, @extschema@.pg_answer_named_sources($2), $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
                                                       $15, $16) AS d
$$;
COMMENT ON FUNCTION rag_answer(text, text, integer, text, jsonb, boolean, integer, double precision, double precision, text, text, text, integer, integer,
                               double precision, bigint) IS
    'answers a question from the passages that fit it best, citing them as [1], [2], ...; refuses when they support no answer';

CREATE FUNCTION rag_prompt(
    query text,
    source text DEFAULT NULL,
    k integer DEFAULT 5,
    mode text DEFAULT 'hybrid',
    "where" jsonb DEFAULT NULL,
    rerank boolean DEFAULT NULL,
    expand integer DEFAULT 0,
    model text DEFAULT NULL,
    context_tokens integer DEFAULT 2048,
    min_similarity double precision DEFAULT 0.4)
    RETURNS text LANGUAGE sql VOLATILE PARALLEL RESTRICTED COST 100000 AS $$
    SELECT @extschema@.pg_answer_prompt($1, e.contents[1:a.read], e.titles[1:a.read], p.system, p.message, $8, $9)
        FROM @extschema@.pg_answer_checked_sources($2, $3, $4, $7, $8, 1, $9, 0, 'drop') AS s(wanted),
             LATERAL @extschema@.pg_answer_evidence($1, s.wanted, $3, $4, $5, $6, $7, $10, NULL, $8) AS e,
             LATERAL (SELECT coalesce((@extschema@.pg_answer_attempts(cardinality(e.contents)))[1], 0)) AS a(read),
             LATERAL @extschema@.pg_answer_prompt_for(s.wanted) AS p
        WHERE $1 IS NOT NULL
$$;
COMMENT ON FUNCTION rag_prompt(text, text, integer, text, jsonb, boolean, integer, text, integer, double precision) IS
    'the exact prompt that rag_answer would give to the model at first, which is not run';

CREATE FUNCTION rag_answer(
    query text,
    passages text[],
    titles text[] DEFAULT NULL,
    model text DEFAULT NULL,
    max_tokens integer DEFAULT 256,
    context_tokens integer DEFAULT 2048,
    temperature double precision DEFAULT 0,
    seed bigint DEFAULT NULL,
    on_unsupported text DEFAULT 'drop',
    refusal text DEFAULT 'I cannot answer this from the available sources.')
    RETURNS text LANGUAGE sql VOLATILE PARALLEL RESTRICTED COST 10000000 AS $$
    SELECT CASE WHEN $1 IS NOT NULL THEN coalesce(w.answer, @extschema@.pg_answer_refusal($1, $10)) END
        FROM @extschema@.pg_answer_prompt_for(NULL) AS p,
             LATERAL @extschema@.pg_answer_write(coalesce($1, ''), CASE WHEN $1 IS NULL THEN '{}' ELSE coalesce($2, '{}') END,
                 CASE WHEN $1 IS NULL THEN '{}' ELSE coalesce($3, '{}') END, NULL, p.system, p.message, $4, $5, $6, $7, $8, $9) AS w
$$;
COMMENT ON FUNCTION rag_answer(text, text[], text[], text, integer, integer, double precision, bigint, text, text) IS
    'answers a question from the passages given, citing them as [1], [2], ...';
