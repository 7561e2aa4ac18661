-- Binary and text COPY through a file of the client: what goes out comes back.
CREATE TABLE source_rows (v vector(3), h halfvec(3));
INSERT INTO source_rows VALUES ('[1,2,3]', '[1,2,3]'), ('[-1.5,0,1e-30]', '[-1.5,0,65504]'), (NULL, NULL);
CREATE TABLE loaded (LIKE source_rows);
\copy source_rows TO 'vector_copy.bin' WITH (FORMAT binary)
\copy loaded FROM 'vector_copy.bin' WITH (FORMAT binary)
\copy source_rows TO 'vector_copy.txt'
\copy loaded FROM 'vector_copy.txt'
SELECT v, h, count(*) FROM loaded GROUP BY v, h ORDER BY v;
CREATE TABLE two (v vector(2), h halfvec(2));
\set VERBOSITY sqlstate
\copy two FROM 'vector_copy.bin' WITH (FORMAT binary)
DROP TABLE source_rows, loaded, two;
