-- Sources: tables whose rows rag_retrieve and rag_answer search, and what keeps them embedded.

CREATE FUNCTION embed_trigger() RETURNS trigger
    AS 'MODULE_PATHNAME', 'embed_trigger_wrapper' LANGUAGE C VOLATILE COST 100000;
COMMENT ON FUNCTION embed_trigger() IS
    'BEFORE ROW trigger: embed_trigger(text column, ..., vector column [, model]) keeps the vector that of the text';

CREATE TABLE pg_answer_sources (
    relation regclass NOT NULL,
    -- The row that alter_source adds while it builds new chunks beside the ones in use.
    building boolean NOT NULL DEFAULT false,
    content text[] NOT NULL,
    embedding text,
    title text,
    key text[] NOT NULL,
    -- Numbers of content, key and title columns, in this order: a column keeps its number when it is renamed.
    columns smallint[] NOT NULL,
    model text NOT NULL,
    -- Sources without a vector column of their own: their chunks, and the keys that wait to be embedded.
    chunks regclass,
    queue regclass,
    mode text CHECK (mode IN ('immediate', 'queued', 'manual')),
    chunking text CHECK (chunking IN ('none', 'sentence', 'recursive', 'markdown', 'html')),
    chunk_tokens integer,
    chunk_overlap integer NOT NULL DEFAULT 0,
    -- The name of a configuration as text: pg_upgrade refuses tables with columns of type regconfig.
    text_search text,
    replica boolean NOT NULL DEFAULT false,
    -- Rows to embed when the chunks were created, and since when.
    backfill bigint NOT NULL DEFAULT 0,
    began timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (relation, building),
    CHECK (CASE WHEN embedding IS NULL
        THEN num_nulls(chunks, queue, mode, chunking, chunk_tokens, text_search) = 0
        ELSE num_nonnulls(chunks, queue, mode, chunking, chunk_tokens, text_search) = 0 AND NOT building END)
);
COMMENT ON TABLE pg_answer_sources IS
    'tables that rag_retrieve and rag_answer search; written by create_source, alter_source and drop_source';
SELECT pg_catalog.pg_extension_config_dump('pg_answer_sources', '');

CREATE FUNCTION pg_answer_depend(dependent regclass, source regclass) RETURNS void
    AS 'MODULE_PATHNAME', 'pg_answer_depend_wrapper' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pg_answer_depend(regclass, regclass) IS
    'lets a table be dropped together with another one of the same owner, and with the extension';

CREATE FUNCTION pg_answer_declaration_changed(source regclass) RETURNS void
    AS 'MODULE_PATHNAME', 'pg_answer_declaration_changed_wrapper' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pg_answer_declaration_changed(regclass) IS
    'lets sessions that write a source learn anew how it is declared';

-- Everybody may declare sources, so the table is open; this trigger lets each change those of their own tables.
-- A dump knows nothing of dependencies between tables and of the numbers of columns, so they are found anew when it is
-- restored.
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
    PERFORM @extschema@.pg_answer_declaration_changed(c) FROM unnest(changed) AS c;
    IF TG_OP <> 'DELETE' THEN
        SELECT coalesce(array_agg(a.attnum ORDER BY u.place), '{}') INTO NEW.columns
            FROM unnest(NEW.content || NEW.key || NEW.title) WITH ORDINALITY AS u(name, place)
            JOIN pg_attribute a ON a.attrelid = NEW.relation AND a.attname = u.name AND NOT a.attisdropped;
    END IF;
    IF TG_OP = 'INSERT' AND NEW.chunks IS NOT NULL THEN
        PERFORM @extschema@.pg_answer_depend(NEW.chunks, NEW.relation);
        PERFORM @extschema@.pg_answer_depend(NEW.queue, NEW.relation);
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
COMMENT ON FUNCTION pg_answer_guard_sources() IS 'lets users change the sources of their own tables only';
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON pg_answer_sources
    FOR EACH ROW EXECUTE FUNCTION pg_answer_guard_sources();
GRANT SELECT, INSERT, UPDATE, DELETE ON pg_answer_sources TO PUBLIC;

-- A table that is dropped, or whose chunks are, is no source any more. The owner cannot be asked after the fact, hence
-- SECURITY DEFINER; it runs one fixed statement.
CREATE FUNCTION pg_answer_forget_dropped() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM @extschema@.pg_answer_sources s
        USING pg_event_trigger_dropped_objects() d
        WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 AND d.objid IN (s.relation, s.chunks, s.queue);
END $$;
COMMENT ON FUNCTION pg_answer_forget_dropped() IS 'removes dropped tables from pg_answer_sources';
CREATE EVENT TRIGGER pg_answer_forget_dropped ON sql_drop
    EXECUTE FUNCTION pg_answer_forget_dropped();

CREATE FUNCTION pg_answer_primary_key(relation regclass) RETURNS text[] LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(a.attname::text ORDER BY k.position)
        FROM pg_index i
        CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS k(attnum, position)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
        WHERE i.indrelid = $1 AND i.indisprimary AND k.position <= i.indnkeyatts
$$;
COMMENT ON FUNCTION pg_answer_primary_key(regclass) IS 'the columns of a primary key; NULL without one';

-- What is wrong with a source, as an ERROR; otherwise the columns of its key.
CREATE FUNCTION pg_answer_check_source(source regclass, content text[], title text, key text[])
    RETURNS text[] LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    missing text;
BEGIN
    IF source IS NULL OR content IS NULL THEN
        RAISE EXCEPTION 'relation and content must not be NULL' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF array_ndims(content) IS DISTINCT FROM 1 OR array_position(content, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'content must name at least one column' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF key IS NULL THEN
        key := @extschema@.pg_answer_primary_key(source);
    END IF;
    IF coalesce(cardinality(key), 0) = 0 THEN
        RAISE EXCEPTION 'relation % has no primary key', source USING ERRCODE = 'invalid_table_definition',
            HINT = 'Pass key => ARRAY[...] with the columns that tell its rows apart.';
    END IF;
    SELECT c INTO missing FROM unnest(content || key || title) AS c
        WHERE c IS NOT NULL AND NOT EXISTS (SELECT FROM pg_attribute a
            WHERE a.attrelid = source AND a.attname = c AND a.attnum > 0 AND NOT a.attisdropped) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'column "%" of relation % does not exist', missing, source USING ERRCODE = 'undefined_column';
    END IF;
    RETURN key;
END $$;
COMMENT ON FUNCTION pg_answer_check_source(regclass, text[], text, text[]) IS
    'the key columns of a source, or what is wrong with its columns';

-- Dimensions of a model's vectors; tells what is wrong with a model that cannot be used.
CREATE FUNCTION pg_answer_model_dims(model text) RETURNS integer LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    dims integer;
BEGIN
    PERFORM @extschema@.count_tokens('', model);
    SELECT m.dims INTO dims FROM @extschema@.pg_answer_models m WHERE m.name = model;
    RETURN dims;
END $$;
COMMENT ON FUNCTION pg_answer_model_dims(text) IS 'elements of the vectors of an embedding model; NULL for another kind';

CREATE FUNCTION create_source(
    relation regclass,
    content text[],
    embedding text DEFAULT NULL,
    title text DEFAULT NULL,
    key text[] DEFAULT NULL,
    model text DEFAULT NULL,
    mode text DEFAULT 'queued',
    chunking text DEFAULT 'recursive',
    chunk_tokens integer DEFAULT NULL,
    chunk_overlap integer DEFAULT 0,
    chunks text DEFAULT NULL,
    text_search regconfig DEFAULT NULL,
    replica boolean DEFAULT false,
    if_not_exists boolean DEFAULT false)
    RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    source CONSTANT regclass := create_source.relation;
    model CONSTANT text := coalesce(create_source.model, @extschema@.embedding_model());
    dims integer;
    vector_type oid;
    vector_dims integer;
BEGIN
    key := @extschema@.pg_answer_check_source(source, create_source.content, create_source.title, create_source.key);
    IF EXISTS (SELECT FROM @extschema@.pg_answer_sources s WHERE s.relation = source) THEN
        IF if_not_exists THEN
            RAISE NOTICE 'relation % is a source already, skipping', source;
            RETURN;
        END IF;
        RAISE EXCEPTION 'relation % is a source already', source USING ERRCODE = 'duplicate_object',
            HINT = 'Call drop_source or alter_source, or pass if_not_exists => true.';
    END IF;
    IF create_source.embedding IS NULL THEN
        PERFORM @extschema@.pg_answer_create_chunks(source, false, create_source.content, create_source.title, key, model,
            create_source.mode, create_source.chunking, create_source.chunk_tokens, create_source.chunk_overlap,
            create_source.chunks, create_source.text_search, create_source.replica);
        RETURN;
    END IF;

    SELECT a.atttypid, a.atttypmod INTO vector_type, vector_dims
        FROM pg_attribute a
        WHERE a.attrelid = source AND a.attname = create_source.embedding AND a.attnum > 0 AND NOT a.attisdropped;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'column "%" of relation % does not exist', create_source.embedding, source
            USING ERRCODE = 'undefined_column';
    END IF;
    IF vector_type NOT IN ('@extschema@.vector'::regtype, '@extschema@.halfvec'::regtype) THEN
        RAISE EXCEPTION 'column "%" is of type %, not vector or halfvec', create_source.embedding, format_type(vector_type, NULL)
            USING ERRCODE = 'datatype_mismatch';
    END IF;
    dims := @extschema@.pg_answer_model_dims(model);
    IF vector_dims > 0 AND vector_dims IS DISTINCT FROM dims THEN
        RAISE EXCEPTION 'column "%" has % dimensions, but model "%" makes %',
                create_source.embedding, vector_dims, model, coalesce(dims::text, 'no vectors')
            USING ERRCODE = 'datatype_mismatch';
    END IF;
    INSERT INTO @extschema@.pg_answer_sources (relation, content, embedding, title, key, model)
        VALUES (source, create_source.content, create_source.embedding, create_source.title, key, model);
END $$;
COMMENT ON FUNCTION create_source(regclass, text[], text, text, text[], text, text, text, integer, integer, text, regconfig,
                                  boolean, boolean) IS
    'declares that rag_retrieve and rag_answer search a table, by its own vector column or by chunks that are kept for it';

CREATE FUNCTION create_source(
    relation regclass,
    content text,
    embedding text DEFAULT NULL,
    title text DEFAULT NULL,
    key text[] DEFAULT NULL,
    model text DEFAULT NULL,
    mode text DEFAULT 'queued',
    chunking text DEFAULT 'recursive',
    chunk_tokens integer DEFAULT NULL,
    chunk_overlap integer DEFAULT 0,
    chunks text DEFAULT NULL,
    text_search regconfig DEFAULT NULL,
    replica boolean DEFAULT false,
    if_not_exists boolean DEFAULT false)
    RETURNS void LANGUAGE sql AS $$
    SELECT @extschema@.create_source(relation, ARRAY[content], embedding, title, key, model, mode, chunking, chunk_tokens,
                                     chunk_overlap, chunks, text_search, replica, if_not_exists)
$$;
COMMENT ON FUNCTION create_source(regclass, text, text, text, text[], text, text, text, integer, integer, text, regconfig,
                                  boolean, boolean) IS
    'declares that rag_retrieve and rag_answer search a table with one column of text';

CREATE FUNCTION drop_source(relation regclass, keep_chunks boolean DEFAULT false, if_exists boolean DEFAULT false)
    RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s @extschema@.pg_answer_sources;
    found_any boolean := false;
BEGIN
    FOR s IN SELECT * FROM @extschema@.pg_answer_sources s WHERE s.relation = drop_source.relation ORDER BY s.building LOOP
        found_any := true;
        DELETE FROM @extschema@.pg_answer_sources d WHERE d.relation = s.relation AND d.building = s.building;
        IF s.chunks IS NOT NULL THEN
            PERFORM @extschema@.pg_answer_drop_triggers(s.relation);
            EXECUTE format('DROP TABLE %s', s.queue);
            IF s.building OR NOT keep_chunks THEN
                EXECUTE format('DROP TABLE %s', s.chunks);
            END IF;
        END IF;
    END LOOP;
    IF found_any THEN
        RETURN;
    END IF;
    IF NOT if_exists THEN
        RAISE EXCEPTION 'relation % is not a source', drop_source.relation USING ERRCODE = 'undefined_object';
    END IF;
    RAISE NOTICE 'relation % is not a source, skipping', drop_source.relation;
END $$;
COMMENT ON FUNCTION drop_source(regclass, boolean, boolean) IS
    'undoes create_source; the table itself stays as it is, its chunks only with keep_chunks';
