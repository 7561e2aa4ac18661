-- Casts, their contexts, and array conversion.
SELECT castsource::regtype, casttarget::regtype, castcontext FROM pg_cast
WHERE castsource IN ('vector'::regtype, 'halfvec'::regtype) OR casttarget IN ('vector'::regtype, 'halfvec'::regtype)
ORDER BY castsource::regtype::text COLLATE "C", casttarget::regtype::text COLLATE "C";
SELECT ARRAY[1,2]::vector, ARRAY[1.5,2]::vector, '{1,2}'::real[]::vector, '{1,2}'::float8[]::vector;
SELECT ARRAY[1,2]::halfvec, ARRAY[1.5,2]::halfvec, '{1,2}'::real[]::halfvec, '{1,2}'::float8[]::halfvec;
SELECT '[1,2]'::vector::real[], '[1,0.1]'::halfvec::real[], '[1,0.1]'::vector::halfvec, '[0.1]'::halfvec::vector;
SELECT array_length('[1,2,3]'::vector, 1);
SELECT '[5:6]={1,2}'::int[]::vector;
SELECT (ARRAY[1,NULL,3])[3:3]::vector;
CREATE TABLE narrow (v vector(2), h halfvec(2));
INSERT INTO narrow VALUES (ARRAY[1,2], ARRAY[1.0,2.0]), ('[3,4]'::halfvec, '[3,4]'::vector);
TABLE narrow;
INSERT INTO narrow (v) VALUES (ARRAY[1,2,3]);
INSERT INTO narrow (h) VALUES ('[1,2,3]'::vector);
DROP TABLE narrow;
\set VERBOSITY sqlstate
SELECT '{1,NULL}'::int[]::vector;
SELECT '{1,NULL}'::numeric[]::halfvec;
SELECT '{}'::real[]::vector;
SELECT '{{1,2}}'::real[]::vector;
SELECT '{NaN}'::numeric[]::vector;
SELECT '{Infinity}'::real[]::halfvec;
SELECT '{1e39}'::float8[]::vector;
SELECT '{65520}'::float8[]::halfvec;
SELECT '[65520]'::vector::halfvec;
SELECT array_agg(i)::vector FROM generate_series(1, 16001) i;
