-- avg and sum, plain, grouped, as window functions and in parallel.
SELECT avg(v), sum(v), avg(v::halfvec), sum(v::halfvec) FROM (VALUES ('[1,2]'::vector), ('[3,5]'), (NULL)) x(v);
SELECT avg(v), sum(v) FROM (SELECT '[1]'::vector WHERE false) x(v);
SELECT i, avg(v) OVER (ORDER BY i), sum(v) OVER (ORDER BY i ROWS 1 PRECEDING)
FROM (VALUES (1, '[1,2]'::vector), (2, '[3,4]'), (3, '[5,9]')) x(i, v);
SELECT vector_accum('{0}', '[1,2]'), vector_accum('{2,3,4}', '[1,2]'), halfvec_accum('{1,1}', '[0.5]');
SELECT vector_combine('{0}', '{1,2}'), vector_combine('{1,2}', '{3,4}'), vector_avg('{0}'), halfvec_avg('{2,3}');
WITH s AS (SELECT '{1,1}'::float8[] AS state) SELECT vector_accum(state, '[1]'), state FROM s;
CREATE TABLE many (k int, v vector(3), h halfvec(3));
INSERT INTO many SELECT i % 3, ARRAY[i % 100, -(i % 7), i % 5]::vector, ARRAY[i % 11, -1, i % 5]::halfvec FROM generate_series(0, 19999) i;
ANALYZE many;
SELECT avg(v), sum(v), avg(h) FROM many;
SELECT k, avg(v), count(*) FROM many GROUP BY k ORDER BY k;
SET min_parallel_table_scan_size = 0;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET max_parallel_workers_per_gather = 2;
EXPLAIN (COSTS OFF) SELECT avg(v), sum(v), avg(h) FROM many;
SELECT avg(v), sum(v), avg(h) FROM many;
DROP TABLE many;
\set VERBOSITY sqlstate
SELECT avg(v) FROM (VALUES ('[1,2]'::vector), ('[1]')) x(v);
SELECT sum(v) FROM (VALUES ('[3e38]'::vector), ('[3e38]')) x(v);
SELECT avg(v) FROM (VALUES ('[3e38]'::vector), ('[3e38]')) x(v);
SELECT vector_avg('{1}');
SELECT vector_avg('{}');
SELECT vector_accum('{NULL}', '[1]');
SELECT vector_accum('{{0}}', '[1]');
SELECT vector_combine('{1,2}', '{1,2,3}');
