-- Gives a vector to every passage that has none, in batches that commit, so a run that was cut goes on later.
-- :minutes is about how long it may take; what does not fit is left out by whole chapters.
\set VERBOSITY terse
SELECT set_config('demo.minutes', :'minutes', false) \g /dev/null

-- The chapters that the questions are about come first.
CREATE TEMP TABLE chapters AS
SELECT p.chapter,
       bool_or(p.page IN ('auth-pg-hba-conf.html', 'indexes-types.html', 'server-shutdown.html',
                          'functions-uuid.html')) AS needed,
       min(m.id) AS place,
       count(*) AS passages
FROM manual m JOIN manual_pages p USING (page)
GROUP BY p.chapter;

DO $$
DECLARE
    room float8 := current_setting('demo.minutes')::float8 * 60;
    total bigint;
    done bigint := 0;
    batch bigint;
    last bigint := 0;
    began timestamptz;
    told timestamptz;
    seconds float8;
    whole float8;
    taken text;
BEGIN
    PERFORM embed('so that the first batch does not pay for the model');
    SELECT count(*) INTO total FROM manual WHERE embedding IS NULL;
    began := clock_timestamp();
    told := began;
    LOOP
        WITH passages AS (
            SELECT id, body FROM manual WHERE id > last AND embedding IS NULL ORDER BY id LIMIT 64
        ), vectors AS (
            SELECT array_agg(id ORDER BY id) AS ids,
                   embed(array_agg(body ORDER BY id), 'all-MiniLM-L6-v2') AS embeddings
            FROM passages
        ), updated AS (
            UPDATE manual m SET embedding = v.embedding
            FROM (SELECT u.* FROM vectors, unnest(ids, embeddings) AS u (id, embedding)) v
            WHERE m.id = v.id
            RETURNING m.id
        )
        SELECT count(*), max(id) INTO batch, last FROM updated;
        EXIT WHEN batch = 0;
        COMMIT;
        done := done + batch;
        seconds := extract(epoch FROM clock_timestamp() - began);

        -- The first batch tells how long all would take; a fifth more than allowed is no reason to leave out any.
        IF done = batch AND total * seconds / done > room * 1.2 THEN
            whole := total * seconds / done;
            WITH sums AS (
                SELECT chapter, sum(passages) OVER (ORDER BY needed DESC, place) AS so_far FROM chapters
            ), too_many AS (
                SELECT chapter FROM sums WHERE so_far * seconds / done > room
            )
            DELETE FROM manual m USING manual_pages p, too_many
                WHERE m.page = p.page AND p.chapter = too_many.chapter;
            SELECT count(*) INTO total FROM manual WHERE embedding IS NULL;
            total := total + done;
            SELECT string_agg(chapter, '; ' ORDER BY chapter) INTO taken
                FROM chapters c WHERE EXISTS (SELECT FROM manual_pages p JOIN manual m USING (page) WHERE p.chapter = c.chapter);
            RAISE NOTICE 'at % passages a second the whole manual would take % minutes, so these chapters only: %',
                round((done / seconds)::numeric, 1), round((whole / 60)::numeric, 1), taken;
            COMMIT;
        END IF;

        IF clock_timestamp() - told > interval '5 seconds' OR done >= total THEN
            told := clock_timestamp();
            RAISE NOTICE '% of % passages, % a second, % s left', done, total, round((done / seconds)::numeric, 1),
                greatest(0, ceil((total - done) * seconds / done));
        END IF;
    END LOOP;
END $$;

VACUUM ANALYZE manual;
