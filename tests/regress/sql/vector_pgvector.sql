-- The casts to pgvector's types are refused clearly where pgvector is not installed.
\set VERBOSITY terse
SELECT pg_answer_create_pgvector_casts();
