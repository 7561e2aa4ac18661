-- Sources: tables whose rows rag_retrieve and rag_answer search.

CREATE FUNCTION embed_trigger() RETURNS trigger
    AS 'MODULE_PATHNAME', 'embed_trigger_wrapper' LANGUAGE C VOLATILE COST 100000;
COMMENT ON FUNCTION embed_trigger() IS
    'BEFORE ROW trigger: embed_trigger(text column, ..., vector column [, model]) keeps the vector that of the text';

CREATE TABLE pg_answer_sources (
    relation regclass PRIMARY KEY,
    content text[] NOT NULL,
    embedding text NOT NULL,
    title text,
    key text[] NOT NULL,
    model text NOT NULL
);
COMMENT ON TABLE pg_answer_sources IS 'tables that rag_retrieve and rag_answer search; written by create_source and drop_source';
SELECT pg_catalog.pg_extension_config_dump('pg_answer_sources', '');

-- Everybody may declare sources, so the table is open; this trigger lets each change those of their own tables.
CREATE FUNCTION pg_answer_guard_sources() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed oid[] := CASE TG_OP
        WHEN 'INSERT' THEN ARRAY[NEW.relation::oid]
        WHEN 'DELETE' THEN ARRAY[OLD.relation::oid]
        ELSE ARRAY[OLD.relation::oid, NEW.relation::oid] END;
    foreign_relation regclass;
BEGIN
    SELECT c.oid INTO foreign_relation FROM pg_class c
        WHERE c.oid = ANY (changed) AND NOT pg_has_role(c.relowner, 'USAGE') LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'must be owner of relation %', foreign_relation USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
COMMENT ON FUNCTION pg_answer_guard_sources() IS 'lets users change the sources of their own tables only';
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON pg_answer_sources
    FOR EACH ROW EXECUTE FUNCTION pg_answer_guard_sources();
GRANT SELECT, INSERT, UPDATE, DELETE ON pg_answer_sources TO PUBLIC;

-- A dropped table is no source any more.
CREATE FUNCTION pg_answer_forget_dropped() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM @extschema@.pg_answer_sources s
        USING pg_event_trigger_dropped_objects() d
        WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 AND d.objid = s.relation;
END $$;
COMMENT ON FUNCTION pg_answer_forget_dropped() IS 'removes dropped tables from pg_answer_sources';
CREATE EVENT TRIGGER pg_answer_forget_dropped ON sql_drop
    EXECUTE FUNCTION pg_answer_forget_dropped();

CREATE FUNCTION create_source(
    relation regclass,
    content text[],
    embedding text,
    title text DEFAULT NULL,
    key text[] DEFAULT NULL,
    model text DEFAULT NULL,
    if_not_exists boolean DEFAULT false)
    RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    source CONSTANT regclass := create_source.relation;
    model CONSTANT text := coalesce(create_source.model, @extschema@.embedding_model());
    key text[] := create_source.key;
    missing text;
    vector_type oid;
    vector_dims integer;
    model_dims integer;
BEGIN
    IF source IS NULL OR create_source.content IS NULL OR create_source.embedding IS NULL THEN
        RAISE EXCEPTION 'relation, content and embedding must not be NULL' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF array_ndims(create_source.content) IS DISTINCT FROM 1 OR array_position(create_source.content, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'content must name at least one column' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF EXISTS (SELECT FROM @extschema@.pg_answer_sources s WHERE s.relation = source) THEN
        IF if_not_exists THEN
            RAISE NOTICE 'relation % is a source already, skipping', source;
            RETURN;
        END IF;
        RAISE EXCEPTION 'relation % is a source already', source USING ERRCODE = 'duplicate_object',
            HINT = 'Call drop_source first, or pass if_not_exists => true.';
    END IF;

    IF key IS NULL THEN
        SELECT array_agg(a.attname::text ORDER BY k.position) INTO key
            FROM pg_index i
            CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS k(attnum, position)
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
            WHERE i.indrelid = source AND i.indisprimary AND k.position <= i.indnkeyatts;
    END IF;
    IF coalesce(cardinality(key), 0) = 0 THEN
        RAISE EXCEPTION 'relation % has no primary key', source USING ERRCODE = 'invalid_table_definition',
            HINT = 'Pass key => ARRAY[...] with the columns that tell its rows apart.';
    END IF;

    SELECT c INTO missing FROM unnest(create_source.content || key || create_source.embedding || create_source.title) AS c
        WHERE c IS NOT NULL AND NOT EXISTS (SELECT FROM pg_attribute a
            WHERE a.attrelid = source AND a.attname = c AND a.attnum > 0 AND NOT a.attisdropped) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'column "%" of relation % does not exist', missing, source USING ERRCODE = 'undefined_column';
    END IF;

    SELECT a.atttypid, a.atttypmod INTO vector_type, vector_dims
        FROM pg_attribute a WHERE a.attrelid = source AND a.attname = create_source.embedding;
    IF vector_type NOT IN ('@extschema@.vector'::regtype, '@extschema@.halfvec'::regtype) THEN
        RAISE EXCEPTION 'column "%" is of type %, not vector or halfvec', create_source.embedding, format_type(vector_type, NULL)
            USING ERRCODE = 'datatype_mismatch';
    END IF;

    -- Tells what is wrong with a model that cannot be used.
    PERFORM @extschema@.count_tokens('', model);
    SELECT m.dims INTO model_dims FROM @extschema@.pg_answer_models m WHERE m.name = model;
    IF vector_dims > 0 AND vector_dims IS DISTINCT FROM model_dims THEN
        RAISE EXCEPTION 'column "%" has % dimensions, but model "%" makes %',
                create_source.embedding, vector_dims, model, coalesce(model_dims::text, 'no vectors')
            USING ERRCODE = 'datatype_mismatch';
    END IF;

    INSERT INTO @extschema@.pg_answer_sources (relation, content, embedding, title, key, model)
        VALUES (source, create_source.content, create_source.embedding, create_source.title, key, model);
END $$;
COMMENT ON FUNCTION create_source(regclass, text[], text, text, text[], text, boolean) IS
    'declares that rag_retrieve and rag_answer search a table: columns of its text, vector and title';

CREATE FUNCTION create_source(
    relation regclass,
    content text,
    embedding text,
    title text DEFAULT NULL,
    key text[] DEFAULT NULL,
    model text DEFAULT NULL,
    if_not_exists boolean DEFAULT false)
    RETURNS void LANGUAGE sql AS $$
    SELECT @extschema@.create_source(relation, ARRAY[content], embedding, title, key, model, if_not_exists)
$$;
COMMENT ON FUNCTION create_source(regclass, text, text, text, text[], text, boolean) IS
    'declares that rag_retrieve and rag_answer search a table with one column of text';

CREATE FUNCTION drop_source(relation regclass, if_exists boolean DEFAULT false)
    RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM @extschema@.pg_answer_sources s WHERE s.relation = drop_source.relation;
    IF FOUND THEN
        RETURN;
    END IF;
    IF NOT if_exists THEN
        RAISE EXCEPTION 'relation % is not a source', drop_source.relation USING ERRCODE = 'undefined_object';
    END IF;
    RAISE NOTICE 'relation % is not a source, skipping', drop_source.relation;
END $$;
COMMENT ON FUNCTION drop_source(regclass, boolean) IS 'undoes create_source; the table itself stays as it is';
