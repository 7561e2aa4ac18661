\echo Use "CREATE EXTENSION pg_answer" to load this file. \quit

-- Models read and write UTF-8, and Rust's strings are UTF-8: in another encoding every text would need a conversion
-- that can fail.
DO $$
BEGIN
    IF pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.<>) 'UTF8' THEN
        RAISE EXCEPTION 'pg_answer needs a database with the encoding UTF8' USING
            ERRCODE = 'feature_not_supported',
            DETAIL = pg_catalog.format('The encoding of database "%s" is %s.',
                                       pg_catalog.current_database(), pg_catalog.getdatabaseencoding()),
            HINT = 'Make one: CREATE DATABASE name ENCODING ''UTF8'' LOCALE ''C.UTF-8'' TEMPLATE template0;';
    END IF;
END $$;
