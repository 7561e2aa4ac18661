-- Clusters, labels, near-duplicates, recommendations.
\set VERBOSITY terse
CREATE TABLE heaps (id int PRIMARY KEY, v vector(2), h halfvec(2));
INSERT INTO heaps SELECT i, v, v::halfvec FROM (
    SELECT i, ARRAY[(i % 3) * 10 + i * 0.01, (i % 3) - i * 0.01]::vector AS v FROM generate_series(1, 30) i) x;
INSERT INTO heaps VALUES (31, NULL, NULL);
-- Each heap is one cluster, numbered in the order of the window; NULL belongs to none.
SELECT id % 3 AS heap, array_agg(DISTINCT c) AS clusters, array_agg(DISTINCT d) AS halfvec_clusters FROM (
    SELECT id, v, kmeans(v, 3) OVER (ORDER BY id) AS c, kmeans(h, 3, seed => 7) OVER (ORDER BY id) AS d FROM heaps) x
WHERE v IS NOT NULL GROUP BY 1 ORDER BY 1;
SELECT id, c FROM (SELECT id, kmeans(v, 3) OVER (ORDER BY id) AS c FROM heaps) x WHERE id = 31;
-- Each partition by itself; fewer rows than clusters; one row; no vectors at all.
SELECT id, kmeans(v, 2) OVER (PARTITION BY id % 3 ORDER BY id) AS c FROM heaps WHERE id IN (1, 4, 7, 3, 31) ORDER BY id;
SELECT kmeans(v, 5) OVER () FROM heaps WHERE id = 1;
SELECT kmeans(v, 5) OVER () FROM heaps WHERE id = 31;
SELECT kmeans(v, 5) OVER () FROM heaps WHERE false;
-- More rows than are trained on, a computed argument, the same every time.
SELECT count(*), count(DISTINCT c), bool_and(c = d) AS same FROM (
    SELECT kmeans((v + v)::vector(2), 3, 42) OVER w AS c, kmeans((v + v)::vector(2), 3, 42) OVER w AS d
    FROM heaps, generate_series(1, 400) WHERE v IS NOT NULL WINDOW w AS (ORDER BY id)) x;
SELECT kmeans(v, 0) OVER () FROM heaps;
SELECT kmeans(v, NULL) OVER () FROM heaps;
SELECT kmeans(v, 2) FROM heaps;
SELECT kmeans(x, 2) OVER () FROM (VALUES ('[1]'::vector), ('[1,2]')) t(x);

SELECT nearest_label('[1,0.1]', ARRAY['east', 'north', NULL], ARRAY['[1,0]', '[0,1]', '[1,0.1]']::vector[]);
SELECT nearest_label('[0,0]', ARRAY['east'], ARRAY['[1,0]']::vector[]) IS NULL AS none;
SELECT nearest_label(NULL::vector, ARRAY['east'], ARRAY['[1,0]']::vector[]) IS NULL AS none;

-- Pairs, each once, with an index and without.
CREATE TABLE near (a int, b text, v vector(2), PRIMARY KEY (a, b));
INSERT INTO near VALUES (1, 'x', '[1,0]'), (1, 'y', '[1,0.01]'), (2, 'x', '[0,1]'), (3, 'x', '[2,0.01]'), (4, 'x', '[0,0]'), (5, 'x', NULL);
SELECT least(key_a::text, key_b::text), greatest(key_a::text, key_b::text), round(similarity::numeric, 4)
FROM similar_pairs('near') ORDER BY 1, 2;
SELECT count(*) FROM similar_pairs('near', threshold => -1);
CREATE INDEX ON near USING ann (v vector_cosine_ops);
SET enable_seqscan = off;
SELECT count(*) FROM similar_pairs('near', 'v', 0.99);
-- More duplicates than the first look takes in.
INSERT INTO near SELECT 100 + i, 'z', '[-1,-1]' FROM generate_series(1, 40) i;
SELECT count(*) FROM similar_pairs('near', 'v', 0.999) WHERE key_a ->> 'b' = 'z' AND key_b ->> 'b' = 'z';
RESET enable_seqscan;
SELECT * FROM similar_pairs('near', threshold => 2);
SELECT * FROM similar_pairs('near', 'a');
SELECT * FROM similar_pairs('heaps');
SELECT * FROM similar_pairs('pg_class');

SELECT key, round(score::numeric, 3) FROM recommend('heaps', '[3]', k => 2, embedding => 'v');
SELECT key FROM recommend('heaps', '[{"id": 3}, 6]', disliked => '[1]', k => 1, embedding => 'h');
SELECT key FROM recommend('near', '[{"a": 1, "b": "x"}]', k => 1);
SELECT * FROM recommend('near', '[]');
SELECT * FROM recommend('near', '[{"a": 77, "b": "x"}]');
SELECT * FROM recommend('near', '5');
SELECT * FROM recommend('near', '[]', k => 0);
SELECT * FROM recommend('heaps', '["x"]', embedding => 'v');
DROP TABLE heaps, near;
