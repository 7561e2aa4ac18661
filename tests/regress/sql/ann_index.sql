-- The access method ann. What the index gives is compared with exact scans, never printed by distance alone.
SET client_min_messages = warning;
CREATE TABLE t (id int PRIMARY KEY, v vector(16), tag int);
INSERT INTO t SELECT i, (SELECT array_agg(sin(i * 0.37 + j * j * 1.7) + cos(i * j * 0.11)) FROM generate_series(1, 16) j)::real[]::vector, i % 50
	FROM generate_series(1, 3000) i;
INSERT INTO t VALUES (-1, NULL, 0), (-2, array_fill(0, ARRAY[16])::vector, 0);
CREATE INDEX t_cosine ON t USING ann (v vector_cosine_ops);
CREATE INDEX t_l2 ON t USING ann (v vector_l2_ops);
CREATE INDEX t_ip ON t USING ann (v vector_ip_ops) WITH (lists = 5);
CREATE INDEX t_l1 ON t USING ann (v vector_l1_ops);
ANALYZE t;
SELECT ann_stats('t_ip')->'lists' AS lists, ann_stats('t_ip')->'rows' AS rows;

-- the planner: the index for a few rows, the exact scan for all of them
CREATE FUNCTION plan_of(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS off) ' || query LOOP
		IF line ~ 'Scan' THEN RETURN regexp_replace(line, '^[ >-]*', ''); END IF;
	END LOOP;
END $$;
SELECT plan_of('SELECT id FROM t ORDER BY v <=> ''[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]'' LIMIT 5');
SELECT plan_of('SELECT id FROM t ORDER BY v <-> ''[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]'' LIMIT 5');
SELECT plan_of('SELECT id FROM t ORDER BY v <-> ''[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]''');
SELECT plan_of('SELECT id FROM t WHERE id < 10 ORDER BY v <-> ''[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]'' LIMIT 5');

-- recall of 10 rows for 50 queries, and whether they come in order
CREATE FUNCTION check_recall(operator text, floor numeric) RETURNS text LANGUAGE plpgsql AS $$
DECLARE query vector; exact float8[]; found float8[]; hits int := 0;
BEGIN
	FOR query IN SELECT v FROM t WHERE id BETWEEN 1 AND 50 LOOP
		SET LOCAL enable_indexscan = off;
		EXECUTE format('SELECT array_agg(d) FROM (SELECT v %s $1 AS d FROM t ORDER BY v %1$s $1 LIMIT 10) AS x', operator) INTO exact USING query;
		SET LOCAL enable_indexscan = on;
		SET LOCAL enable_seqscan = off;
		EXECUTE format('SELECT array_agg(d) FROM (SELECT v %s $1 AS d FROM t ORDER BY v %1$s $1 LIMIT 10) AS x', operator) INTO found USING query;
		IF found <> (SELECT array_agg(d ORDER BY d) FROM unnest(found) AS d) THEN RETURN 'not in order'; END IF;
		hits := hits + (SELECT count(*) FROM unnest(found) AS d WHERE d <= exact[10] + 1e-9);
	END LOOP;
	RETURN CASE WHEN hits / 500.0 >= floor THEN 'ok' ELSE 'recall ' || hits / 500.0 END;
END $$;
SELECT check_recall('<=>', 0.9), check_recall('<->', 0.9), check_recall('<#>', 0.9), check_recall('<+>', 0.95);

-- without a limit every row comes once; NULL is not indexed, what has no direction comes last
SET enable_seqscan = off;
SET enable_sort = off;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM t ORDER BY v <=> '[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]' OFFSET 0) AS x;
SELECT id, d FROM (SELECT id, v <=> '[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]' AS d FROM t ORDER BY 2 OFFSET 3000) AS x;
SELECT count(*) FROM (SELECT id FROM t ORDER BY v <=> array_fill(0, ARRAY[16])::vector OFFSET 0) AS x;
SELECT count(*) FROM (SELECT id FROM t ORDER BY v <=> NULL OFFSET 0) AS x;

-- a condition does not make the result short
SELECT count(*) FROM (SELECT id FROM t WHERE tag = 3 ORDER BY v <=> '[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]' LIMIT 40) AS x;
SELECT id FROM t WHERE v <=> '[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]' = 'NaN' ORDER BY v <=> '[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]' LIMIT 1;

-- a scan for each row of another table, and a cursor
SELECT count(*) FROM generate_series(1, 20) AS i, LATERAL (SELECT id FROM t ORDER BY v <-> (SELECT v FROM t AS q WHERE q.id = i) LIMIT 3) AS x;
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM t ORDER BY v <-> (SELECT v FROM t WHERE id = 100);
FETCH 1 FROM c;
MOVE 3000 IN c;
FETCH 1 FROM c;
COMMIT;

-- changes are seen at once, also those of the own transaction and after a rollback
BEGIN;
INSERT INTO t SELECT 4000, v, 0 FROM t WHERE id = 200;
DELETE FROM t WHERE id = 200;
SELECT id FROM t ORDER BY v <-> (SELECT v FROM t WHERE id = 4000) LIMIT 1;
ROLLBACK;
SELECT id FROM t ORDER BY v <-> (SELECT v FROM t WHERE id = 200) LIMIT 1;
UPDATE t SET tag = -1 WHERE id = 200;
DELETE FROM t WHERE id % 3 = 0;
VACUUM t;
SELECT ann_stats('t_l2')->'rows' AS rows, ann_stats('t_l2')->'holes' AS holes;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM t ORDER BY v <-> '[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]' OFFSET 0) AS x;
INSERT INTO t SELECT i, (SELECT array_agg(sin(i * 0.37 + j * j * 1.7) + cos(i * j * 0.11)) FROM generate_series(1, 16) j)::real[]::vector, i % 50
	FROM generate_series(3, 3000, 3) i;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM t ORDER BY v <-> '[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]' OFFSET 0) AS x;
SELECT check_recall('<=>', 0.9), check_recall('<->', 0.9), check_recall('<#>', 0.9), check_recall('<+>', 0.95);
REINDEX TABLE t;
SELECT ann_stats('t_l2')->'rows' AS rows, ann_stats('t_l2')->'holes' AS holes;
SELECT ann_check('t_l2') AS rows, ann_check('t_ip') AS rows;
SELECT ann_recall('t_cosine') >= 0.9 AS cosine, ann_recall('t_l2', 5, 50) >= 0.9 AS l2, ann_recall('t_ip', k => 3) <= 1 AS ip;
CREATE INDEX CONCURRENTLY t_again ON t USING ann (v vector_l2_ops);
SELECT ann_stats('t_again')->'rows' AS rows;

-- other types, tables and indexes
CREATE TABLE h (id int, v halfvec(4));
CREATE INDEX h_v ON h USING ann (v halfvec_cosine_ops);
INSERT INTO h VALUES (1, '[1,0,0,0]'), (2, '[0,1,0,0]'), (3, '[1,1,0,0]');
SELECT id FROM h ORDER BY v <=> '[1,0.1,0,0]';
CREATE INDEX h_l1 ON h USING ann (v halfvec_l1_ops);
SELECT id, d FROM (SELECT id, v <+> '[0.75,1,0,0]' AS d FROM h ORDER BY 2 OFFSET 0) AS x;
SET client_min_messages = debug1;
SELECT id FROM h ORDER BY v <=> '[1,0.1,0,0]' LIMIT 1;
SET client_min_messages = warning;
CREATE INDEX h_expression ON h USING ann ((v::vector(4)) vector_l2_ops) WHERE id > 1;
SELECT id FROM h WHERE id > 1 ORDER BY v::vector(4) <-> '[1,0,0,0]';
CREATE UNLOGGED TABLE u (id int, v vector(3));
CREATE INDEX ON u USING ann (v);
INSERT INTO u VALUES (1, '[1,2,3]');
SELECT id FROM u ORDER BY v <-> '[1,2,3]';
CREATE TEMPORARY TABLE p (id int, v vector(3)) PARTITION BY RANGE (id);
CREATE TEMPORARY TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
CREATE TEMPORARY TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20);
CREATE INDEX ON p USING ann (v vector_l2_ops);
INSERT INTO p SELECT i, ARRAY[i, i, i]::real[]::vector FROM generate_series(0, 19) i;
SELECT id FROM p ORDER BY v <-> '[9.2,9.2,9.2]' LIMIT 3;

-- wrong use
CREATE TABLE e (v vector, w vector(3));
CREATE INDEX ON e USING ann (v vector_l2_ops);
CREATE INDEX ON e USING ann (w vector_l2_ops) WITH (lists = -1);
CREATE INDEX ON e USING ann (w vector_l2_ops) WITH (colour = 'red');
CREATE UNIQUE INDEX ON e USING ann (w vector_l2_ops);
CREATE INDEX ON e USING ann (w vector_l2_ops);
SELECT * FROM e ORDER BY w <-> '[1,2]';
SELECT ann_stats('e');
SELECT ann_recall('t_pkey');
SELECT ann_recall('t_l2', 0);
SELECT ann_stats('t_pkey');
SELECT ann_stats('p_v_idx');
SELECT ann_check(0::regclass, heap => true);

-- recall is that of the index named, or an ERROR, and settings stay as they are
BEGIN;
SET LOCAL enable_seqscan = on;
SELECT ann_recall('t_ip', 1, 1) IS NOT NULL AS measured;
SHOW enable_seqscan;
COMMIT;
CREATE INDEX t_one_list ON t USING ann (v vector_l2_ops) WITH (lists = 1);
SELECT ann_recall('t_one_list');
DROP INDEX t_one_list;
INSERT INTO h VALUES (4, '[0,0,0,0]');
SELECT ann_recall('h_v', 10) AS without_the_zeros;

-- a build that failed
CREATE FUNCTION refuse(vector) RETURNS vector LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
CREATE INDEX CONCURRENTLY h_refused ON h USING ann ((refuse(v::vector)::vector(4)) vector_l2_ops);
SELECT ann_stats('h_refused');
SELECT ann_check('h_refused', heap => true);
SELECT ann_recall('h_refused');
