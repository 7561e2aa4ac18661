-- Work on the queues: in batches, by the background worker or by whoever calls these. Each batch is one transaction's work.

CREATE FUNCTION pg_answer_process_batch(source regclass, building boolean) RETURNS bigint
    AS 'MODULE_PATHNAME', 'pg_answer_process_batch_wrapper' LANGUAGE C VOLATILE STRICT COST 10000000;
COMMENT ON FUNCTION pg_answer_process_batch(regclass, boolean) IS
    'embeds a batch of queued rows of a source; keys taken, 0 when none is to be had';

CREATE FUNCTION pg_answer_embed_entries(source regclass, building boolean, entries bigint[]) RETURNS bigint
    AS 'MODULE_PATHNAME', 'pg_answer_embed_entries_wrapper' LANGUAGE C VOLATILE STRICT COST 10000000;
COMMENT ON FUNCTION pg_answer_embed_entries(regclass, boolean, bigint[]) IS 'embeds the rows of some entries of a queue';

-- Called by pg_answer_process_batch as the owner of the source.
CREATE FUNCTION pg_answer_take_batch(source regclass, building boolean, wanted bigint) RETURNS bigint LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    p record;
    key text;
    due_entries refcursor;
    entry bigint;
    entry_keys bigint;
    entries bigint[];
    keys bigint;
    attempts integer;
    message text;
BEGIN
    SELECT * INTO p FROM @extschema@.pg_answer_source_plans(source) AS t WHERE t.building = building;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    key := p.chunk_names[1];
    -- pg_upgrade carries no dependencies between tables over.
    IF NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = p.chunks_table
                   AND d.refclassid = 'pg_class'::regclass AND d.refobjid = source) THEN
        PERFORM @extschema@.pg_answer_depend(p.chunks_table, source), @extschema@.pg_answer_depend(p.queue_table, source);
    END IF;
    -- TRUNCATE and ALTER TABLE lock the source first and its chunks then; a batch keeps to the same order, and does not
    -- stand in their way.
    BEGIN
        EXECUTE format('LOCK TABLE %s IN ACCESS SHARE MODE NOWAIT', p.source);
    EXCEPTION WHEN lock_not_available THEN
        RETURN 0;
    END;
    -- As many entries as hold the keys that there is time for, and no more are locked. A key in several of them is one row's work:
    -- entries of one key each can all be of one row.
    attempts := 0;
    keys := 0;
    OPEN due_entries FOR EXECUTE format('SELECT id_of_entry, cardinality(%s) FROM %s WHERE attempts = 0 AND due <= clock_timestamp() '
                                        'ORDER BY id_of_entry FOR UPDATE SKIP LOCKED', key, p.queue);
    WHILE keys < wanted OR (keys < 1024 AND keys = cardinality(entries)) LOOP
        FETCH due_entries INTO entry, entry_keys;
        EXIT WHEN NOT FOUND;
        entries := entries || entry;
        keys := keys + entry_keys;
    END LOOP;
    CLOSE due_entries;
    IF entries IS NULL THEN
        -- Rows that failed before are tried by themselves.
        EXECUTE format('SELECT ARRAY[id_of_entry], cardinality(%1$s), attempts FROM %2$s WHERE attempts > 0 '
                       'AND due <= clock_timestamp() ORDER BY due LIMIT 1 FOR UPDATE SKIP LOCKED', key, p.queue)
            INTO entries, keys, attempts;
    END IF;
    IF entries IS NULL THEN
        IF building THEN
            PERFORM @extschema@.pg_answer_finish_building(source);
        END IF;
        RETURN 0;
    END IF;
    BEGIN
        RETURN @extschema@.pg_answer_embed_entries(source, building, entries);
    EXCEPTION WHEN OTHERS THEN
        message := SQLSTATE || ': ' || SQLERRM;
    END;
    -- A model that cannot be used is not the rows' fault: this raises its error, and they stay queued.
    PERFORM @extschema@.count_tokens('', p.model);
    IF keys > 1 THEN
        EXECUTE format('INSERT INTO %1$s (%2$s, queued_at, attempts) SELECT %3$s, q.queued_at, 1 FROM %1$s AS q, '
                       'unnest(%4$s) AS u(%2$s) WHERE q.id_of_entry = ANY ($1)',
                       p.queue, array_to_string(p.chunk_names, ', '),
                       (SELECT string_agg(format('ARRAY[u.%s]', c), ', ' ORDER BY i) FROM unnest(p.chunk_names) WITH ORDINALITY AS t(c, i)),
                       (SELECT string_agg(format('q.%s', c), ', ' ORDER BY i) FROM unnest(p.chunk_names) WITH ORDINALITY AS t(c, i)))
            USING entries;
        EXECUTE format('DELETE FROM %s WHERE id_of_entry = ANY ($1)', p.queue) USING entries;
    ELSE
        EXECUTE format('UPDATE %s SET attempts = attempts + 1, error = $2, due = CASE WHEN attempts >= 5 THEN ''infinity'' '
                       'ELSE clock_timestamp() + interval ''1 s'' * power(4, attempts) END WHERE id_of_entry = ANY ($1)', p.queue)
            USING entries, message;
    END IF;
    RETURN keys;
END $$;
COMMENT ON FUNCTION pg_answer_take_batch(regclass, boolean, bigint) IS 'takes entries of a queue that are due, and sees to those that fail';

CREATE FUNCTION pg_answer_queue_state(source regclass, building boolean,
    OUT waiting bigint, OUT failed bigint, OUT oldest timestamptz)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'pg_answer_queue_state_wrapper' LANGUAGE C VOLATILE STRICT ROWS 1;
COMMENT ON FUNCTION pg_answer_queue_state(regclass, boolean) IS 'how many keys of a source wait, for those who may read of it';

-- Called by pg_answer_queue_state as the owner of the source.
CREATE FUNCTION pg_answer_count_queue(source regclass, building boolean,
    OUT waiting bigint, OUT failed bigint, OUT oldest timestamptz)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    p record;
BEGIN
    SELECT * INTO p FROM @extschema@.pg_answer_source_plans(source) AS t WHERE t.building = building;
    IF FOUND THEN
        EXECUTE format('SELECT coalesce(sum(cardinality(%1$s)) FILTER (WHERE due < ''infinity''), 0), '
                       'coalesce(sum(cardinality(%1$s)) FILTER (WHERE due = ''infinity''), 0), '
                       'min(queued_at) FILTER (WHERE due < ''infinity'') FROM %2$s',
                       p.chunk_names[1], p.queue)
            INTO waiting, failed, oldest;
    END IF;
END $$;
COMMENT ON FUNCTION pg_answer_count_queue(regclass, boolean) IS 'how many keys of a source wait';

CREATE FUNCTION pg_answer_start_worker() RETURNS boolean
    AS 'MODULE_PATHNAME', 'pg_answer_start_worker_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pg_answer_start_worker() IS
    'starts the background worker of this database unless it runs; false when the server has no room for one';

CREATE VIEW pg_answer_source_progress AS
    SELECT s.relation AS source, s.building, s.mode, s.model, s.chunking, s.backfill AS rows_total,
           greatest(s.backfill - q.waiting - q.failed, 0) AS rows_done, q.waiting AS rows_left, q.failed AS rows_failed,
           r.rows_per_second,
           CASE WHEN q.waiting > 0 AND r.rows_per_second > 0
               THEN clock_timestamp() + interval '1 s' * (q.waiting / r.rows_per_second) END AS estimated_end,
           coalesce(clock_timestamp() - q.oldest, interval '0') AS lag
    FROM pg_answer_sources s
    CROSS JOIN LATERAL pg_answer_queue_state(s.relation, s.building) AS q
    CROSS JOIN LATERAL (SELECT CASE WHEN q.waiting > 0 THEN greatest(s.backfill - q.waiting - q.failed, 0)
        / greatest(extract(epoch FROM clock_timestamp() - s.began), 0.001)::float8 END AS rows_per_second) AS r
    WHERE s.chunks IS NOT NULL AND has_any_column_privilege(s.relation, 'SELECT');
COMMENT ON VIEW pg_answer_source_progress IS
    'rows of each source that are embedded, wait or failed since its chunks were created, and how old the oldest that waits is';
GRANT SELECT ON pg_answer_source_progress TO PUBLIC;

-- Procedures commit as they go, so they cannot fix a search path: all names are qualified. Whatever the session's default, a
-- batch must see what others have committed before it.
CREATE PROCEDURE process_queue(source regclass DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
    s record;
    keys bigint;
BEGIN
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    FOR s IN
        SELECT t.relation, t.building FROM @extschema@.pg_answer_sources AS t
        JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) t.relation
        WHERE t.chunks IS NOT NULL AND t.relation OPERATOR(pg_catalog.=) coalesce(source, t.relation)
          AND (source IS NOT NULL OR pg_catalog.pg_has_role(c.relowner, 'USAGE'))
    LOOP
        LOOP
            keys := @extschema@.pg_answer_process_batch(s.relation, s.building);
            COMMIT;
            SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
            EXIT WHEN keys OPERATOR(pg_catalog.=) 0::bigint;
        END LOOP;
    END LOOP;
END $$;
COMMENT ON PROCEDURE process_queue(regclass) IS
    'embeds what is queued and due, of one source or of all of the caller''s, committing as it goes';

CREATE PROCEDURE embed_all(source regclass, again boolean DEFAULT false) LANGUAGE plpgsql AS $$
DECLARE
    s record;
    keys bigint;
    done bigint;
    total bigint;
    waiting bigint;
    failed bigint;
    began timestamptz;
    told timestamptz;
    seconds double precision;
BEGIN
    IF NOT EXISTS (SELECT FROM @extschema@.pg_answer_sources AS t
                   WHERE t.relation OPERATOR(pg_catalog.=) source AND t.chunks IS NOT NULL) THEN
        RAISE EXCEPTION 'relation % is not a source with chunks', source USING ERRCODE = 'undefined_object';
    END IF;
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    IF again THEN
        PERFORM @extschema@.pg_answer_queue_all(source, false);
        COMMIT;
        SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    END IF;
    FOR s IN SELECT t.relation, t.building FROM @extschema@.pg_answer_sources AS t
        WHERE t.relation OPERATOR(pg_catalog.=) source AND t.chunks IS NOT NULL
    LOOP
        SELECT q.waiting INTO total FROM @extschema@.pg_answer_queue_state(s.relation, s.building) AS q;
        done := 0;
        began := pg_catalog.clock_timestamp();
        told := began;
        LOOP
            keys := @extschema@.pg_answer_process_batch(s.relation, s.building);
            COMMIT;
            SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
            SELECT q.waiting, q.failed INTO waiting, failed FROM @extschema@.pg_answer_queue_state(s.relation, s.building) AS q;
            IF keys OPERATOR(pg_catalog.>) 0::bigint
               AND (told OPERATOR(pg_catalog.<) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '2 s'::interval)
                    OR waiting OPERATOR(pg_catalog.=) 0::bigint) THEN
                told := pg_catalog.clock_timestamp();
                seconds := pg_catalog.date_part('epoch', told OPERATOR(pg_catalog.-) began);
                done := greatest(total OPERATOR(pg_catalog.-) waiting, 1::bigint);
                RAISE NOTICE '%: % of % rows, % a second, % s left', source, done, total,
                    pg_catalog.round((done OPERATOR(pg_catalog./) seconds)::numeric, 1),
                    pg_catalog.ceil(waiting OPERATOR(pg_catalog.*) seconds OPERATOR(pg_catalog./) done);
            END IF;
            EXIT WHEN waiting OPERATOR(pg_catalog.=) 0::bigint OR waiting IS NULL;
            IF keys OPERATOR(pg_catalog.=) 0::bigint THEN
                -- The rest is somebody else's, or waits to be tried again.
                PERFORM pg_catalog.pg_sleep(0.1);
            END IF;
        END LOOP;
        IF failed OPERATOR(pg_catalog.>) 0::bigint THEN
            RAISE WARNING '% rows of % could not be embedded', failed, source
                USING HINT = 'SELECT * FROM failed_rows(''...'') tells why; retry_failed(''...'') tries them again.';
        END IF;
    END LOOP;
END $$;
COMMENT ON PROCEDURE embed_all(regclass, boolean) IS
    'embeds what is queued for a source, or with again => true all its rows, in the foreground with NOTICEs of its progress';

CREATE FUNCTION wait_for_source(source regclass, timeout interval DEFAULT NULL) RETURNS boolean LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    began CONSTANT timestamptz := clock_timestamp();
    state record;
    mode text;
BEGIN
    SELECT s.mode INTO mode FROM @extschema@.pg_answer_sources s
        WHERE s.relation = source AND NOT s.building AND s.chunks IS NOT NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'relation % is not a source with chunks', source USING ERRCODE = 'undefined_object';
    END IF;
    LOOP
        SELECT * INTO state FROM @extschema@.pg_answer_queue_state(source, false) AS q;
        IF coalesce(state.waiting, 0) = 0 OR state.oldest > began THEN
            RETURN true;
        END IF;
        IF mode = 'manual' THEN
            RAISE EXCEPTION 'nobody embeds what is queued for source %', source USING ERRCODE = 'object_not_in_prerequisite_state',
                DETAIL = 'Its mode is manual.', HINT = format('CALL embed_all(%L);', source::text);
        END IF;
        IF clock_timestamp() > began + timeout THEN
            RETURN false;
        END IF;
        PERFORM @extschema@.pg_answer_start_worker();
        PERFORM pg_sleep(0.05);
    END LOOP;
END $$;
COMMENT ON FUNCTION wait_for_source(regclass, interval) IS
    'waits until all that was queued for a source before the call is embedded or given up; false when that takes too long';

CREATE FUNCTION failed_rows(source regclass)
    RETURNS TABLE (key jsonb, attempts integer, due timestamptz, error text) LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    p record;
BEGIN
    FOR p IN SELECT * FROM @extschema@.pg_answer_source_plans(source) LOOP
        RETURN QUERY EXECUTE format(
            'SELECT jsonb_build_object(%s), attempts, due, error FROM %s WHERE attempts > 0 AND error IS NOT NULL ORDER BY id_of_entry',
            (SELECT string_agg(format('%L, %s[1]', c, n), ', ' ORDER BY i) FROM unnest(p.columns, p.chunk_names) WITH ORDINALITY AS u(c, n, i)),
            p.queue);
    END LOOP;
END $$;
COMMENT ON FUNCTION failed_rows(regclass) IS
    'rows of a source that could not be embedded: when they are tried again (infinity: never) and why they failed';

CREATE FUNCTION retry_failed(source regclass, key jsonb DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    p record;
    updated bigint;
    total bigint := 0;
BEGIN
    FOR p IN SELECT * FROM @extschema@.pg_answer_source_plans(source) LOOP
        EXECUTE format('UPDATE %s SET attempts = 1, due = ''-infinity'', error = NULL WHERE attempts > 0 AND ($1 IS NULL OR jsonb_build_object(%s) @> $1)',
            p.queue,
            (SELECT string_agg(format('%L, %s[1]', c, n), ', ' ORDER BY i) FROM unnest(p.columns, p.chunk_names) WITH ORDINALITY AS u(c, n, i)))
            USING key;
        GET DIAGNOSTICS updated = ROW_COUNT;
        total := total + updated;
    END LOOP;
    PERFORM @extschema@.pg_answer_start_worker();
    RETURN total;
END $$;
COMMENT ON FUNCTION retry_failed(regclass, jsonb) IS 'lets rows that failed be tried again at once: all, or those whose key holds this';
