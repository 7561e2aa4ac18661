-- Filter keys of the access method ann: what the index gives is what an exact scan gives.
SET client_min_messages = warning;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE f (
	id int PRIMARY KEY, v vector(16), tenant bigint, kind text, price numeric(10, 2), day date, at timestamptz,
	flag boolean, feeling mood, who uuid, ratio float4, small smallint, tags text[]
);
INSERT INTO f SELECT i, (SELECT array_agg(sin(i * 0.37 + j * j * 1.7) + cos(i * j * 0.11)) FROM generate_series(1, 16) j)::real[]::vector,
	CASE WHEN i % 9 > 0 THEN i % 50 END, 'kind ' || i % 20, i % 300 / 4.0, date '2024-01-01' + i % 100,
	timestamptz '2024-01-01 00:00+00' + i * interval '1 hour', i % 2 = 0, (enum_range(NULL::mood))[1 + i % 3],
	md5((i % 40)::text)::uuid, CASE i % 10 WHEN 0 THEN 'NaN'::float4 WHEN 1 THEN '-0' WHEN 2 THEN '-infinity' ELSE i % 10 - 5 END, i % 7,
	ARRAY['a', (i % 5)::text]
	FROM generate_series(1, 4000) i;
INSERT INTO f (id, v, tenant) VALUES
	(-1, array_fill(0.5, ARRAY[16])::vector, -9223372036854775808), (-2, array_fill(0.5, ARRAY[16])::vector, -9223372036854775807),
	(-3, array_fill(0.5, ARRAY[16])::vector, 9223372036854775807);
CREATE INDEX f_keys ON f USING ann (v vector_l2_ops, tenant, kind, price, day, at, flag, feeling, who, ratio, small, tags);
ANALYZE f;
SELECT ann_check('f_keys');
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'f_keys'::regclass ORDER BY attnum;

-- whether the index gives all rows that a condition takes, in the plan that it is an index condition of
CREATE FUNCTION same(condition text, indexed boolean DEFAULT true, of text DEFAULT 'f') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	query text := format('SELECT id FROM %s WHERE %s ORDER BY v <-> array_fill(0.3, ARRAY[16])::vector', of, condition);
	exact int[]; found int[]; line text; checked boolean := false;
BEGIN
	SET LOCAL enable_indexscan = off;
	EXECUTE format('SELECT array_agg(id ORDER BY id) FROM (%s OFFSET 0) AS x', query) INTO exact;
	SET LOCAL enable_indexscan = on;
	SET LOCAL enable_seqscan = off;
	SET LOCAL enable_sort = off;
	SET LOCAL enable_bitmapscan = off;
	FOR line IN EXECUTE 'EXPLAIN (COSTS off) ' || query LOOP
		checked := checked OR line ~ 'Index Cond';
	END LOOP;
	EXECUTE format('SELECT array_agg(id ORDER BY id) FROM (%s OFFSET 0) AS x', query) INTO found;
	RETURN CASE WHEN indexed AND NOT checked THEN 'no index condition' WHEN found IS DISTINCT FROM exact
		THEN format('%s rows, not %s', cardinality(found), cardinality(exact)) ELSE format('%s rows', coalesce(cardinality(exact), 0)) END;
END $$;
SELECT c AS condition, same(c) FROM unnest(ARRAY[
	'tenant = 7', 'tenant = 7::smallint', 'tenant = 7::int', 'tenant < 3', 'tenant <= 3', 'tenant > 47', 'tenant >= 47',
	'tenant BETWEEN 5 AND 6', 'tenant IS NULL', 'tenant IS NOT NULL',
	'tenant = -9223372036854775808', 'tenant < -9223372036854775807', 'tenant <= -9223372036854775807',
	'tenant > -9223372036854775807 AND tenant < 0', 'tenant > -9223372036854775808 AND tenant < 0',
	'tenant > 9223372036854775806', 'tenant > 9223372036854775807', 'tenant = 7 AND kind = ''kind 7''', 'kind = ''kind 3''',
	'price = 10.25', 'price < 0.5', 'price > 74.5 AND flag', 'price >= ''NaN''',
	'day = ''2024-02-01''', 'day >= ''2024-04-01''', 'at < ''2024-01-02 00:00+00''', 'flag IS NULL', 'feeling = ''happy''',
	 'who = md5(''5'')::uuid', 'ratio = 0', 'ratio = ''NaN''',
	'ratio < -4::float8', 'ratio > 3', 'ratio <= ''-infinity''', 'small = 3', 'small > 5::bigint', 'tags = ARRAY[''a'', ''3'']']) AS c;
-- Index conditions from PostgreSQL 16 (boolean columns) and 17 (lists of values) on.
SELECT c AS condition, same(c, indexed => false) FROM unnest(ARRAY[
	'flag', 'NOT flag AND tenant = 7', 'tenant IN (3, 5, NULL, 99)', 'tenant = ANY (ARRAY[1, 2])',
	'tenant = ANY (''{}''::bigint[])', 'tenant < ANY (ARRAY[2, 5])', 'tenant > ANY (ARRAY[47, 48])', 'tenant = NULL::bigint',
	'kind IN (''kind 1'', ''kind 2'')', 'feeling IN (''ok'', ''sad'')']) AS c;

-- the vector itself can be asked for NULL only; rows of which it is are not in the index
SELECT same('v IS NOT NULL AND tenant = 7');
INSERT INTO f (id, tenant) VALUES (-10, 7);
SET enable_seqscan = off;
SELECT id FROM f WHERE v IS NULL;
RESET enable_seqscan;
DELETE FROM f WHERE id = -10;

-- changes
UPDATE f SET tenant = 7 WHERE id % 10 = 1;
DELETE FROM f WHERE id % 4 = 0;
SELECT same('tenant = 7');
VACUUM f;
SELECT same('tenant = 7'), ann_check('f_keys');
INSERT INTO f SELECT 10000 + i, (SELECT array_agg(sin(i * 0.3 + j * 1.7)) FROM generate_series(1, 16) j)::real[]::vector, i % 3 FROM generate_series(1, 1500) i;
SELECT same('tenant = 2'), same('kind IS NULL'), ann_check('f_keys');

-- what the planner makes of it: keys are used, and few rows of a B-tree are sorted
ANALYZE f;
CREATE FUNCTION plan_of_filter(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN RETURN QUERY EXECUTE 'EXPLAIN (COSTS off) ' || query; END $$;
SELECT plan_of_filter('SELECT id FROM f WHERE tenant = 7 AND kind = ''kind 3'' ORDER BY v <-> array_fill(0.3, ARRAY[16])::vector LIMIT 5');
PREPARE p(bigint) AS SELECT count(*) FROM (SELECT id FROM f WHERE tenant = $1 ORDER BY v <-> array_fill(0.3, ARRAY[16])::vector LIMIT 20) AS x;
SET plan_cache_mode = force_generic_plan;
EXECUTE p(7);
EXECUTE p(NULL);
SELECT count(*) FROM generate_series(1, 5) AS t, LATERAL (SELECT id FROM f WHERE tenant = t ORDER BY v <-> array_fill(0.3, ARRAY[16])::vector LIMIT 3) AS x;
-- collations: equal is what the collation says
CREATE TABLE fc (v vector(2), name text COLLATE "C");
INSERT INTO fc SELECT ARRAY[i, i]::real[]::vector, chr(65 + i % 26) FROM generate_series(1, 500) i;
CREATE INDEX ON fc USING ann (v, name);
SET enable_seqscan = off;
SELECT plan_of_filter('SELECT * FROM fc WHERE name = ''D'' ORDER BY v <-> ''[1,1]'' LIMIT 2');
SELECT * FROM fc WHERE name = 'D' ORDER BY v <-> '[1,1]' LIMIT 2;

-- types that are rare as keys; money is an integer inside
CREATE TABLE rare (
	id int, v vector(16), raw bytea, flags bit(5), marks varbit, price money, span int4range, spans int4multirange, nic macaddr8, lsn pg_lsn, xid xid8
);
INSERT INTO rare SELECT i, (SELECT array_agg(sin(i * 0.37 + j * 1.7)) FROM generate_series(1, 16) j)::real[]::vector,
	CASE WHEN i % 9 > 0 THEN decode(lpad(to_hex(i % 40), 4, '0'), 'hex') END, (i % 32)::bit(5), substring((i % 32)::bit(5) FROM 1 FOR 1 + i % 5)::varbit,
	(i % 50 - 25)::money, int4range(i % 7, 10), int4multirange(int4range(i % 5, 10), int4range(20, 30)), ('08002b010203040' || i % 4)::macaddr8,
	('0/' || i % 6)::pg_lsn, (i % 8)::text::xid8
	FROM generate_series(1, 2000) i;
CREATE INDEX rare_keys ON rare USING ann (v vector_l2_ops, raw, flags, marks, price, span, spans, nic, lsn, xid);
ANALYZE rare;
SELECT c AS condition, same(c, of => 'rare') FROM unnest(ARRAY[
	'raw = ''\x0007''', 'raw IS NULL', 'flags = b''00111''', 'marks = b''0''', 'marks = b''00''', 'price < (-20)::money', 'price = 3::money',
	'price >= 20::money', 'span = ''[3,10)''', 'spans = ''{[2,10),[20,30)}''', 'nic = ''08:00:2b:01:02:03:04:02''', 'lsn = ''0/3''', 'xid = ''5''']) AS c;

-- wrong use
CREATE INDEX ON f USING ann (tenant, v vector_l2_ops);
CREATE INDEX ON f USING ann (tenant);
CREATE INDEX ON f USING ann (v vector_l2_ops, v vector_cosine_ops);
CREATE INDEX ON f USING ann (v vector_l2_ops, (point(1, 2)));
DROP TABLE f, fc, rare;
