-- What vectors alone can tell: clusters, labels, near-duplicates, recommendations.

CREATE FUNCTION kmeans(embedding vector, k integer, seed bigint DEFAULT 0) RETURNS integer
    AS 'MODULE_PATHNAME', 'pg_answer_vector_kmeans' LANGUAGE C WINDOW IMMUTABLE COST 1000;
COMMENT ON FUNCTION kmeans(vector, integer, bigint) IS
    'window function: the cluster of a row among at most k of its partition, numbered from 1; the same seed gives the same';

CREATE FUNCTION kmeans(embedding halfvec, k integer, seed bigint DEFAULT 0) RETURNS integer
    AS 'MODULE_PATHNAME', 'pg_answer_halfvec_kmeans' LANGUAGE C WINDOW IMMUTABLE COST 1000;
COMMENT ON FUNCTION kmeans(halfvec, integer, bigint) IS
    'window function: the cluster of a row among at most k of its partition, numbered from 1; the same seed gives the same';

-- Not STRICT, so that they are inlined and the labels of a statement are embedded once, when it is planned.
CREATE FUNCTION nearest_label(embedding vector, labels text[], label_embeddings vector[]) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 1000 AS $$
    SELECT l.label
        FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) AS l(label, embedding)
        WHERE l.label IS NOT NULL AND ($1 OPERATOR(@extschema@.<=>) l.embedding) OPERATOR(pg_catalog.<=) 2
        ORDER BY $1 OPERATOR(@extschema@.<=>) l.embedding
        LIMIT 1
$$;
COMMENT ON FUNCTION nearest_label(vector, text[], vector[]) IS 'the label whose vector is nearest by cosine distance';

CREATE FUNCTION nearest_label(content text, labels text[], model text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 100000 AS $$
    SELECT @extschema@.nearest_label(@extschema@.embed($1, $3), $2, @extschema@.embed($2, $3))
$$;
COMMENT ON FUNCTION nearest_label(text, text[], text) IS 'the label nearest to a text, by the model named';

CREATE FUNCTION nearest_label(content text, labels text[]) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE COST 100000 AS $$
    SELECT @extschema@.nearest_label($1, $2, @extschema@.embedding_model())
$$;
COMMENT ON FUNCTION nearest_label(text, text[]) IS 'the label nearest to a text, by the model of pg_answer.embedding_model';

-- The columns that similar_pairs and recommend work with: the vector column named or the only one, its type, and the key.
CREATE FUNCTION pg_answer_vector_column(
    relation regclass, wanted text, OUT embedding name, OUT type text, OUT key text[], OUT key_json text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_columns integer;
BEGIN
    IF relation IS NULL THEN
        RAISE EXCEPTION 'relation must not be NULL' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    SELECT min(a.attname::text), min(format_type(a.atttypid, NULL)), count(*) INTO embedding, type, found_columns
        FROM pg_attribute a
        WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
          AND a.atttypid IN ('@extschema@.vector'::regtype, '@extschema@.halfvec'::regtype)
          AND (wanted IS NULL OR a.attname = wanted);
    IF found_columns = 0 THEN
        RAISE EXCEPTION '%', CASE WHEN wanted IS NULL THEN format('relation %s has no column of vectors', relation)
                ELSE format('relation %s has no column of vectors "%s"', relation, wanted) END
            USING ERRCODE = 'undefined_column';
    END IF;
    IF found_columns > 1 THEN
        RAISE EXCEPTION 'relation % has several columns of vectors', relation USING ERRCODE = 'ambiguous_column',
            HINT = 'Name one: embedding => ''column''.';
    END IF;
    SELECT s.key INTO key FROM @extschema@.pg_answer_sources s WHERE s.relation = $1 AND NOT s.building;
    key := coalesce(key, @extschema@.pg_answer_primary_key(relation));
    IF key IS NULL THEN
        RAISE EXCEPTION 'relation % has no primary key', relation USING ERRCODE = 'invalid_table_definition',
            HINT = 'The result names its rows by their key. Add a primary key.';
    END IF;
    SELECT format('jsonb_build_object(%s)', string_agg(format('%L, t.%I', c, c), ', ' ORDER BY i)) INTO key_json
        FROM unnest(key) WITH ORDINALITY AS u(c, i);
END $$;
COMMENT ON FUNCTION pg_answer_vector_column(regclass, text) IS 'the vector column and the key of a table';

CREATE FUNCTION similar_pairs(
    relation regclass, embedding text DEFAULT NULL, threshold double precision DEFAULT 0.95)
    RETURNS TABLE (key_a jsonb, key_b jsonb, similarity double precision)
    LANGUAGE plpgsql STABLE COST 1000000 ROWS 1000
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c record;
    a record;
    keys jsonb[];
    similarities double precision[];
    wanted integer;
BEGIN
    IF threshold IS NULL OR NOT threshold BETWEEN -1 AND 1 THEN
        RAISE EXCEPTION 'threshold must be between -1 and 1' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    c := @extschema@.pg_answer_vector_column(relation, embedding);
    FOR a IN EXECUTE format(
        'SELECT %s AS key, t.%I::@extschema@.vector AS embedding FROM %s AS t WHERE t.%2$I IS NOT NULL',
        c.key_json, c.embedding, relation)
    LOOP
        -- The nearest few first, by the index if there is one; more only while all of them are near enough.
        wanted := 8;
        LOOP
            EXECUTE format(
                'SELECT array_agg(n.key), array_agg(n.similarity) FROM ('
                'SELECT %1$s AS key, 1 - (t.%2$I OPERATOR(@extschema@.<=>) $1::%3$s) AS similarity'
                ' FROM %4$s AS t WHERE t.%2$I IS NOT NULL'
                ' ORDER BY t.%2$I OPERATOR(@extschema@.<=>) $1::%3$s LIMIT %5$s) AS n'
                -- NaN, the similarity of zeros, is greater than all numbers.
                ' WHERE n.similarity >= $2 AND n.similarity <= 2',
                c.key_json, c.embedding, c.type, relation, wanted)
                INTO keys, similarities USING a.embedding, threshold;
            EXIT WHEN coalesce(cardinality(keys), 0) < wanted;
            wanted := wanted * 4;
        END LOOP;
        RETURN QUERY SELECT a.key, u.key, u.similarity FROM unnest(keys, similarities) AS u(key, similarity)
            WHERE a.key < u.key;
    END LOOP;
END $$;
COMMENT ON FUNCTION similar_pairs(regclass, text, double precision) IS
    'pairs of rows whose vectors have a cosine similarity of at least threshold, each pair once; by an index if there is one';

CREATE FUNCTION recommend(
    relation regclass, liked jsonb, disliked jsonb DEFAULT '[]', k integer DEFAULT 10, embedding text DEFAULT NULL)
    RETURNS TABLE (key jsonb, score double precision)
    LANGUAGE plpgsql STABLE COST 100000 ROWS 10
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c record;
    known text;
    towards record;
BEGIN
    IF k IS NULL OR k < 1 THEN
        RAISE EXCEPTION 'k must be at least 1' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF jsonb_typeof(liked) IS DISTINCT FROM 'array' OR jsonb_typeof(disliked) IS DISTINCT FROM 'array' THEN
        RAISE EXCEPTION 'liked and disliked must be JSON arrays of keys' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'For example ''[1, 2]'', or ''[{"a": 1, "b": 2}]'' for a key of several columns.';
    END IF;
    c := @extschema@.pg_answer_vector_column(relation, embedding);
    -- A key is an object, as rag_retrieve returns it, or the plain value of the only column.
    SELECT format('SELECT DISTINCT %s FROM jsonb_array_elements(<keys>) AS e',
            string_agg(format('(CASE jsonb_typeof(e) WHEN ''object'' THEN e ->> %L ELSE %s END)::%s AS k%s', a.attname,
                CASE cardinality(c.key) WHEN 1 THEN 'e #>> ''{}''' ELSE 'NULL' END,
                format_type(a.atttypid, a.atttypmod), u.i), ', ' ORDER BY u.i))
        INTO known
        FROM unnest(c.key) WITH ORDINALITY AS u(name, i)
        JOIN pg_attribute a ON a.attrelid = relation AND a.attname = u.name;
    -- Rocchio's rule: towards the mean of what is liked, away from that of what is not by half as much.
    EXECUTE format(
        'SELECT @extschema@.l2_normalize(l.mean) AS liked, @extschema@.l2_normalize(d.mean) AS disliked FROM'
        ' (SELECT @extschema@.avg(@extschema@.l2_normalize(t.%1$I::@extschema@.vector)) AS mean FROM %2$s AS t JOIN (%3$s) AS k ON %5$s) AS l,'
        ' (SELECT @extschema@.avg(@extschema@.l2_normalize(t.%1$I::@extschema@.vector)) AS mean FROM %2$s AS t JOIN (%4$s) AS k ON %5$s) AS d',
        c.embedding, relation, replace(known, '<keys>', '$1'), replace(known, '<keys>', '$2'),
        (SELECT string_agg(format('t.%I = k.k%s', name, i), ' AND ') FROM unnest(c.key) WITH ORDINALITY AS u(name, i)))
        INTO towards USING liked, disliked;
    IF towards.liked IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE format(
        'SELECT %1$s, 1 - (t.%2$I OPERATOR(@extschema@.<=>) $1::%3$s) FROM %4$s AS t'
        ' WHERE t.%2$I IS NOT NULL AND NOT EXISTS (SELECT FROM (%5$s) AS k WHERE %6$s)'
        ' ORDER BY t.%2$I OPERATOR(@extschema@.<=>) $1::%3$s LIMIT $3',
        c.key_json, c.embedding, c.type, relation, replace(known, '<keys>', '$2'),
        (SELECT string_agg(format('t.%I = k.k%s', name, i), ' AND ') FROM unnest(c.key) WITH ORDINALITY AS u(name, i)))
        USING CASE WHEN towards.disliked IS NULL THEN towards.liked
              ELSE towards.liked OPERATOR(@extschema@.+) towards.liked OPERATOR(@extschema@.-) towards.disliked END,
            liked || disliked, k;
END $$;
COMMENT ON FUNCTION recommend(regclass, jsonb, jsonb, integer, text) IS
    'the k rows nearest to those liked and away from those disliked, both given by their keys and not among the result';
