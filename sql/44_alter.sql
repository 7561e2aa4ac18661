-- A source with other settings: new chunks are made beside the old ones, which answer until the new ones are whole.

CREATE FUNCTION alter_source(
    relation regclass,
    content text[] DEFAULT NULL,
    title text DEFAULT NULL,
    model text DEFAULT NULL,
    mode text DEFAULT NULL,
    chunking text DEFAULT NULL,
    chunk_tokens integer DEFAULT NULL,
    chunk_overlap integer DEFAULT NULL,
    text_search regconfig DEFAULT NULL,
    replica boolean DEFAULT NULL)
    RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    source CONSTANT regclass := alter_source.relation;
    s @extschema@.pg_answer_sources;
    changed @extschema@.pg_answer_sources;
    unfinished regclass;
BEGIN
    SELECT * INTO s FROM @extschema@.pg_answer_sources t
        WHERE t.relation = source AND NOT t.building AND t.chunks IS NOT NULL FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'relation % is not a source with chunks', source USING ERRCODE = 'undefined_object';
    END IF;
    changed := s;
    changed.content := coalesce(alter_source.content, s.content);
    changed.title := coalesce(alter_source.title, s.title);
    changed.model := coalesce(alter_source.model, s.model);
    changed.mode := coalesce(alter_source.mode, s.mode);
    changed.chunking := coalesce(alter_source.chunking, s.chunking);
    -- Another model has another window.
    changed.chunk_tokens := coalesce(alter_source.chunk_tokens, CASE WHEN changed.model = s.model THEN s.chunk_tokens END);
    changed.chunk_overlap := coalesce(alter_source.chunk_overlap, s.chunk_overlap);
    changed.text_search := coalesce(alter_source.text_search::text, s.text_search);
    changed.replica := coalesce(alter_source.replica, s.replica);
    PERFORM @extschema@.pg_answer_check_source(source, changed.content, changed.title, s.key);

    IF changed.replica <> s.replica THEN
        PERFORM @extschema@.pg_answer_drop_triggers(source);
        PERFORM @extschema@.pg_answer_create_triggers(source, changed.replica);
    END IF;
    UPDATE @extschema@.pg_answer_sources t
        SET mode = changed.mode, replica = changed.replica, title = changed.title
        WHERE t.relation = source;
    IF changed.title IS DISTINCT FROM s.title THEN
        PERFORM @extschema@.pg_answer_protect_chunks(source, s.chunks, s.content, changed.title, s.key);
    END IF;
    IF (changed.content, changed.model, changed.chunking, changed.chunk_tokens, changed.chunk_overlap, changed.text_search)
       IS NOT DISTINCT FROM (s.content, s.model, s.chunking, s.chunk_tokens, s.chunk_overlap, s.text_search) THEN
        RETURN;
    END IF;
    -- What an earlier change has not finished is of no use any more.
    DELETE FROM @extschema@.pg_answer_sources t WHERE t.relation = source AND t.building RETURNING t.chunks INTO unfinished;
    IF FOUND THEN
        PERFORM @extschema@.pg_answer_drop_chunks(unfinished);
    END IF;
    PERFORM @extschema@.pg_answer_create_chunks(source, true, changed.content, changed.title, s.key, changed.model, changed.mode,
        changed.chunking, changed.chunk_tokens, changed.chunk_overlap,
        (SELECT relname::text FROM pg_class WHERE oid = s.chunks), changed.text_search::regconfig, changed.replica);
END $$;
COMMENT ON FUNCTION alter_source(regclass, text[], text, text, text, text, integer, integer, regconfig, boolean) IS
    'changes what is named; chunks that must be made anew are made beside the old ones, which answer until then';

-- Table of chunks and queue, by name, since what is dropped may hang on nothing any more.
CREATE FUNCTION pg_answer_drop_chunks(chunks regclass) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    schema_name text;
    chunk_name text;
BEGIN
    SELECT n.nspname, c.relname INTO schema_name, chunk_name
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = chunks;
    EXECUTE format('DROP TABLE %I.%I, %I.%I', schema_name, chunk_name, schema_name, left(chunk_name, 57) || '_queue');
END $$;
COMMENT ON FUNCTION pg_answer_drop_chunks(regclass) IS 'drops a table of chunks with its queue';

-- Indexes and sequences are named after their table when it is created.
CREATE FUNCTION pg_answer_rename_parts(whole regclass, old_prefix text, new_prefix text) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part record;
BEGIN
    FOR part IN
        SELECT c.oid::regclass AS name, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'INDEX' END AS kind,
               new_prefix || substr(c.relname, length(old_prefix) + 1) AS new_name
        FROM pg_class c
        WHERE starts_with(c.relname, old_prefix)
          AND (c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = whole)
               OR c.oid IN (SELECT objid FROM pg_depend
                            WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND refobjid = whole AND deptype = 'i'))
    LOOP
        EXECUTE format('ALTER %s %s RENAME TO %I', part.kind, part.name, part.new_name);
    END LOOP;
END $$;
COMMENT ON FUNCTION pg_answer_rename_parts(regclass, text, text) IS 'renames indexes and sequences of a table that got another name';

-- Puts chunks that are whole in the place of the old ones. Keys that writers are queueing meanwhile stay in the new queue.
CREATE FUNCTION pg_answer_finish_building(source regclass) RETURNS boolean LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    old @extschema@.pg_answer_sources;
    new @extschema@.pg_answer_sources;
    busy boolean;
    chunk_name text;
    queue_name text;
BEGIN
    SELECT * INTO old FROM @extschema@.pg_answer_sources t WHERE t.relation = source AND NOT t.building FOR UPDATE SKIP LOCKED;
    SELECT * INTO new FROM @extschema@.pg_answer_sources t WHERE t.relation = source AND t.building FOR UPDATE SKIP LOCKED;
    IF old.relation IS NULL OR new.relation IS NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE due < ''infinity'')', new.queue) INTO busy;
    IF busy THEN
        RETURN false;
    END IF;
    SELECT relname INTO chunk_name FROM pg_class WHERE oid = old.chunks;
    SELECT relname INTO queue_name FROM pg_class WHERE oid = old.queue;
    DELETE FROM @extschema@.pg_answer_sources t WHERE t.relation = source AND NOT t.building;
    EXECUTE format('DROP TABLE %s, %s', old.chunks, old.queue);
    EXECUTE format('ALTER TABLE %s RENAME TO %I', new.chunks, chunk_name);
    EXECUTE format('ALTER TABLE %s RENAME TO %I', new.queue, queue_name);
    PERFORM @extschema@.pg_answer_rename_parts(new.chunks, chunk_name || '_new', chunk_name);
    PERFORM @extschema@.pg_answer_rename_parts(new.queue, chunk_name || '_new', chunk_name);
    UPDATE @extschema@.pg_answer_sources t SET building = false WHERE t.relation = source AND t.building;
    RETURN true;
END $$;
COMMENT ON FUNCTION pg_answer_finish_building(regclass) IS 'puts new chunks of a source in the place of the old ones, once they are whole';

-- Names and partitions change; declarations and triggers follow.
CREATE FUNCTION pg_answer_follow_changes() RETURNS event_trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed oid[];
    s @extschema@.pg_answer_sources;
BEGIN
    IF NOT EXISTS (SELECT FROM @extschema@.pg_answer_sources WHERE chunks IS NOT NULL) THEN
        RETURN;
    END IF;
    SELECT array_agg(objid) INTO changed FROM pg_event_trigger_ddl_commands() WHERE classid = 'pg_class'::regclass;
    FOR s IN
        SELECT t.* FROM @extschema@.pg_answer_sources t JOIN pg_class c ON c.oid = t.relation
        WHERE t.chunks IS NOT NULL AND pg_has_role(c.relowner, 'USAGE')
          AND EXISTS (SELECT FROM @extschema@.pg_answer_members(t.relation) AS m WHERE m::oid = ANY (changed))
    LOOP
        PERFORM @extschema@.pg_answer_follow_source(s);
    END LOOP;
    PERFORM @extschema@.pg_answer_drop_triggers(member)
        FROM (SELECT DISTINCT t.tgrelid::regclass AS member FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
              WHERE t.tgfoid = '@extschema@.pg_answer_capture()'::regprocedure AND pg_has_role(c.relowner, 'USAGE')) AS m
        WHERE @extschema@.pg_answer_source_above(member) IS NULL;
    IF FOUND THEN
        PERFORM @extschema@.pg_answer_queue_gone();
    END IF;
END $$;
COMMENT ON FUNCTION pg_answer_follow_changes() IS 'lets sources follow ALTER TABLE and CREATE TABLE';

-- A table that has left tells not of which source it was; it can be of one that has, or had, children.
CREATE FUNCTION pg_answer_queue_gone() RETURNS void LANGUAGE sql
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT @extschema@.pg_answer_queue_members(s.relation, '{}')
        FROM @extschema@.pg_answer_sources s JOIN pg_class c ON c.oid = s.relation
        WHERE s.chunks IS NOT NULL AND NOT s.building AND c.relhassubclass AND pg_has_role(c.relowner, 'USAGE')
$$;
COMMENT ON FUNCTION pg_answer_queue_gone() IS 'queues the chunks of rows that left their source with a partition or child';

CREATE FUNCTION pg_answer_forget_members() RETURNS event_trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_event_trigger_dropped_objects() t JOIN pg_event_trigger_dropped_objects() r
                   ON r.object_type = 'table' AND r.schema_name = t.address_names[1] AND r.object_name = t.address_names[2]
               WHERE t.object_type = 'trigger' AND t.address_names[3] = 'pg_answer_insert') THEN
        PERFORM @extschema@.pg_answer_queue_gone();
    END IF;
END $$;
COMMENT ON FUNCTION pg_answer_forget_members() IS 'lets sources follow DROP TABLE of a partition or child';
-- The names decide the order: dropped sources are forgotten before.
CREATE EVENT TRIGGER pg_answer_forget_members ON sql_drop
    EXECUTE FUNCTION pg_answer_forget_members();

-- Columns that have new names keep their numbers, which stand beside the names. New partitions get triggers, and a new owner
-- the chunks.
CREATE FUNCTION pg_answer_follow_source(s pg_answer_sources) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    names text[];
    part regclass;
    part_owner regrole;
BEGIN
    SELECT array_agg(a.attname::text ORDER BY u.place) INTO names
        FROM unnest(s.columns) WITH ORDINALITY AS u(number, place)
        JOIN pg_attribute a ON a.attrelid = s.relation AND a.attnum = u.number AND NOT a.attisdropped;
    IF cardinality(names) = cardinality(s.columns)
       AND names IS DISTINCT FROM (s.content || s.key || s.title)[1:cardinality(names)] THEN
        UPDATE @extschema@.pg_answer_sources t
            SET content = names[1:cardinality(s.content)],
                key = names[cardinality(s.content) + 1:cardinality(s.content) + cardinality(s.key)],
                title = names[cardinality(s.content) + cardinality(s.key) + 1]
            WHERE t.relation = s.relation AND t.building = s.building;
    END IF;
    FOR part, part_owner IN
        SELECT p.oid::regclass, r.relowner::regrole FROM pg_class p, pg_class r
        WHERE p.oid IN (s.chunks, s.queue) AND r.oid = s.relation AND p.relowner <> r.relowner
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO %s', part, part_owner);
    END LOOP;
    IF (SELECT c.relforcerowsecurity <> r.relforcerowsecurity FROM pg_class c, pg_class r WHERE c.oid = s.chunks AND r.oid = s.relation) THEN
        EXECUTE format('ALTER TABLE %s %s ROW LEVEL SECURITY', s.chunks,
                       CASE WHEN (SELECT relforcerowsecurity FROM pg_class WHERE oid = s.relation) THEN 'FORCE' ELSE 'NO FORCE' END);
    END IF;
    -- A table whose triggers are not there yet is being restored.
    IF EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = s.relation AND t.tgfoid = '@extschema@.pg_answer_capture()'::regprocedure) THEN
        PERFORM @extschema@.pg_answer_queue_members(s.relation, array_agg(m))
            FROM unnest(@extschema@.pg_answer_create_triggers(s.relation, s.replica)) AS m HAVING count(*) > 0;
    END IF;
END $$;
COMMENT ON FUNCTION pg_answer_follow_source(pg_answer_sources) IS 'lets a source follow new names, partitions and owners of its table';
CREATE EVENT TRIGGER pg_answer_follow_changes ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE')
    EXECUTE FUNCTION pg_answer_follow_changes();
