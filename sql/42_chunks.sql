-- The chunks of a source: their table, the queue of keys that wait, and the triggers that tell of changes.

-- The columns of a key: in the source and in its chunks, with type and equality. Everything is quoted for use in SQL.
-- A chunk's own columns keep their names, so a key column of the same name gets another. When the source's column gets a new
-- name later, that in the chunks stays: it is the one at the same place of their primary key.
CREATE FUNCTION pg_answer_key_columns(source regclass, key text[], chunks regclass DEFAULT NULL)
    RETURNS TABLE (place bigint, name text, chunk_name text, type text, equal text)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.place, quote_ident(k.name),
           quote_ident(coalesce((SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid
                                 WHERE i.indrelid = chunks AND i.indisprimary AND a.attnum = i.indkey[k.place - 1])::text,
                       CASE WHEN k.name IN ('ordinal', 'start_char', 'end_char', 'heading', 'chunk', 'tokens', 'embedding',
                                            'search', 'id_of_entry', 'queued_at', 'due', 'attempts', 'error')
                       THEN 'source_' || k.name ELSE k.name END)),
           format_type(a.atttypid, a.atttypmod),
           coalesce((SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname)
                     FROM pg_opclass c
                     JOIN pg_amop m ON m.amopfamily = c.opcfamily AND m.amopstrategy = 3
                         AND m.amoplefttype = c.opcintype AND m.amoprighttype = c.opcintype
                     JOIN pg_operator o ON o.oid = m.amopopr
                     JOIN pg_namespace n ON n.oid = o.oprnamespace
                     WHERE c.opcmethod = (SELECT oid FROM pg_am WHERE amname = 'btree') AND c.opcdefault
                       AND c.opcintype = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END),
                    'OPERATOR(pg_catalog.=)')
    FROM unnest(key) WITH ORDINALITY AS k(name, place)
    JOIN pg_attribute a ON a.attrelid = source AND a.attname = k.name AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = a.atttypid
    ORDER BY k.place
$$;
COMMENT ON FUNCTION pg_answer_key_columns(regclass, text[], regclass) IS 'the key columns of a source, as parts of SQL statements';

-- What src/source needs to know about a relation's sources.
CREATE FUNCTION pg_answer_source_plans(wanted regclass)
    RETURNS TABLE (building boolean, source text, chunks text, queue text, chunks_table oid, queue_table oid, columns text[], names text[], chunk_names text[], types text[],
                   equals text[], content text[], labels text[], model text, mode text, chunking text, chunk_tokens integer,
                   chunk_overlap integer, vectors oid, owner oid)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.building, s.relation::text, s.chunks::text, s.queue::text, s.chunks::oid, s.queue::oid, s.key, k.names, k.chunk_names, k.types, k.equals,
           (SELECT array_agg(quote_ident(c) ORDER BY i) FROM unnest(s.content) WITH ORDINALITY AS u(c, i)), s.content,
           s.model, s.mode, s.chunking, s.chunk_tokens, s.chunk_overlap, '@extschema@.vector[]'::regtype::oid, c.relowner
    FROM @extschema@.pg_answer_sources s
    JOIN pg_class c ON c.oid = s.relation
    CROSS JOIN LATERAL (SELECT array_agg(k.name ORDER BY place) AS names, array_agg(k.chunk_name ORDER BY place) AS chunk_names,
                               array_agg(k.type ORDER BY place) AS types, array_agg(k.equal ORDER BY place) AS equals
                        FROM @extschema@.pg_answer_key_columns(s.relation, s.key, s.chunks) AS k) AS k
    WHERE s.relation = wanted AND s.chunks IS NOT NULL
    ORDER BY s.building
$$;
COMMENT ON FUNCTION pg_answer_source_plans(regclass) IS 'how the chunks of a source are kept: those in use, then those being built';

-- The source that a table belongs to: itself, or what it is a partition or child of.
CREATE FUNCTION pg_answer_source_above(member regclass) RETURNS regclass LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE above AS (
        SELECT member::oid AS oid, 0 AS steps
        UNION
        SELECT i.inhparent, a.steps + 1 FROM above a JOIN pg_inherits i ON i.inhrelid = a.oid
    )
    SELECT s.relation FROM above a JOIN @extschema@.pg_answer_sources s ON s.relation = a.oid
        WHERE s.chunks IS NOT NULL ORDER BY a.steps LIMIT 1
$$;
COMMENT ON FUNCTION pg_answer_source_above(regclass) IS 'the source that holds the rows of a table';

CREATE FUNCTION pg_answer_capture() RETURNS trigger
    AS 'MODULE_PATHNAME', 'pg_answer_capture_wrapper' LANGUAGE C VOLATILE
    SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pg_answer_capture() IS 'trigger of sources: embeds the rows that a statement changed, or queues their keys';

-- Statements fire the triggers of the table that they name, so partitions and children have triggers of their own.
-- What logical replication applies fires row triggers only.
CREATE FUNCTION pg_answer_create_triggers(source regclass, replica boolean) RETURNS regclass[] LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    member regclass;
    members regclass[] := '{}';
    capture CONSTANT text := 'EXECUTE FUNCTION @extschema@.pg_answer_capture()';
BEGIN
    FOR member IN
        SELECT m FROM @extschema@.pg_answer_members(source) AS m
        WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = m AND t.tgfoid = '@extschema@.pg_answer_capture()'::regprocedure)
    LOOP
        EXECUTE format('CREATE TRIGGER pg_answer_insert AFTER INSERT ON %s REFERENCING NEW TABLE AS pg_answer_new '
                       'FOR EACH STATEMENT %s', member, capture);
        EXECUTE format('CREATE TRIGGER pg_answer_update AFTER UPDATE ON %s REFERENCING OLD TABLE AS pg_answer_old '
                       'NEW TABLE AS pg_answer_new FOR EACH STATEMENT %s', member, capture);
        EXECUTE format('CREATE TRIGGER pg_answer_delete AFTER DELETE ON %s REFERENCING OLD TABLE AS pg_answer_old '
                       'FOR EACH STATEMENT %s', member, capture);
        EXECUTE format('CREATE TRIGGER pg_answer_truncate AFTER TRUNCATE ON %s FOR EACH STATEMENT %s', member, capture);
        members := members || member;
    END LOOP;
    -- ALTER TABLE gives triggers to members that have none; so it comes when all have them.
    FOR member IN SELECT m FROM unnest(members) AS m JOIN pg_class c ON c.oid = m WHERE replica AND c.relkind = 'r' LOOP
        EXECUTE format('CREATE TRIGGER pg_answer_replica AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW %s',
                       member, capture);
        EXECUTE format('ALTER TABLE %s ENABLE REPLICA TRIGGER pg_answer_replica', member);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER pg_answer_truncate', member);
    END LOOP;
    RETURN members;
END $$;
COMMENT ON FUNCTION pg_answer_create_triggers(regclass, boolean) IS
    'puts the triggers of a source on those of its tables that have none, and returns these';

CREATE FUNCTION pg_answer_members(source regclass) RETURNS SETOF regclass LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE members AS (
        SELECT source::oid AS oid
        UNION
        SELECT i.inhrelid FROM members m JOIN pg_inherits i ON i.inhparent = m.oid
    )
    SELECT m.oid::regclass FROM members m JOIN pg_class c ON c.oid = m.oid WHERE c.relkind IN ('r', 'p')
$$;
COMMENT ON FUNCTION pg_answer_members(regclass) IS 'a table with its partitions and children';

CREATE FUNCTION pg_answer_drop_triggers(source regclass) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t record;
BEGIN
    FOR t IN
        SELECT g.tgname, g.tgrelid::regclass AS member FROM pg_trigger g
        WHERE g.tgfoid = '@extschema@.pg_answer_capture()'::regprocedure
          AND g.tgrelid IN (SELECT m FROM @extschema@.pg_answer_members(source) AS m)
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', t.tgname, t.member);
    END LOOP;
END $$;
COMMENT ON FUNCTION pg_answer_drop_triggers(regclass) IS 'takes the triggers of a source off its tables';

-- Who may read a chunk: who may read the columns it is made of, in a row that the source's own policies show. The policy
-- reads the source as the reader, and names these columns, so that their grants count.
CREATE FUNCTION pg_answer_protect_chunks(source regclass, chunks regclass, content text[], title text, key text[])
    RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    columns text;
    same_row text;
BEGIN
    SELECT string_agg(DISTINCT format('s.%I', c), ', ') INTO columns FROM unnest(content || key || title) AS c WHERE c IS NOT NULL;
    SELECT string_agg(format('s.%s %s %s.%s', k.name, k.equal, chunks, k.chunk_name), ' AND ') INTO same_row
        FROM @extschema@.pg_answer_key_columns(source, key, chunks) AS k;
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', chunks);
    IF EXISTS (SELECT FROM pg_policy WHERE polrelid = chunks AND polname = 'pg_answer_readable') THEN
        EXECUTE format('DROP POLICY pg_answer_readable ON %s', chunks);
    END IF;
    EXECUTE format('CREATE POLICY pg_answer_readable ON %s FOR SELECT USING (EXISTS (SELECT %s FROM %s AS s WHERE %s))',
                   chunks, columns, source, same_row);
    EXECUTE format('GRANT SELECT ON %s TO PUBLIC', chunks);
    IF (SELECT relforcerowsecurity FROM pg_class WHERE oid = source) THEN
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', chunks);
    ELSE
        EXECUTE format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY', chunks);
    END IF;
END $$;
COMMENT ON FUNCTION pg_answer_protect_chunks(regclass, regclass, text[], text, text[]) IS
    'lets the row-level security of chunks follow that of their source';

-- Makes the table of chunks, the queue and the triggers, and queues the rows that are there.
CREATE FUNCTION pg_answer_create_chunks(
    source regclass, building boolean, content text[], title text, key text[], model text, mode text, chunking text,
    chunk_tokens integer, chunk_overlap integer, chunks text, text_search regconfig, replica boolean)
    RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    dims CONSTANT integer := @extschema@.pg_answer_model_dims(model);
    tokens CONSTANT integer := coalesce(chunk_tokens, (SELECT m.context_length FROM @extschema@.pg_answer_models m WHERE m.name = model));
    r record;
    bad text;
    chunk_name text;
    queue_name text;
    key_columns text;
    wanted_columns text;
    rows_queued bigint;
BEGIN
    SELECT c.*, n.nspname, c.relowner::regrole::text AS owner INTO r
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = source;
    IF NOT pg_has_role(r.relowner, 'USAGE') THEN
        RAISE EXCEPTION 'must be owner of relation %', source USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF r.relkind NOT IN ('r', 'p') OR r.relpersistence = 't' THEN
        RAISE EXCEPTION 'relation % is not a permanent table', source USING ERRCODE = 'wrong_object_type',
            HINT = 'A view or foreign table can be a source with a vector column of its own: pass embedding => ''column''.';
    END IF;
    IF dims IS NULL THEN
        RAISE EXCEPTION 'model "%" makes no vectors', model USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- A value that is not allowed is told of by the table's constraints; limits that make no sense by chunk().
    PERFORM @extschema@.chunk('', chunking, tokens, chunk_overlap, model);
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'a source cannot be created in a % transaction', current_setting('transaction_isolation')
            USING ERRCODE = 'object_not_in_prerequisite_state',
            DETAIL = 'It would not see rows that were committed after the transaction began.';
    END IF;
    SELECT a.attname INTO bad FROM pg_attribute a
        WHERE a.attrelid = source AND a.attname = ANY (key) AND NOT a.attnotnull LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'key column "%" of relation % can be NULL', bad, source USING ERRCODE = 'invalid_table_definition';
    END IF;
    -- Queues hold arrays of keys, and there are no arrays of arrays.
    SELECT a.attname INTO bad FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = source AND a.attname = ANY (key) AND t.typcategory = 'A' LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'key column "%" of relation % is an array', bad, source USING ERRCODE = 'feature_not_supported',
            HINT = 'Give the table another unique column, and pass it as key => ARRAY[...].';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = source AND i.indisunique AND i.indimmediate AND i.indisvalid
                   AND i.indpred IS NULL AND i.indexprs IS NULL
                   AND (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS u(n, place)
                        JOIN pg_attribute a ON a.attrelid = source AND a.attnum = u.n WHERE u.place <= i.indnkeyatts)
                       = (SELECT array_agg(k ORDER BY k COLLATE "C") FROM unnest(key) AS k)) THEN
        RAISE EXCEPTION 'no unique index tells the rows of relation % apart by (%)', source, array_to_string(key, ', ')
            USING ERRCODE = 'invalid_table_definition';
    END IF;

    chunk_name := coalesce(chunks, left(r.relname, 50) || '_chunks') || CASE WHEN building THEN '_new' ELSE '' END;
    queue_name := left(chunk_name, 57) || '_queue';
    SELECT string_agg(format('%s %s NOT NULL', k.chunk_name, k.type), ', ' ORDER BY k.place) INTO key_columns
        FROM @extschema@.pg_answer_key_columns(source, key) AS k;
    -- Writers wait until the rows that are there are queued, so that none is missed between.
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', source);
    IF to_regclass(format('%I.%I', r.nspname, chunk_name)) IS NULL THEN
        EXECUTE format(
            'CREATE TABLE %1$I.%2$I (%3$s, ordinal integer NOT NULL, start_char integer NOT NULL, end_char integer NOT NULL, '
            'heading text, chunk text NOT NULL, tokens integer NOT NULL, embedding @extschema@.vector(%4$s) NOT NULL, '
            'search tsvector GENERATED ALWAYS AS (@extschema@.pg_answer_search_vector(%5$L::regconfig, ARRAY[heading, chunk])) STORED, '
            'PRIMARY KEY (%6$s, ordinal))',
            r.nspname, chunk_name, key_columns, dims, text_search,
            (SELECT string_agg(k.chunk_name, ', ' ORDER BY k.place) FROM @extschema@.pg_answer_key_columns(source, key) AS k));
        EXECUTE format('CREATE INDEX ON %I.%I USING gin (search)', r.nspname, chunk_name);
        IF EXISTS (SELECT FROM pg_am WHERE amname = 'ann') THEN
            EXECUTE format('CREATE INDEX ON %I.%I USING ann (embedding @extschema@.vector_cosine_ops)', r.nspname, chunk_name);
        END IF;
    ELSE
        -- Left by drop_source(keep_chunks => true), or restored without the data that told of the source.
        PERFORM @extschema@.pg_answer_adopt_chunks(source, format('%I.%I', r.nspname, chunk_name)::regclass, key, dims);
        IF to_regclass(format('%I.%I', r.nspname, queue_name)) IS NOT NULL THEN
            EXECUTE format('DROP TABLE %I.%I', r.nspname, queue_name);
        END IF;
    END IF;
    EXECUTE format(
        'CREATE TABLE %I.%I (id_of_entry bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, %s, '
        'queued_at timestamptz NOT NULL DEFAULT clock_timestamp(), due timestamptz NOT NULL DEFAULT ''-infinity'', '
        'attempts integer NOT NULL DEFAULT 0, error text)',
        r.nspname, queue_name,
        (SELECT string_agg(format('%s %s[] NOT NULL', k.chunk_name, k.type), ', ' ORDER BY k.place)
         FROM @extschema@.pg_answer_key_columns(source, key) AS k));
    IF r.relowner <> (SELECT oid FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('ALTER TABLE %I.%I OWNER TO %s', r.nspname, chunk_name, r.owner);
        EXECUTE format('ALTER TABLE %I.%I OWNER TO %s', r.nspname, queue_name, r.owner);
    END IF;
    EXECUTE format('COMMENT ON TABLE %I.%I IS %L', r.nspname, chunk_name, format('chunks of %s, kept by pg_answer', source));
    EXECUTE format('COMMENT ON TABLE %I.%I IS %L', r.nspname, queue_name,
                   format('keys of %s whose chunks are to be made anew, kept by pg_answer', source));
    PERFORM @extschema@.pg_answer_protect_chunks(source, format('%I.%I', r.nspname, chunk_name)::regclass, content, title, key);

    INSERT INTO @extschema@.pg_answer_sources
        (relation, building, content, title, key, model, chunks, queue, mode, chunking, chunk_tokens, chunk_overlap, text_search, replica)
        VALUES (source, building, content, title, key, model, format('%I.%I', r.nspname, chunk_name)::regclass,
                format('%I.%I', r.nspname, queue_name)::regclass, mode, chunking, tokens, chunk_overlap, text_search, replica);
    IF NOT building THEN
        PERFORM @extschema@.pg_answer_drop_triggers(source);
        PERFORM @extschema@.pg_answer_create_triggers(source, replica);
    END IF;
    rows_queued := @extschema@.pg_answer_queue_all(source, building);
END $$;
COMMENT ON FUNCTION pg_answer_create_chunks(regclass, boolean, text[], text, text[], text, text, text, integer, integer, text,
                                            regconfig, boolean) IS 'makes what keeps the chunks of a source';

CREATE FUNCTION pg_answer_adopt_chunks(source regclass, chunks regclass, key text[], dims integer) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    same_row text;
BEGIN
    IF EXISTS (SELECT FROM @extschema@.pg_answer_sources s WHERE s.chunks = pg_answer_adopt_chunks.chunks)
       OR (SELECT array_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum) FROM pg_attribute a
           WHERE a.attrelid = chunks AND a.attnum > 0 AND NOT a.attisdropped)
          IS DISTINCT FROM
          (SELECT array_agg((parse_ident(k.chunk_name))[1] || ' ' || k.type ORDER BY k.place)
           FROM @extschema@.pg_answer_key_columns(source, key) AS k)
          || ARRAY['ordinal integer', 'start_char integer', 'end_char integer', 'heading text', 'chunk text', 'tokens integer',
                   'embedding ' || format_type('@extschema@.vector'::regtype, dims), 'search tsvector'] THEN
        RAISE EXCEPTION 'relation % exists and does not hold chunks of %', chunks, source USING ERRCODE = 'duplicate_table',
            HINT = 'Name another table: create_source(..., chunks => ''name'').';
    END IF;
    SELECT string_agg(format('s.%s %s c.%s', k.name, k.equal, k.chunk_name), ' AND ') INTO same_row
        FROM @extschema@.pg_answer_key_columns(source, key) AS k;
    EXECUTE format('DELETE FROM %s AS c WHERE NOT EXISTS (SELECT FROM %s AS s WHERE %s)', chunks, source, same_row);
END $$;
COMMENT ON FUNCTION pg_answer_adopt_chunks(regclass, regclass, text[], integer) IS
    'checks that a table can hold the chunks of a source, and removes those of rows that are gone';

CREATE FUNCTION pg_answer_wake_worker() RETURNS void
    AS 'MODULE_PATHNAME', 'pg_answer_wake_worker_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pg_answer_wake_worker() IS 'starts the background worker of this database when the transaction commits';

-- Queues the keys that a query gives, one a row. Entries hold many keys: a queue costs its writers by the entry.
CREATE FUNCTION pg_answer_queue_keys(s pg_answer_sources, keys text) RETURNS bigint LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rows_queued bigint;
    names text[];
BEGIN
    SELECT array_agg(k.chunk_name ORDER BY place) INTO names
        FROM @extschema@.pg_answer_key_columns(s.relation, s.key, s.chunks) AS k;
    EXECUTE format('WITH made AS (INSERT INTO %1$s (%2$s) SELECT %3$s FROM (SELECT k.*, (row_number() OVER () - 1) / 128 FROM (%4$s) AS k) '
                   'AS r (%2$s, part) GROUP BY part ORDER BY part RETURNING cardinality(%5$s) AS n) SELECT coalesce(sum(n), 0) FROM made',
                   s.queue, array_to_string(names, ', '),
                   (SELECT string_agg(format('array_agg(%s)', n), ', ' ORDER BY place) FROM unnest(names) WITH ORDINALITY AS u(n, place)),
                   keys, names[1])
        INTO rows_queued;
    PERFORM @extschema@.pg_answer_wake_worker();
    RETURN rows_queued;
END $$;
COMMENT ON FUNCTION pg_answer_queue_keys(pg_answer_sources, text) IS 'queues the keys that a query gives';

CREATE FUNCTION pg_answer_queue_all(source regclass, building boolean) RETURNS bigint LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    s @extschema@.pg_answer_sources;
    rows_queued bigint;
BEGIN
    SELECT * INTO STRICT s FROM @extschema@.pg_answer_sources t WHERE t.relation = source AND t.building = building;
    rows_queued := @extschema@.pg_answer_queue_keys(s, @extschema@.pg_answer_keys_of(s, source::text));
    UPDATE @extschema@.pg_answer_sources t SET backfill = rows_queued, began = clock_timestamp()
        WHERE t.relation = source AND t.building = building;
    RETURN rows_queued;
END $$;
COMMENT ON FUNCTION pg_answer_queue_all(regclass, boolean) IS 'queues all rows of a source, to embed them anew';

CREATE FUNCTION pg_answer_keys_of(s pg_answer_sources, rows_of text) RETURNS text LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('SELECT %s FROM %s', string_agg(quote_ident(k), ', ' ORDER BY place), rows_of)
        FROM unnest(s.key) WITH ORDINALITY AS u(k, place)
$$;
COMMENT ON FUNCTION pg_answer_keys_of(pg_answer_sources, text) IS 'the query for the keys of the rows in a table of a source';

-- A table that joins a source brings rows without chunks, one that leaves it leaves chunks without rows: both are queued.
-- As the owner of the source, since what his tables make run must not have the rights of whoever changes them.
CREATE FUNCTION pg_answer_queue_members(source regclass, joined regclass[]) RETURNS void
    AS 'MODULE_PATHNAME', 'pg_answer_queue_members_wrapper' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION pg_answer_queue_members(regclass, regclass[]) IS
    'queues the rows of tables that have joined a source, or without any the chunks of rows that are gone';

-- Called by pg_answer_queue_members as the owner of the source.
CREATE FUNCTION pg_answer_queue_members_now(source regclass, joined regclass[]) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    s @extschema@.pg_answer_sources;
    member regclass;
    names text;
    same_row text;
BEGIN
    FOR s IN SELECT * FROM @extschema@.pg_answer_sources t WHERE t.relation = source AND t.chunks IS NOT NULL LOOP
        FOREACH member IN ARRAY joined LOOP
            -- Through the source its owner reads a part of another owner, too, but with it all others.
            PERFORM @extschema@.pg_answer_queue_keys(s, @extschema@.pg_answer_keys_of(s,
                CASE WHEN has_table_privilege(member, 'SELECT') THEN 'ONLY ' || member ELSE source::text END));
        END LOOP;
        IF joined = '{}' THEN
            SELECT string_agg(format('c.%s', k.chunk_name), ', ' ORDER BY place),
                   string_agg(format('s.%s %s c.%s', k.name, k.equal, k.chunk_name), ' AND ')
                INTO names, same_row FROM @extschema@.pg_answer_key_columns(source, s.key, s.chunks) AS k;
            PERFORM @extschema@.pg_answer_queue_keys(s, format(
                'SELECT DISTINCT %s FROM %s AS c WHERE NOT EXISTS (SELECT FROM %s AS s WHERE %s)', names, s.chunks, source, same_row));
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION pg_answer_queue_members_now(regclass, regclass[]) IS
    'queues the rows of tables that have joined a source, or the chunks of rows that are gone';
