-- Living beside pgvector, which has a vector and a halfvec of its own in another schema of the same database.

CREATE FUNCTION pg_answer_create_pgvector_casts() RETURNS integer
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
	AS $function$
DECLARE
	pgvector_schema name;
	cast_row record;
	created integer := 0;
BEGIN
	SELECT n.nspname INTO pgvector_schema
	FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
	WHERE e.extname = 'vector';
	IF NOT FOUND THEN
		RAISE EXCEPTION USING
			ERRCODE = 'undefined_object',
			MESSAGE = 'extension "vector" is not installed in this database',
			HINT = 'Casts to and from pgvector''s types are only needed where pgvector is installed.';
	END IF;

	-- Both types have the same bytes, so no function is called. From our type to pgvector's the cast is implicit,
	-- so that embedding <=> embed('...') finds pgvector's operator and index for a column of pgvector's type; were
	-- the other direction implicit too, such an expression would be ambiguous.
	FOR cast_row IN
		SELECT source, target, context
		FROM unnest(ARRAY['vector', 'halfvec']) AS type_name,
			LATERAL (SELECT to_regtype(format('@extschema@.%I', type_name)) AS ours,
				to_regtype(format('%I.%I', pgvector_schema, type_name)) AS theirs) AS types,
			LATERAL (VALUES (ours, theirs, 'IMPLICIT'), (theirs, ours, 'ASSIGNMENT')) AS casts(source, target, context)
		WHERE theirs IS NOT NULL  -- pgvector before 0.7 has no halfvec
			AND NOT EXISTS (SELECT FROM pg_cast WHERE castsource = source AND casttarget = target)
	LOOP
		EXECUTE format('CREATE CAST (%s AS %s) WITHOUT FUNCTION AS %s',
			cast_row.source, cast_row.target, cast_row.context);
		created := created + 1;
	END LOOP;
	RETURN created;
END
$function$;
COMMENT ON FUNCTION pg_answer_create_pgvector_casts() IS
	'creates the missing casts between the types of pgvector and of pg_answer; returns how many; needs a superuser';
REVOKE EXECUTE ON FUNCTION pg_answer_create_pgvector_casts() FROM PUBLIC;
