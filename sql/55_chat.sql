-- Conversations.

CREATE FUNCTION pg_answer_reply(
    messages text, model text, max_tokens integer, temperature double precision, top_p double precision, seed bigint, stop text[],
    context_tokens integer)
    RETURNS text
    AS 'MODULE_PATHNAME', 'pg_answer_reply_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000000;
COMMENT ON FUNCTION pg_answer_reply(text, text, integer, double precision, double precision, bigint, text[], integer) IS
    'reply to a conversation, given as the text of JSON';

CREATE FUNCTION chat(
    messages jsonb,
    model text DEFAULT NULL,
    max_tokens integer DEFAULT 256,
    temperature double precision DEFAULT 0,
    top_p double precision DEFAULT 1,
    seed bigint DEFAULT NULL,
    stop text[] DEFAULT NULL,
    context_tokens integer DEFAULT NULL)
    RETURNS text LANGUAGE sql VOLATILE PARALLEL RESTRICTED COST 10000000 AS $$
    SELECT @extschema@.pg_answer_reply($1::pg_catalog.text, $2, $3, $4, $5, $6, $7, $8)
$$;
COMMENT ON FUNCTION chat(jsonb, text, integer, double precision, double precision, bigint, text[], integer) IS
    'reply to a conversation, [{"role": "user", "content": "Hello"}]; the oldest turns are left out where they do not fit';

-- What was said in conversations, a turn a row. Names are text: a dump can be restored where its roles are not.
CREATE TABLE pg_answer_conversations (
    owner name NOT NULL DEFAULT current_user,
    conversation text NOT NULL,
    turn integer NOT NULL CHECK (turn > 0),
    question text NOT NULL,
    asked text NOT NULL,
    answer text,
    refused boolean NOT NULL,
    citations jsonb NOT NULL,
    said_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (owner, conversation, turn)
);
COMMENT ON TABLE pg_answer_conversations IS
    'turns of rag_chat, seen by their owner (and the database''s) only: the question, what was asked for it by itself, the answer and its citations';
ALTER TABLE pg_answer_conversations ENABLE ROW LEVEL SECURITY;
CREATE POLICY owner_only ON pg_answer_conversations USING (owner = current_user) WITH CHECK (owner = current_user);
SELECT pg_catalog.pg_extension_config_dump('pg_answer_conversations', '');
GRANT SELECT, INSERT, DELETE ON pg_answer_conversations TO PUBLIC;
-- pg_dump reads tables with policies only as their owner or as a superuser. The extension may be of neither: it is trusted.
DO $$
BEGIN
    EXECUTE format('ALTER TABLE @extschema@.pg_answer_conversations OWNER TO %I', pg_catalog.pg_get_userbyid(
        (SELECT d.datdba FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())));
END $$;

CREATE FUNCTION pg_answer_standalone(messages text, model text, context_tokens integer) RETURNS text
    AS 'MODULE_PATHNAME', 'pg_answer_standalone_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000000;
COMMENT ON FUNCTION pg_answer_standalone(text, text, integer) IS 'the last question of a conversation, understandable without the rest';

CREATE FUNCTION pg_answer_chat(
    conversation text, question text, wanted regclass[], k integer, mode text, filter jsonb, rerank boolean, expand integer,
    min_similarity double precision, max_unknown double precision, on_unsupported text, refusal text, model text, max_tokens integer,
    context_tokens integer, history_tokens integer, temperature double precision, seed bigint)
    RETURNS text LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    name CONSTANT text := conversation;
    turns integer;
    earlier jsonb;
    asked text;
    d record;
BEGIN
    IF question IS NULL THEN
        RETURN NULL;
    ELSIF name IS NULL THEN
        RAISE EXCEPTION 'the conversation has no name' USING ERRCODE = 'null_value_not_allowed', HINT = 'Any text will do: rag_chat(''tea'', …).';
    END IF;
    -- Turns of one conversation follow each other.
    PERFORM pg_advisory_xact_lock(hashtextextended(concat_ws('.', 'pg_answer', current_user, name), 0));
    SELECT coalesce(max(t.turn), 0), coalesce(jsonb_agg(m.message ORDER BY t.turn, m.place), '[]') INTO turns, earlier
        FROM @extschema@.pg_answer_conversations AS t,
             LATERAL (VALUES (1, jsonb_build_object('role', 'user', 'content', t.asked)),
                             (2, jsonb_build_object('role', 'assistant', 'content', t.answer))) AS m(place, message)
        -- A superuser sees those of all. What was refused says nothing about what is meant.
        WHERE t.owner = current_user AND t.conversation = name AND (m.place = 1 OR NOT t.refused);
    asked := CASE WHEN turns = 0 THEN question ELSE @extschema@.pg_answer_standalone(
        (earlier || jsonb_build_object('role', 'user', 'content', question))::text, model, history_tokens) END;
    d := @extschema@.pg_answer_details(asked, wanted, k, mode, filter, rerank, expand, min_similarity, max_unknown, on_unsupported, refusal,
                                       model, max_tokens, context_tokens, temperature, seed);
    INSERT INTO @extschema@.pg_answer_conversations (conversation, turn, question, asked, answer, refused, citations)
        VALUES (name, turns + 1, question, asked, d.answer, d.refused, d.citations);
    RETURN d.answer;
END $$;
COMMENT ON FUNCTION pg_answer_chat(text, text, regclass[], integer, text, jsonb, boolean, integer, double precision, double precision, text, text, text,
                                   integer, integer, integer, double precision, bigint) IS 'what rag_chat does, in sources that are known';

CREATE FUNCTION rag_chat(
    conversation text,
    question text,
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
    history_tokens integer DEFAULT 1024,
    temperature double precision DEFAULT 0,
    seed bigint DEFAULT NULL)
    RETURNS text LANGUAGE sql VOLATILE COST 10000000 AS $$
    SELECT @extschema@.pg_answer_chat($1, $2, @extschema@.pg_answer_named_sources($3), $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
                                      $17, $18)
$$;
COMMENT ON FUNCTION rag_chat(text, text, text, integer, text, jsonb, boolean, integer, double precision, double precision, text, text, text, integer,
                             integer, integer, double precision, bigint) IS
    'rag_answer to the next question of a conversation, whatever name it has: what it says by it or there is looked up in the turns before';
