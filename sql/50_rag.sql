-- Retrieval, as the caller and with the caller's rights, and answers from what it finds.

-- The sources to search: the one named or, without a name, those whose owner the caller has reason to trust.
-- Reading a view or a table with policies runs code of its owner with the caller's rights.
CREATE FUNCTION pg_answer_sources_of(wanted regclass)
    RETURNS SETOF pg_answer_sources LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
        SELECT s.* FROM @extschema@.pg_answer_sources s
        JOIN pg_class c ON c.oid = s.relation
        JOIN pg_roles o ON o.oid = c.relowner
        WHERE NOT s.building AND (s.relation = wanted
           OR wanted IS NULL AND has_any_column_privilege(s.relation, 'SELECT')
              AND (o.rolsuper OR o.rolname = current_user
                   OR o.oid = (SELECT d.datdba FROM pg_database d WHERE d.datname = current_database())));
    IF FOUND THEN
        RETURN;
    END IF;
    IF wanted IS NULL THEN
        RAISE EXCEPTION 'there is no source to search' USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'Declare one: SELECT create_source(''table'', content => ''text column'').';
    END IF;
    RAISE EXCEPTION 'relation % is not a source', wanted USING ERRCODE = 'undefined_object',
        HINT = format('Declare it: SELECT create_source(%L, content => ''text column'').',
                      wanted::text);
END $$;
COMMENT ON FUNCTION pg_answer_sources_of(regclass) IS 'the source named, or all that may be searched without naming them';

CREATE FUNCTION pg_answer_retrieve(query text, wanted regclass, k integer, max_staleness interval)
    RETURNS TABLE (source regclass, key jsonb, title text, content text, score double precision)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s @extschema@.pg_answer_sources;
    statement text;
BEGIN
    IF k IS NULL OR k < 1 THEN
        RAISE EXCEPTION 'k must be at least 1' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF query IS NULL THEN
        RETURN;
    END IF;
    FOR s IN SELECT * FROM @extschema@.pg_answer_sources_of(wanted) LOOP
        IF s.chunks IS NULL THEN
            statement := @extschema@.pg_answer_search_rows(s);
        ELSE
            PERFORM @extschema@.pg_answer_tell_of_queue(s.relation, max_staleness);
            statement := @extschema@.pg_answer_search_chunks(s);
        END IF;
        RETURN QUERY EXECUTE statement USING @extschema@.embed_query(query, s.model), k;
    END LOOP;
END $$;
COMMENT ON FUNCTION pg_answer_retrieve(text, regclass, integer, interval) IS 'the k nearest rows or chunks of each source';

-- The query for the nearest rows of a source with a vector column: $1 is the question's vector, $2 how many.
CREATE FUNCTION pg_answer_search_rows(s pg_answer_sources) RETURNS text LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    column_type text;
BEGIN
    SELECT format_type(a.atttypid, NULL) INTO column_type FROM pg_attribute a
        WHERE a.attrelid = s.relation AND a.attname = s.embedding AND NOT a.attisdropped;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'column "%" of source % does not exist', s.embedding, s.relation
            USING ERRCODE = 'undefined_column', HINT = 'Call drop_source and create_source again.';
    END IF;
    RETURN format(
        'SELECT %1$L::regclass, jsonb_build_object(%2$s), %3$s, concat_ws(E''\n'', %4$s),'
        ' 1 - (t.%5$I OPERATOR(@extschema@.<=>) $1::%6$s)'
        ' FROM %1$s AS t WHERE t.%5$I IS NOT NULL'
        ' ORDER BY t.%5$I OPERATOR(@extschema@.<=>) $1::%6$s LIMIT $2',
        s.relation,
        (SELECT string_agg(format('%L, t.%I', c, c), ', ' ORDER BY i) FROM unnest(s.key) WITH ORDINALITY AS u(c, i)),
        CASE WHEN s.title IS NULL THEN 'NULL::text' ELSE format('t.%I::text', s.title) END,
        (SELECT string_agg(format('t.%I::text', c), ', ' ORDER BY i) FROM unnest(s.content) WITH ORDINALITY AS u(c, i)),
        s.embedding,
        column_type);
END $$;
COMMENT ON FUNCTION pg_answer_search_rows(pg_answer_sources) IS 'the query for the nearest rows of a source';

-- The same for chunks. The row is read as well: for its title, and because chunks of a row that is gone may still wait to
-- be removed.
CREATE FUNCTION pg_answer_search_chunks(s pg_answer_sources) RETURNS text LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT format(
        'SELECT %1$L::regclass, jsonb_build_object(%2$s), nullif(concat_ws('' > '', %3$s, c.heading), ''''), c.chunk,'
        ' 1 - (c.embedding OPERATOR(@extschema@.<=>) $1)'
        ' FROM %4$s AS c JOIN %1$s AS s ON %5$s ORDER BY c.embedding OPERATOR(@extschema@.<=>) $1 LIMIT $2',
        s.relation,
        string_agg(format('%L, s.%s', s.key[k.place], k.name), ', ' ORDER BY k.place),
        CASE WHEN s.title IS NULL THEN 'NULL' ELSE format('s.%I::text', s.title) END,
        s.chunks,
        string_agg(format('s.%s %s c.%s', k.name, k.equal, k.chunk_name), ' AND ' ORDER BY k.place))
    FROM @extschema@.pg_answer_key_columns(s.relation, s.key, s.chunks) AS k
$$;
COMMENT ON FUNCTION pg_answer_search_chunks(pg_answer_sources) IS 'the query for the nearest chunks of a source';

CREATE FUNCTION pg_answer_tell_of_queue(source regclass, max_staleness interval) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    q record;
BEGIN
    SELECT * INTO q FROM @extschema@.pg_answer_queue_state(source, false);
    IF clock_timestamp() - q.oldest > max_staleness THEN
        RAISE EXCEPTION 'source % lags % behind', source, clock_timestamp() - q.oldest
            USING ERRCODE = 'object_not_in_prerequisite_state',
            DETAIL = format('%s rows wait to be embedded.', q.waiting),
            HINT = format('SELECT wait_for_source(%L), or allow a larger max_staleness.', source::text);
    END IF;
    IF q.waiting + q.failed > 0 THEN
        RAISE NOTICE '% rows of source % are not embedded as they are now: % wait, % failed',
            q.waiting + q.failed, source, q.waiting, q.failed;
    END IF;
END $$;
COMMENT ON FUNCTION pg_answer_tell_of_queue(regclass, interval) IS 'tells of rows that a search does not see as they are';

CREATE FUNCTION rag_retrieve(
    query text,
    source text DEFAULT NULL,
    k integer DEFAULT 5,
    min_score double precision DEFAULT NULL,
    max_staleness interval DEFAULT NULL)
    RETURNS TABLE (source regclass, key jsonb, title text, content text, score double precision)
    LANGUAGE sql STABLE COST 100000 ROWS 5 AS $$
    SELECT r.source, r.key, r.title, r.content, r.score
        FROM @extschema@.pg_answer_retrieve($1, $2::pg_catalog.regclass, $3, $5) AS r
        -- NaN, the score of a vector of zeros, is no match.
        WHERE r.score OPERATOR(pg_catalog.<>) 'NaN'::pg_catalog.float8
          AND ($4 IS NULL OR r.score OPERATOR(pg_catalog.>=) $4)
        ORDER BY r.score DESC
        -- At least 1: with a limit of 0 nobody would look at k and tell that it is wrong.
        LIMIT greatest($3, 1)
$$;
COMMENT ON FUNCTION rag_retrieve(text, text, integer, double precision, interval) IS
    'the k rows or chunks nearest to a question in one source or in all; score is the cosine similarity';

CREATE FUNCTION rag_answer(
    query text,
    passages text[],
    titles text[] DEFAULT NULL,
    model text DEFAULT NULL,
    max_tokens integer DEFAULT 256,
    context_tokens integer DEFAULT 2048,
    temperature double precision DEFAULT 0,
    seed bigint DEFAULT NULL)
    RETURNS text
    AS 'MODULE_PATHNAME', 'rag_answer_passages_wrapper' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000000;
COMMENT ON FUNCTION rag_answer(text, text[], text[], text, integer, integer, double precision, bigint) IS
    'answers a question from the passages given, citing them as [1], [2], ...';

CREATE FUNCTION rag_answer(
    query text,
    source text DEFAULT NULL,
    k integer DEFAULT 5,
    min_score double precision DEFAULT 0.4,
    model text DEFAULT NULL,
    max_tokens integer DEFAULT 256,
    context_tokens integer DEFAULT 2048,
    temperature double precision DEFAULT 0,
    seed bigint DEFAULT NULL)
    RETURNS text LANGUAGE sql VOLATILE PARALLEL RESTRICTED COST 10000000 AS $$
    SELECT @extschema@.rag_answer($1,
            pg_catalog.array_agg(r.content ORDER BY r.score DESC),
            pg_catalog.array_agg(r.title ORDER BY r.score DESC),
            $5, $6, $7, $8, $9)
        FROM @extschema@.rag_retrieve($1, $2, $3, $4) AS r
$$;
COMMENT ON FUNCTION rag_answer(text, text, integer, double precision, text, integer, integer, double precision, bigint) IS
    'answers a question from the rows nearest to it, citing them as [1], [2], ...; refuses when none reaches min_score';
