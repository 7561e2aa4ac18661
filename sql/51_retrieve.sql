-- Retrieval, as the caller and with the caller's rights.

CREATE FUNCTION pg_answer_must_be_sources(wanted regclass[]) RETURNS void LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    missing regclass;
BEGIN
    SELECT w INTO missing FROM unnest(wanted) AS w
        WHERE NOT EXISTS (SELECT FROM @extschema@.pg_answer_sources s WHERE s.relation = w AND NOT s.building) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'relation % is not a source', missing USING ERRCODE = 'undefined_object',
            HINT = format('Declare it: SELECT create_source(%L, content => ''text column'').', missing::text);
    END IF;
END $$;
COMMENT ON FUNCTION pg_answer_must_be_sources(regclass[]) IS 'fails unless all are sources';

-- The sources to search: those named or, without names, those whose owner the caller has reason to trust.
-- Reading a view or a table with policies runs code of its owner with the caller's rights.
CREATE FUNCTION pg_answer_sources_of(wanted regclass[])
    RETURNS SETOF pg_answer_sources LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM @extschema@.pg_answer_must_be_sources(wanted);
    RETURN QUERY
        SELECT s.* FROM @extschema@.pg_answer_sources s
        JOIN pg_class c ON c.oid = s.relation
        JOIN pg_roles o ON o.oid = c.relowner
        WHERE NOT s.building AND (s.relation = ANY (wanted)
           OR wanted IS NULL AND has_any_column_privilege(s.relation, 'SELECT')
              AND (o.rolsuper OR o.rolname = current_user
                   OR o.oid = (SELECT d.datdba FROM pg_database d WHERE d.datname = current_database())));
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no source to search' USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'Declare one: SELECT create_source(''table'', content => ''text column'').';
    END IF;
END $$;
COMMENT ON FUNCTION pg_answer_sources_of(regclass[]) IS 'the sources named, or all that may be searched without naming them';

-- A source's parts as SQL, the same for one with chunks and one with a vector column of its own. The row is read in both
-- cases: chunks of a row that is gone may still wait to be removed.
CREATE FUNCTION pg_answer_search_plan(
    s pg_answer_sources,
    OUT passages text,      -- FROM clause that holds all passages
    OUT searched text,      -- the relation that the text index is on, with its alias
    OUT same_row text,      -- condition that joins both, in sources with chunks
    OUT place text[],       -- columns that tell passages apart, in "searched"
    OUT key text, OUT title text, OUT heading text, OUT content text, OUT ordinal text, OUT start_char text, OUT end_char text,
    OUT embedding text, OUT vector_type text, OUT search text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT string_agg(format('%L, s.%s', s.key[k.place], k.name), ', ' ORDER BY k.place),
           string_agg(format('s.%s %s c.%s', k.name, k.equal, k.chunk_name), ' AND ' ORDER BY k.place),
           array_agg(CASE WHEN s.chunks IS NULL THEN 's.' || k.name ELSE 'c.' || k.chunk_name END ORDER BY k.place)
        INTO key, same_row, place FROM @extschema@.pg_answer_key_columns(s.relation, s.key, s.chunks) AS k;
    key := format('jsonb_build_object(%s)', key);
    title := CASE WHEN s.title IS NULL THEN 'NULL::text' ELSE format('s.%I::text', s.title) END;
    IF s.chunks IS NOT NULL THEN
        place := place || 'c.ordinal'::text;
        searched := format('%s AS c', s.chunks);
        passages := format('%s JOIN %s AS s ON %s', searched, s.relation, same_row);
        heading := 'c.heading';
        content := 'c.chunk';
        ordinal := 'c.ordinal';
        start_char := 'c.start_char';
        end_char := 'c.end_char';
        embedding := 'c.embedding';
        vector_type := '@extschema@.vector';
        search := 'c.search';
        RETURN;
    END IF;
    SELECT format_type(a.atttypid, NULL) INTO vector_type FROM pg_attribute a
        WHERE a.attrelid = s.relation AND a.attname = s.embedding AND NOT a.attisdropped;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'column "%" of source % does not exist', s.embedding, s.relation
            USING ERRCODE = 'undefined_column', HINT = 'Call drop_source and create_source again.';
    END IF;
    searched := format('%s AS s', s.relation);
    passages := searched;
    heading := 'NULL::text';
    SELECT format('concat_ws(E''\n'', %s)', string_agg(format('s.%I::text', c), ', ' ORDER BY i)) INTO content
        FROM unnest(s.content) WITH ORDINALITY AS u(c, i);
    ordinal := '0';
    start_char := '0';
    end_char := format('length(%s)', content);
    embedding := format('s.%I', s.embedding);
    search := @extschema@.pg_answer_search_expression(s, 's.');
END $$;
COMMENT ON FUNCTION pg_answer_search_plan(pg_answer_sources) IS 'how a source is searched, as parts of SQL statements';

-- The expression that the text index of a source with a vector column of its own is on.
CREATE FUNCTION pg_answer_search_expression(s pg_answer_sources, alias text) RETURNS text LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('@extschema@.pg_answer_search_vector(%L::regconfig, ARRAY[%s])', s.text_search,
                  string_agg(format('%s%I::text', alias, c), ', ' ORDER BY i))
        FROM unnest(s.title || s.content) WITH ORDINALITY AS u(c, i) WHERE c IS NOT NULL
$$;
COMMENT ON FUNCTION pg_answer_search_expression(pg_answer_sources, text) IS 'the words of a source''s rows, as an SQL expression';

-- {"lang": "en", "year": [2020, 2021], "deleted": null}, as a condition on the source's row.
CREATE FUNCTION pg_answer_condition(source regclass, filter jsonb) RETURNS text LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    missing text;
    condition text;
BEGIN
    IF filter IS NULL THEN
        RETURN 'true';
    END IF;
    IF jsonb_typeof(filter) <> 'object' THEN
        RAISE EXCEPTION '"where" must be a JSON object, not %', jsonb_typeof(filter) USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Name columns with the values they shall have: ''{"lang": "en"}''.';
    END IF;
    SELECT f.name INTO missing FROM jsonb_object_keys(filter) AS f(name) WHERE NOT EXISTS (SELECT FROM pg_attribute a
        WHERE a.attrelid = source AND a.attname = f.name AND a.attnum > 0 AND NOT a.attisdropped) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'column "%" of relation % does not exist', missing, source USING ERRCODE = 'undefined_column';
    END IF;
    SELECT string_agg(CASE jsonb_typeof(v.value)
            WHEN 'null' THEN format('s.%s IS NULL', k.name)
            WHEN 'array' THEN format('s.%s %s ANY (%L::%s[])', k.name, k.equal,
                                     (SELECT array_agg(e) FROM jsonb_array_elements_text(v.value) AS e)::text, k.type)
            ELSE format('s.%s %s %L::%s', k.name, k.equal, v.value #>> '{}', k.type) END, ' AND ')
        INTO condition
        FROM @extschema@.pg_answer_key_columns(source, ARRAY(SELECT jsonb_object_keys(filter))) AS k
        JOIN jsonb_each(filter) AS v ON quote_ident(v.key) = k.name;
    RETURN coalesce(condition, 'true');
END $$;
COMMENT ON FUNCTION pg_answer_condition(regclass, jsonb) IS 'the condition that columns have the values of a JSON object';

-- Of a filter that fits no source it is told before anything is searched for, and with little context.
CREATE FUNCTION pg_answer_check_filter(wanted regclass[], filter jsonb) RETURNS void LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM @extschema@.pg_answer_condition(s.relation, filter) FROM @extschema@.pg_answer_sources_of(wanted) AS s WHERE filter IS NOT NULL;
END $$;
COMMENT ON FUNCTION pg_answer_check_filter(regclass[], jsonb) IS 'an error about a filter that is no object or names a column that a source has not';

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

-- The statement that finds the candidates of a source: the nearest, those that hold the question's words best, and of all of
-- them both scores. $1 the question's vector, $2 how many of each, $3 its words, $4 the same as a condition, $5 how often it
-- says each, $6 passages and $7 words of a passage in the mean, $8 how many passages hold each of the words that $4 leaves out.
CREATE FUNCTION pg_answer_candidates_sql(s pg_answer_sources, by_vector boolean, by_text boolean, condition text, words integer)
    RETURNS text LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p record;
    places text;        -- their columns, named p1, p2, ...
    names text;
    same_place text;
BEGIN
    SELECT * INTO p FROM @extschema@.pg_answer_search_plan(s);
    SELECT string_agg(format('%s AS p%s', c, i), ', ' ORDER BY i), string_agg(format('p%s', i), ', ' ORDER BY i),
           string_agg(format('%s %s f.p%s', c, coalesce(k.equal, '='), i), ' AND ' ORDER BY i)
        INTO places, names, same_place
        FROM unnest(p.place) WITH ORDINALITY AS u(c, i)
        LEFT JOIN @extschema@.pg_answer_key_columns(s.relation, s.key, s.chunks) AS k ON k.place = u.i;
    RETURN concat(
        'WITH ',
        CASE WHEN by_text THEN format(
            'found AS MATERIALIZED (SELECT %1$s, @extschema@.pg_answer_word_counts(%2$s, $3) AS counts FROM %3$s WHERE %2$s @@ $4), '
            'rare AS (SELECT ARRAY[%4$s]::bigint[] AS holders FROM found), '
            'best AS (SELECT %5$s, NULL::bigint AS vector_rank, row_number() OVER (ORDER BY score DESC) AS text_rank FROM ('
            'SELECT f.*, @extschema@.pg_answer_bm25(f.counts, $5, rare.holders, $6, $7) AS score FROM found AS f CROSS JOIN rare%6$s '
            'ORDER BY score DESC LIMIT $2) AS b), ',
            places, p.search, p.searched,
            (SELECT string_agg(format('coalesce(($8)[%1$s], count(*) FILTER (WHERE counts[%1$s] > 0))', i), ', ' ORDER BY i) FROM generate_series(1, words) AS i),
            names,
            CASE WHEN condition <> 'true' THEN format(' JOIN %s ON %s WHERE %s', p.passages, same_place, condition) END) END,
        CASE WHEN by_vector THEN format(
            'near AS (SELECT %1$s, row_number() OVER (ORDER BY distance) AS vector_rank, NULL::bigint AS text_rank FROM ('
            'SELECT %2$s, %3$s OPERATOR(@extschema@.<=>) $1::%4$s AS distance FROM %5$s WHERE %3$s IS NOT NULL AND %6$s '
            'ORDER BY %3$s OPERATOR(@extschema@.<=>) $1::%4$s LIMIT $2) AS n), ',
            names, places, p.embedding, p.vector_type, p.passages, condition) END,
        format('both_sides AS (SELECT %1$s, min(vector_rank) AS vector_rank, min(text_rank) AS text_rank FROM (%2$s) AS b GROUP BY %1$s) ',
            names, concat_ws(' UNION ALL ', CASE WHEN by_vector THEN 'SELECT * FROM near' END, CASE WHEN by_text THEN 'SELECT * FROM best' END)),
        format('SELECT %L::regclass, %s, %s, %s, %s, %s, %s, %s, ', s.relation, p.key, p.title, p.heading, p.content, p.ordinal, p.start_char, p.end_char),
        CASE WHEN by_vector THEN format('f.vector_rank, 1 - (%s OPERATOR(@extschema@.<=>) $1::%s), ', p.embedding, p.vector_type)
             ELSE 'NULL::bigint, NULL::double precision, ' END,
        CASE WHEN by_text THEN format('f.text_rank, @extschema@.pg_answer_bm25(@extschema@.pg_answer_word_counts(%s, $3), $5, '
                                      '(SELECT holders FROM rare), $6, $7) ', p.search)
             ELSE 'NULL::bigint, NULL::double precision ' END,
        CASE WHEN by_text THEN ', @extschema@.pg_answer_unknown_share($3, (SELECT holders FROM rare), $6) '
             ELSE ', NULL::double precision ' END,
        format('FROM both_sides AS f JOIN %s ON %s', p.passages, same_place));
END $$;
COMMENT ON FUNCTION pg_answer_candidates_sql(pg_answer_sources, boolean, boolean, text, integer) IS
    'the statement that finds the candidates of a source';

-- Beside a model the search of an index costs next to nothing, so that it is searched thoroughly.
CREATE FUNCTION pg_answer_candidates(query text, wanted regclass[], pool integer, mode text, filter jsonb, max_staleness interval)
    RETURNS TABLE (source regclass, key jsonb, title text, heading text, content text, ordinal integer, start_char integer, end_char integer,
                   vector_rank bigint, vector_score double precision, text_rank bigint, text_score double precision,
                   unknown_share double precision, model text, trust double precision)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp SET pg_answer.target_recall = 0.99 AS $$
#variable_conflict use_column
DECLARE
    s @extschema@.pg_answer_sources;
    model text;
    words tsvector;
    asked record;
    statistics record;
    question @extschema@.vector;
    trust double precision;
BEGIN
    FOR s IN SELECT * FROM @extschema@.pg_answer_sources_of(wanted) LOOP
        IF s.chunks IS NOT NULL THEN
            PERFORM @extschema@.pg_answer_tell_of_queue(s.relation, max_staleness);
        END IF;
        words := CASE WHEN mode <> 'vector' THEN @extschema@.pg_answer_search_vector(s.text_search::regconfig, ARRAY[query]) ELSE '' END;
        statistics := @extschema@.pg_answer_text_statistics(s, words);
        asked := @extschema@.pg_answer_words_asked(words, statistics.common, statistics.passages);
        IF mode = 'text' AND words = '' THEN
            CONTINUE;
        ELSIF mode <> 'text' AND s.model IS DISTINCT FROM model THEN
            model := s.model;
            question := @extschema@.embed_query(query, model);
            trust := @extschema@.pg_answer_trust(query, model);
        END IF;
        RETURN QUERY EXECUTE
            format('SELECT c.*, %L, $9 FROM (%s) AS c', s.model, @extschema@.pg_answer_candidates_sql(
                s, mode <> 'text', words <> '', @extschema@.pg_answer_condition(s.relation, filter), length(words)))
            USING question, pool, words, asked.any_word, asked.said, statistics.passages, statistics.average_length, asked.holders, trust;
    END LOOP;
END $$;
COMMENT ON FUNCTION pg_answer_candidates(text, regclass[], integer, text, jsonb, interval) IS
    'the candidates for an answer: the nearest passages of each source and those that hold most of the question''s words';

-- The text of chunks that follow each other, without what they repeat.
CREATE FUNCTION pg_answer_passage(source regclass, key jsonb, first_chunk integer, last_chunk integer,
    OUT content text, OUT start_char integer, OUT end_char integer)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s @extschema@.pg_answer_sources;
    p record;
BEGIN
    SELECT * INTO STRICT s FROM @extschema@.pg_answer_sources t WHERE t.relation = source AND NOT t.building;
    SELECT * INTO p FROM @extschema@.pg_answer_search_plan(s);
    EXECUTE format(
        'SELECT string_agg(CASE WHEN before IS NULL THEN text WHEN from_char > before THEN E''\n'' || text '
        'ELSE substr(text, before - from_char + 1) END, '''' ORDER BY ordinal), min(from_char), max(to_char) FROM ('
        'SELECT %1$s AS ordinal, %2$s AS text, %3$s AS from_char, %4$s AS to_char, max(%4$s) OVER (ORDER BY %1$s ROWS BETWEEN UNBOUNDED '
        'PRECEDING AND 1 PRECEDING) AS before FROM %5$s WHERE %6$s AND %1$s BETWEEN $2 AND $3) AS t',
        p.ordinal, p.content, p.start_char, p.end_char, p.passages, @extschema@.pg_answer_condition(source, key))
        INTO content, start_char, end_char USING key, first_chunk, last_chunk;
END $$;
COMMENT ON FUNCTION pg_answer_passage(regclass, jsonb, integer, integer) IS 'the text of chunks of a row that follow each other';

-- A model's scores of passages for a question, in their order. Likelihoods tell passages of one question apart and nothing more,
-- so that the score that a passage has counts beside its own.
CREATE FUNCTION pg_answer_rerank(query text, passages text[], scores double precision[], otherwise text) RETURNS double precision[]
    AS 'MODULE_PATHNAME', 'pg_answer_rerank_wrapper' LANGUAGE C STABLE PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION pg_answer_rerank(text, text[], double precision[], text) IS
    'scores of passages anew, by the model to rerank with, or by another where there is none';

CREATE FUNCTION pg_answer_check_search(k integer, mode text, expand integer, diversity double precision) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wrong CONSTANT text := CASE
        WHEN k IS NULL OR k < 1 THEN 'k must be at least 1'
        WHEN expand IS NULL OR expand < 0 THEN 'expand must be at least 0'
        WHEN diversity IS NULL OR NOT diversity BETWEEN 0 AND 1 THEN 'diversity must lie between 0 and 1'
        WHEN mode IS NULL OR mode NOT IN ('hybrid', 'vector', 'text') THEN format('mode %L is not hybrid, vector or text', mode) END;
BEGIN
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION '%', wrong USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN true;
END $$;
COMMENT ON FUNCTION pg_answer_check_search(integer, text, integer, double precision) IS 'true, or an error about the first argument that makes no sense';

CREATE FUNCTION pg_answer_retrieve(query text, wanted regclass[], k integer, mode text, filter jsonb, min_score double precision,
                                   rerank boolean, expand integer, max_staleness interval, diversity double precision,
                                   max_unknown double precision, judge text)
    RETURNS TABLE (source regclass, key jsonb, title text, heading text, content text, score double precision,
                   vector_rank bigint, vector_score double precision, text_rank bigint, text_score double precision,
                   start_char integer, end_char integer, unknown_share double precision, trust double precision, nearest double precision)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM @extschema@.pg_answer_check_search(k, mode, expand, diversity);
    IF query IS NULL THEN
        RETURN;
    END IF;
    PERFORM @extschema@.pg_answer_check_filter(wanted, filter);
    RETURN QUERY
        WITH candidates AS (
            SELECT c.*, CASE mode
                       WHEN 'vector' THEN c.vector_score
                       WHEN 'text' THEN c.text_score
                       ELSE @extschema@.pg_answer_fuse(c.vector_score, min(c.vector_score) OVER (PARTITION BY c.model), c.trust, c.text_score)
                       END AS score
            -- NaN is the score of a vector of zeros.
            FROM (SELECT source, key, title, heading, content, ordinal, start_char, end_char, vector_rank,
                         coalesce(nullif(vector_score, 'NaN'), CASE mode WHEN 'hybrid' THEN -1 END) AS vector_score, text_rank, text_score,
                         min(unknown_share) OVER () AS unknown_share, model, trust, max(nullif(vector_score, 'NaN')) OVER () AS nearest
                  FROM @extschema@.pg_answer_candidates(query, wanted, greatest(50, 2 * least(k, 1000000)), mode, filter, max_staleness)) AS c
        ), titled AS (
            SELECT *, row_number() OVER (PARTITION BY source, coalesce(to_jsonb(title), key) ORDER BY score DESC NULLS LAST, key, ordinal) AS of_title
            FROM candidates
        ), doubt AS MATERIALIZED (
            -- Whether the first document that will be left out is nearly as good as the best.
            SELECT coalesce(rerank, mode = 'hybrid' AND coalesce(min(unknown_share), 0) <= coalesce(max_unknown, 1)
                       AND max(score) - (array_agg(score ORDER BY score DESC NULLS LAST) FILTER (WHERE of_title = 1))[least(k, 1000000) + 1] < 0.1,
                       false) AS anew FROM titled
        ), ordered AS MATERIALIZED (
            -- What is read anew is of many documents: no more than two passages of each, as long as there are others.
            SELECT t.*, anew, row_number() OVER (ORDER BY anew AND of_title > 2, score DESC NULLS LAST, source, key, ordinal) AS before
            FROM titled AS t CROSS JOIN doubt
        ), reranked AS MATERIALIZED (
            SELECT CASE WHEN bool_or(anew) THEN
                       @extschema@.pg_answer_rerank(query, array_agg(content ORDER BY before), array_agg(score ORDER BY before), judge) END AS scores
            FROM ordered WHERE before <= greatest(16, 2 * k::bigint)
        ), judged AS (
            SELECT o.*, CASE WHEN anew THEN n.scores[o.before] ELSE o.score END AS final FROM ordered AS o CROSS JOIN reranked AS n
        ), ranked AS MATERIALIZED (
            SELECT *, row_number() OVER (ORDER BY final DESC, before) AS place, dense_rank() OVER (ORDER BY source, key) AS document
            FROM judged WHERE final IS NOT NULL AND (min_score IS NULL OR final >= min_score)
        ), merged AS (
            SELECT m.*, row_number() OVER () AS number FROM (SELECT array_agg(document ORDER BY place) AS documents, array_agg(ordinal ORDER BY place) AS ordinals,
                                    array_agg(start_char ORDER BY place) AS starts, array_agg(end_char ORDER BY place) AS ends,
                                    array_agg(content ORDER BY place) AS contents, array_agg(final ORDER BY place) AS scores FROM ranked) AS r,
                 LATERAL @extschema@.pg_answer_merge(r.documents, r.ordinals, r.starts, r.ends, r.contents, r.scores, k, expand, diversity) AS m
        )
        SELECT r.source, r.key, r.title, r.heading, coalesce(w.content, r.content), r.final, r.vector_rank, r.vector_score, r.text_rank,
               r.text_score, coalesce(w.start_char, r.start_char), coalesce(w.end_char, r.end_char), r.unknown_share, r.trust, r.nearest
            FROM merged AS m JOIN ranked AS r USING (place)
            LEFT JOIN LATERAL @extschema@.pg_answer_passage(r.source, r.key, m.first_chunk, m.last_chunk) AS w ON m.first_chunk < m.last_chunk
            ORDER BY m.number;
END $$;
COMMENT ON FUNCTION pg_answer_retrieve(text, regclass[], integer, text, jsonb, double precision, boolean, integer, interval, double precision,
                                       double precision, text) IS
    'what rag_retrieve does, in sources that are known';

-- One name, or several as an array: 'docs' or '{docs,articles}'. What is no source is told of here, where the error has the least
-- context.
CREATE FUNCTION pg_answer_named_sources(source text) RETURNS regclass[] LANGUAGE plpgsql STABLE AS $$
DECLARE
    wanted pg_catalog.regclass[] := CASE WHEN source OPERATOR(pg_catalog.~~) '{%' THEN source::pg_catalog.regclass[]
                                         WHEN source IS NOT NULL THEN ARRAY[source::pg_catalog.regclass] END;
BEGIN
    PERFORM @extschema@.pg_answer_must_be_sources(wanted);
    RETURN wanted;
END $$;
COMMENT ON FUNCTION pg_answer_named_sources(text) IS 'the sources that a text names';

CREATE FUNCTION rag_retrieve(
    query text,
    source text DEFAULT NULL,
    k integer DEFAULT 5,
    mode text DEFAULT 'hybrid',
    "where" jsonb DEFAULT NULL,
    min_score double precision DEFAULT NULL,
    rerank boolean DEFAULT false,
    expand integer DEFAULT 0,
    max_staleness interval DEFAULT NULL,
    diversity double precision DEFAULT 0)
    RETURNS TABLE (source regclass, key jsonb, title text, heading text, content text, score double precision,
                   vector_rank bigint, vector_score double precision, text_rank bigint, text_score double precision,
                   start_char integer, end_char integer)
    LANGUAGE sql STABLE COST 100000 ROWS 5 AS $$
    SELECT r.source, r.key, r.title, r.heading, r.content, r.score, r.vector_rank, r.vector_score, r.text_rank, r.text_score,
           r.start_char, r.end_char
        FROM @extschema@.pg_answer_retrieve($1, @extschema@.pg_answer_named_sources($2), $3, $4, $5, $6, $7, $8, $9, $10,
                                           NULL, NULL) AS r
$$;
COMMENT ON FUNCTION rag_retrieve(text, text, integer, text, jsonb, double precision, boolean, integer, interval, double precision) IS
    'the k passages that fit a question best, best first, by meaning and words, in one source, several (''{a,b}'') or all';
