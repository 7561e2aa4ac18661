-- Asks :question and shows what the answer rests on.
\echo
\echo 'Q:' :question
SELECT *, round(total_ms::numeric / 1000, 1) AS seconds FROM rag_answer_details(:'question') \gset
\echo 'A:' :answer
SELECT format('   [%s] %s (%s): %s', c.n ->> 'passage', concat_ws(' > ', m.title, nullif(m.section, '')), m.page, regexp_replace(c.n ->> 'quote', '\s+', ' ', 'g'))
FROM jsonb_array_elements(:'citations') AS c(n) JOIN manual m ON m.id = (c.n #>> '{key,id}')::bigint;
\echo '   in' :seconds 's'
