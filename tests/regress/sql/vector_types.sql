-- Text and binary forms, type modifiers, storage.
SELECT '[1,2,3]'::vector, ' [ 1.5 , -2e1,3. ] '::vector, '[1e-45,3.4028235e38,0.0001,0.00001,1000000,1234567]'::vector;
SELECT '[1,2,3]'::halfvec, '[0.1,65504,6e-8,1e-8]'::halfvec;
SELECT '[1,2,3]'::vector(3), '[1,2,3]'::halfvec(3);
SELECT format_type('vector'::regtype, 384), format_type('halfvec'::regtype, 384);
SELECT typname, typstorage, typlen, typalign FROM pg_type
WHERE oid IN ('vector'::regtype, 'halfvec'::regtype) ORDER BY typname DESC;

-- The bytes: on the wire and as stored. They are those of pgvector.
SELECT vector_send('[1,-2.5,0]'), halfvec_send('[1,-2.5,0]');
SELECT vector_send('[3.4028235e38,1e-45]'), halfvec_send('[65504,6e-8]');
CREATE TABLE stored (v vector, h halfvec);
INSERT INTO stored VALUES ('[1,2,3]', '[1,2,3]');
SELECT pg_column_size(v), pg_column_size(h) FROM stored;
SELECT pg_column_size('[1,2,3]'::vector), pg_column_size('[1,2,3]'::halfvec);
-- Both columns on disk, on a little-endian machine: header byte, dimensions, zero, elements.
CHECKPOINT;
SELECT position('\x23030000000000803f00000040000040401703000000003c00400042'::bytea
	IN pg_read_binary_file(pg_relation_filepath('stored'))) > 0 AS same_bytes;
-- A value too large for a page goes out of line, uncompressed, and comes back.
INSERT INTO stored SELECT array_agg(i % 7)::vector, array_agg(i % 7)::halfvec FROM generate_series(1, 16000) i;
SELECT vector_dims(v), pg_column_size(v), vector_dims(h), pg_column_size(h), v <-> v AS l2, h <-> h AS half_l2,
	subvector(v, greatest(vector_dims(v) - 1, 1), 9) AS tail FROM stored ORDER BY 1;
DROP TABLE stored;

-- Errors: SQLSTATE and message.
\set VERBOSITY terse
CREATE FUNCTION error_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE detail text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(detail, ''));
END $$;
SELECT type, literal, error_of(format('SELECT %L::%s', literal, type))
FROM (VALUES ('vector'), ('halfvec')) t(type),
	unnest(ARRAY['', '[', '[]', '[ ]', '[,]', '[1,2', '[1,]', '[1,,2]', '[1 2]', '[1a]', '1,2', '{1,2}', '[1,2]x', '[nan]',
		'[inf]', '[-Infinity]', '[4e38]', '[-4e38]', '[é]']) WITH ORDINALITY l(literal, n)
ORDER BY type DESC, n;
SELECT error_of('SELECT ''[65520]''::halfvec');
SELECT error_of(format('SELECT %L::vector', '[' || repeat('0,', 16000) || '0]'));
SELECT error_of(format('SELECT %L::halfvec', '[' || repeat('0,', 16000) || '0]'));
SELECT type, modifier, error_of(format('SELECT ''[1,2,3]''::%s(%s)', type, modifier))
FROM (VALUES ('vector'), ('halfvec')) t(type),
	unnest(ARRAY['3', '2', '0', '-1', '16000', '16001', '20000', '3, 3', '''a''']) WITH ORDINALITY m(modifier, n)
ORDER BY type DESC, n;
DROP FUNCTION error_of(text);
