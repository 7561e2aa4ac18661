-- Five questions that the manual answers, and one that it does not.
\pset format unaligned
\pset tuples_only on
\set question 'Which TCP port does the server listen on unless told otherwise?'
\ir ask.sql
\set question 'CREATE INDEX without a USING clause gives me what kind of index?'
\ir ask.sql
\set question 'Which signal do I send the server process for a fast shutdown?'
\ir ask.sql
\set question 'Of the password methods on offer, which one is the most secure?'
\ir ask.sql
\set question 'How do I make a random UUID in SQL?'
\ir ask.sql
\set question 'Who won the men''s football World Cup in 2018?'
\ir ask.sql
