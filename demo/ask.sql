-- Asks :question and shows what the answer rests on.
\echo
\echo 'Q:' :question
SELECT * FROM rag_answer_details(:'question') \gset
\echo 'A:' :answer
SELECT format('   [%s] %s > %s (%s): %s', c.n ->> 'passage', m.title, m.section, m.page, c.n ->> 'quote')
FROM jsonb_array_elements(:'citations') AS c(n) JOIN manual m ON m.id = (c.n #>> '{key,id}')::bigint;
\echo '   in' :total_ms 'ms'
