-- The words of texts, for text search: PostgreSQL's dictionaries, and pairs of characters where no blanks part words.

CREATE FUNCTION pg_answer_search_vector(config regconfig, texts text[]) RETURNS tsvector
    AS 'MODULE_PATHNAME', 'pg_answer_search_vector_wrapper' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION pg_answer_search_vector(regconfig, text[]) IS
    'the words of texts by the dictionaries of a text search configuration; Chinese, Japanese, Korean and Thai as pairs of characters';

CREATE FUNCTION pg_answer_word_counts(content tsvector, question tsvector) RETURNS integer[]
    AS 'MODULE_PATHNAME', 'pg_answer_word_counts_wrapper' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 20;
COMMENT ON FUNCTION pg_answer_word_counts(tsvector, tsvector) IS
    'how often each word of the second stands in the first, then how many words stand in the first';

CREATE FUNCTION pg_answer_bm25(
    counts integer[], said integer[], holders bigint[], passages double precision, average_length double precision)
    RETURNS double precision
    AS 'MODULE_PATHNAME', 'pg_answer_bm25_wrapper' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 20;
COMMENT ON FUNCTION pg_answer_bm25(integer[], integer[], bigint[], double precision, double precision) IS
    'BM25 score as a share of the most that a passage could have';

CREATE FUNCTION pg_answer_unknown_share(question tsvector, holders bigint[], passages double precision) RETURNS double precision
    AS 'MODULE_PATHNAME', 'pg_answer_unknown_share_wrapper' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 20;
COMMENT ON FUNCTION pg_answer_unknown_share(tsvector, bigint[], double precision) IS
    'share of a question''s weight that lies in words which no passage has';

CREATE FUNCTION pg_answer_trust(query text, model text) RETURNS double precision
    AS 'MODULE_PATHNAME', 'pg_answer_trust_wrapper' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION pg_answer_trust(text, text) IS 'how much a model''s vector of a text is worth, by the share of its tokens that it knows';

CREATE FUNCTION pg_answer_fuse(cosine double precision, floor double precision, trust double precision, text_score double precision)
    RETURNS double precision
    AS 'MODULE_PATHNAME', 'pg_answer_fuse_wrapper' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION pg_answer_fuse(double precision, double precision, double precision, double precision) IS
    'one score of a passage from its similarity and its text score';

CREATE FUNCTION pg_answer_merge(
    documents bigint[], ordinals integer[], starts integer[], ends integer[], contents text[], scores double precision[], k integer,
    expand integer, diversity double precision)
    RETURNS TABLE (place integer, first_chunk integer, last_chunk integer)
    AS 'MODULE_PATHNAME', 'pg_answer_merge_wrapper' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE ROWS 5;
COMMENT ON FUNCTION pg_answer_merge(bigint[], integer[], integer[], integer[], text[], double precision[], integer, integer, double precision) IS
    'chunks, best first, as passages: what overlaps or says the same becomes one, and with diversity those that differ come first';

-- The configuration whose stop words make up most of a source's first rows; the session's own where none does. In no text
-- of a language are fewer than a fifth of the words its stop words, and of another one's few.
CREATE FUNCTION pg_answer_guess_text_search(source regclass, content text[]) RETURNS regconfig LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    sample text;
    best regconfig;
BEGIN
    EXECUTE format('SELECT string_agg(left(concat_ws('' '', %s), 2000), '' '') FROM (SELECT * FROM %s LIMIT 50) AS t',
                   (SELECT string_agg(format('t.%I::text', c), ', ') FROM unnest(content) AS c), source) INTO sample;
    SELECT g.config INTO best FROM (
        SELECT m.mapcfg::regconfig AS config, sum(w.n) FILTER (WHERE ts_lexize(d.oid, w.word) = '{}') / sum(w.n) AS share
        FROM (SELECT word, count(*) AS n FROM regexp_split_to_table(lower(sample), '[[:space:][:punct:][:digit:]]+') AS word
              WHERE word <> '' GROUP BY word ORDER BY n DESC, word LIMIT 300) AS w
        CROSS JOIN pg_ts_config_map m
        JOIN pg_ts_config c ON c.oid = m.mapcfg AND c.cfgnamespace = 'pg_catalog'::regnamespace
        JOIN pg_ts_parser p ON p.oid = c.cfgparser AND p.prsname = 'default'
        JOIN pg_ts_dict d ON d.oid = m.mapdict
        JOIN pg_ts_template t ON t.oid = d.dicttemplate AND t.tmplname = 'snowball'
        -- Words of any letters are tokens of type 2 to PostgreSQL's own parser.
        WHERE m.maptokentype = 2
        GROUP BY m.mapcfg) AS g
        WHERE g.share > 0.2 ORDER BY g.share DESC LIMIT 1;
    RETURN coalesce(best, get_current_ts_config());
END $$;
COMMENT ON FUNCTION pg_answer_guess_text_search(regclass, text[]) IS 'the text search configuration for the language of a source';

-- What a source's passages are in the mean: how many there are, how many words they have, and which of the words asked are in
-- more than a tenth of them, by what ANALYZE knows. Exact for small tables, of a sample for others.
CREATE FUNCTION pg_answer_text_statistics(s pg_answer_sources, words tsvector,
    OUT passages double precision, OUT average_length double precision, OUT common jsonb)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    relation CONSTANT regclass := coalesce(s.chunks, s.relation);
    sampled CONSTANT double precision := 250;
    -- Words that are not stored take their time.
    measured CONSTANT integer := CASE WHEN s.chunks IS NULL THEN 100 ELSE 1000 END;
    sample text;
    search CONSTANT text := CASE WHEN s.chunks IS NULL THEN @extschema@.pg_answer_search_expression(s, 't.') ELSE 't.search' END;
    kind "char";
    pages double precision;
    density double precision;
    share double precision := 100;
BEGIN
    IF words = '' THEN
        RETURN;
    END IF;
    SELECT c.relkind, CASE c.relkind WHEN 'p' THEN (SELECT sum(pg_relation_size(t.relid)) FROM pg_partition_tree(c.oid) AS t)
                      ELSE pg_relation_size(c.oid) END / current_setting('block_size')::double precision,
           CASE WHEN c.relkind <> 'p' AND c.reltuples > 0 AND c.relpages > 0 THEN c.reltuples / c.relpages END
        INTO kind, pages, density FROM pg_class c WHERE c.oid = relation;
    IF kind IN ('r', 'm', 'p') AND pages > sampled THEN
        share := 100 * sampled / pages;
    END IF;
    sample := format('%s AS t %s', relation, CASE WHEN share < 100 THEN format('TABLESAMPLE SYSTEM (%s) REPEATABLE (0)', share) END);
    EXECUTE format('SELECT (SELECT count(*) FROM %2$s) * $1, avg(t.words) FROM ('
                   'SELECT (@extschema@.pg_answer_word_counts(%1$s, ''''))[1] AS words FROM %2$s LIMIT $2) AS t', search, sample)
        INTO passages, average_length USING 100 / share, measured;
    average_length := coalesce(average_length, 1);
    IF share < 100 AND density IS NOT NULL THEN
        passages := density * pages;
    END IF;
    IF passages > 10000 THEN
        SELECT jsonb_object_agg(u.lexeme, u.share) INTO common
            FROM pg_stats AS t, unnest(t.most_common_elems::text::text[], t.most_common_elem_freqs) AS u(lexeme, share)
            WHERE to_regclass(format('%I.%I', t.schemaname, t.tablename)) = coalesce(s.chunks, @extschema@.pg_answer_text_index(s.relation))
              AND t.attname IN ('search', 'pg_answer_search_vector')
              AND u.share > 0.1 AND u.lexeme = ANY (tsvector_to_array(words));
    END IF;
END $$;
COMMENT ON FUNCTION pg_answer_text_statistics(pg_answer_sources, tsvector) IS
    'how many passages a source has, how many words they have in the mean, and which words are common';

-- How a question's words are looked up: as a condition without the common ones, unless all are; how often it says each of
-- all; and how many passages hold each of those left out.
CREATE FUNCTION pg_answer_words_asked(words tsvector, common jsonb, passages double precision,
    OUT any_word tsquery, OUT said integer[], OUT holders bigint[])
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT string_agg(format('''%s''', replace(replace(w.lexeme, '\', '\\'), '''', '''''')), ' | ') FILTER (WHERE NOT w.left_out)::tsquery,
           @extschema@.pg_answer_word_counts(words, words),
           array_agg(CASE WHEN w.left_out THEN ((common ->> w.lexeme)::double precision * passages)::bigint END ORDER BY w.place)
        FROM (SELECT u.lexeme, u.place, c.is_common AND NOT bool_and(c.is_common) OVER () AS left_out
              FROM unnest(tsvector_to_array(words)) WITH ORDINALITY AS u(lexeme, place),
                   LATERAL (SELECT coalesce(common ? u.lexeme, false) AS is_common) AS c) AS w
$$;
COMMENT ON FUNCTION pg_answer_words_asked(tsvector, jsonb, double precision) IS 'how the words of a question are looked up';

-- Sources with a vector column of their own have their text index on an expression over the table. What has no indexes, such as
-- a view, and text that is made by functions that are not immutable, are searched by reading all rows.
CREATE FUNCTION pg_answer_create_text_index(source regclass) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s @extschema@.pg_answer_sources;
    r record;
BEGIN
    SELECT * INTO STRICT s FROM @extschema@.pg_answer_sources t WHERE t.relation = source AND NOT t.building;
    SELECT c.relkind, c.relname INTO r FROM pg_class c WHERE c.oid = source;
    IF r.relkind NOT IN ('r', 'm', 'p') THEN
        RETURN;
    END IF;
    PERFORM @extschema@.pg_answer_drop_text_index(source);
    EXECUTE format('CREATE INDEX %I ON %s USING gin (%s)', left(r.relname, 50) || '_words_idx', source,
                   @extschema@.pg_answer_search_expression(s, ''));
EXCEPTION WHEN invalid_object_definition THEN
    RAISE NOTICE 'the text of relation % cannot be indexed: %', source, SQLERRM
        USING HINT = 'Text search reads all its rows. A generated column of type text can be indexed.';
END $$;
COMMENT ON FUNCTION pg_answer_create_text_index(regclass) IS 'makes the text index of a source with a vector column of its own';

CREATE FUNCTION pg_answer_text_index(source regclass) RETURNS regclass LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT i.indexrelid::regclass FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        WHERE i.indrelid = source AND c.relname LIKE '%\_words\_idx'
          AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                      AND d.refobjid = '@extschema@.pg_answer_search_vector(regconfig, text[])'::regprocedure)
        LIMIT 1
$$;
COMMENT ON FUNCTION pg_answer_text_index(regclass) IS 'the text index that create_source made for a table';

CREATE FUNCTION pg_answer_drop_text_index(source regclass) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF @extschema@.pg_answer_text_index(source) IS NOT NULL THEN
        EXECUTE format('DROP INDEX %s', @extschema@.pg_answer_text_index(source));
    END IF;
END $$;
COMMENT ON FUNCTION pg_answer_drop_text_index(regclass) IS 'drops the text index of a source with a vector column of its own';
