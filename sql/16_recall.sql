-- How much of the truth an index of method ann finds.

CREATE FUNCTION ann_recall(index regclass, k integer DEFAULT 10, samples integer DEFAULT 100) RETURNS double precision
	LANGUAGE plpgsql VOLATILE STRICT
	SET search_path = pg_catalog, @extschema@, pg_temp
	SET max_parallel_workers_per_gather = 0
	SET plan_cache_mode = force_custom_plan
	-- Those that are changed below: named here, they are as before at the end.
	SET enable_indexscan = on
	SET enable_seqscan = on
	SET enable_sort = on
AS $$
DECLARE
	source text;
	value text := pg_get_indexdef(index, 1, false);
	operator text;
	neighbours text;
	kind regtype;
	sample text;
	plan jsonb;
	exact double precision[];
	found double precision[];
	hits bigint := 0;
	asked bigint := 0;
BEGIN
	IF k < 1 OR samples < 1 THEN
		RAISE EXCEPTION 'k and samples must be at least 1' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	SELECT format('%s WHERE (%s) IS NOT NULL', i.indrelid::regclass, value)
			|| coalesce(' AND ' || pg_get_expr(i.indpred, i.indrelid), ''),
		format('OPERATOR(%s.%s)', p.oprnamespace::regnamespace, p.oprname), o.opcintype
	INTO source, operator, kind
	FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
		JOIN pg_opclass o ON o.oid = i.indclass[0] JOIN pg_amop a ON a.amopfamily = o.opcfamily AND a.amopstrategy = 1
		JOIN pg_operator p ON p.oid = a.amopopr
	WHERE i.indexrelid = index AND m.amname = 'ann' AND c.relkind = 'i';
	IF source IS NULL THEN
		RAISE EXCEPTION '"%" is no index of method ann', index USING ERRCODE = 'wrong_object_type';
	END IF;
	IF NOT (SELECT indisvalid FROM pg_index WHERE indexrelid = index) THEN
		RAISE EXCEPTION 'index "%" is not valid, so that no query scans it', index
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'REINDEX it.';
	END IF;
	-- The row that is the query finds itself, which proves nothing: one more is asked for, and it is not counted.
	-- As text, since a session may ask about vectors of both types. A vector without direction has no neighbours.
	neighbours := format('SELECT coalesce(array_agg(d ORDER BY d) FILTER (WHERE d <> ''NaN''), ''{}'') FROM (SELECT (%1$s) %2$s $1::%5$s AS d FROM %3$s ORDER BY (%1$s) %2$s $1::%5$s LIMIT %4$s) AS x',
		value, operator, source, k + 1, kind);
	FOR sample IN EXECUTE format('SELECT (%s)::text FROM %s ORDER BY random() LIMIT %s', value, source, samples) LOOP
		PERFORM set_config('enable_indexscan', 'off', true), set_config('enable_seqscan', 'on', true),
			set_config('enable_sort', 'on', true);
		EXECUTE neighbours INTO exact USING sample;
		PERFORM set_config('enable_indexscan', 'on', true), set_config('enable_seqscan', 'off', true),
			set_config('enable_sort', 'off', true);
		IF plan IS NULL THEN
			EXECUTE 'EXPLAIN (FORMAT JSON) ' || neighbours INTO plan USING sample;
			IF NOT jsonb_path_exists(plan, '$.**."Index Name" ? (@ == $name)', jsonb_build_object('name', (SELECT relname FROM pg_class WHERE oid = index))) THEN
				RAISE EXCEPTION 'the planner prefers another index to "%"', index
					USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Drop one of the two in a transaction, measure, and roll back.';
			END IF;
		END IF;
		EXECUTE neighbours INTO found USING sample;
		CONTINUE WHEN cardinality(exact) < 2;
		-- Rows as near as the last are right, too.
		hits := hits - 1 + (SELECT count(*) FROM unnest(found) AS d WHERE d <= exact[cardinality(exact)] + 1e-6);
		asked := asked + cardinality(exact) - 1;
	END LOOP;
	RETURN hits / nullif(asked, 0)::double precision;
END $$;
COMMENT ON FUNCTION ann_recall(regclass, integer, integer) IS 'share of the k true neighbours of sampled rows that scans of an index of method ann find with the present settings';
