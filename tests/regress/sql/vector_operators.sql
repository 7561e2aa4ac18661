-- Operators, functions, order.
SELECT '[1,2]'::vector <-> '[4,6]' AS l2, '[1,2]'::vector <#> '[4,6]' AS ip, '[1,0]'::vector <=> '[0,2]' AS cosine,
	'[1,2]'::vector <+> '[4,6]' AS l1;
SELECT '[1,2]'::halfvec <-> '[4,6]' AS l2, '[1,2]'::halfvec <#> '[4,6]' AS ip, '[1,0]'::halfvec <=> '[0,2]' AS cosine,
	'[1,2]'::halfvec <+> '[4,6]' AS l1;
SELECT '[0,0]'::vector <=> '[1,2]', '[1,2]'::vector <=> '[-1,-2]', '[3e38]'::vector <-> '[-3e38]';
SELECT '[1,2]'::vector + '[3,4]', '[1,2]'::vector - '[3,4]', '[1,2]'::vector * '[3,4]', '[1,2]'::vector || '[3]';
SELECT '[1,2]'::halfvec + '[3,4]', '[1,2]'::halfvec - '[3,4]', '[1,2]'::halfvec * '[3,4]', '[1,2]'::halfvec || '[3]';
SELECT vector_dims('[1,2]'::vector), vector_norm('[3,4]'), vector_dims('[1,2]'::halfvec), l2_norm('[3,4]'::halfvec);
SELECT l2_normalize('[3,4]'::vector), l2_normalize('[0,0]'::vector), l2_normalize('[3,4]'::halfvec);
SELECT binary_quantize('[1,0,-1,2,3,4,5,6,7]'::vector), binary_quantize('[1,0,-1]'::halfvec);
SELECT subvector('[1,2,3]'::vector, 2, 2), subvector('[1,2,3]'::vector, 0, 2), subvector('[1,2,3]'::halfvec, 3, 2147483647);
SELECT vector_l2_squared_distance('[1,2]', '[4,6]'), halfvec_spherical_distance('[1,0]', '[0,1]'), vector_spherical_distance('[1]', '[2]');
SELECT oprname, oprleft::regtype, oprcom::regoperator, oprnegate::regoperator, oprcode, oprrest, oprjoin FROM pg_operator
WHERE oprleft = 'vector'::regtype AND oprname <> '<>' ORDER BY oprname COLLATE "C";

-- A btree order: element by element, then by length.
CREATE TABLE ordered (v vector, h halfvec);
INSERT INTO ordered SELECT x::vector, x::vector FROM unnest(ARRAY['[2]', '[1,2]', '[1]', '[1,2,0]', '[-0]', '[0]', '[-1,9]', NULL]) x;
SELECT v FROM ordered WHERE v <> '[0]' ORDER BY v DESC;
SELECT h FROM ordered WHERE h <> '[0]' ORDER BY h;
SELECT count(DISTINCT v), count(DISTINCT h) FROM ordered;
SELECT count(*) FROM ordered GROUP BY v ORDER BY v;
CREATE INDEX ON ordered (v);
CREATE INDEX ON ordered (h);
SET enable_seqscan = off;
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT * FROM ordered WHERE v = '[1,2]';
SELECT v FROM ordered WHERE v >= '[1]' AND v < '[2]' ORDER BY v;
SELECT h FROM ordered WHERE h > '[1]' ORDER BY h;
RESET enable_seqscan;
RESET enable_bitmapscan;
DROP TABLE ordered;
CREATE TABLE keyed (v vector(2) UNIQUE);
INSERT INTO keyed VALUES ('[1,2]'), ('[2,1]');
\set VERBOSITY sqlstate
INSERT INTO keyed VALUES ('[1,2]');
DROP TABLE keyed;
SELECT '[1,2]'::vector <-> '[1]';
SELECT '[1,2]'::halfvec <=> '[1]';
SELECT '[3e38]'::vector + '[3e38]';
SELECT '[1e-37]'::vector * '[1e-37]';
SELECT '[60000]'::halfvec - '[-60000]';
SELECT array_fill(0, ARRAY[16000])::vector || '[1]';
SELECT subvector('[1,2,3]'::vector, 4, 1);
SELECT subvector('[1,2,3]'::vector, 1, 0);
SELECT subvector('[1,2,3]'::vector, '-2147483648', 2147483647);
