-- A fresh database: the manual's passages, with room for a vector each.
BEGIN;
CREATE EXTENSION pg_answer;
CREATE TABLE manual (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    page text NOT NULL,
    title text NOT NULL,
    section text NOT NULL,
    body text NOT NULL,
    embedding vector(384)
);
CREATE TABLE manual_pages (page text PRIMARY KEY, chapter text NOT NULL);
\copy manual_pages from pages
\copy manual (page, title, section, body) from passages
SELECT create_source('manual', content => 'body', embedding => 'embedding', title => 'title') \g /dev/null
COMMIT;
ANALYZE;
