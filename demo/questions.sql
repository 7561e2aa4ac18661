-- Five questions that the manual answers, and one that it does not.
\pset format unaligned
\pset tuples_only on
\set question 'Which configuration file decides who may connect from which host?'
\ir ask.sql
\set question 'How much memory may a single sort use before it spills to disk, by default?'
\ir ask.sql
\set question 'Which signal do I send the server process for a fast shutdown?'
\ir ask.sql
\set question 'If I don''t choose one, which transaction isolation level am I using?'
\ir ask.sql
\set question 'How do I make a random UUID in SQL?'
\ir ask.sql
\set question 'Who won the men''s football World Cup in 2018?'
\ir ask.sql
