-- Asks :question and shows what the answer rests on: the passages that reach rag_answer's own min_score.
\echo
\echo 'Q:' :question
\timing on
SELECT 'A: ' || rag_answer(:'question');
\timing off
SELECT format('   [%s] %s  %s%s (%s)', row_number() OVER (ORDER BY r.score DESC), round(r.score::numeric, 2), r.title,
              nullif(' > ' || m.section, ' > '), m.page)
FROM (SELECT *, max(vector_score) OVER () AS nearest FROM rag_retrieve(:'question', 'manual')) r
JOIN manual m ON m.id = (r.key ->> 'id')::bigint
WHERE r.nearest >= 0.4
ORDER BY r.score DESC;
