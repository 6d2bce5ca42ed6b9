-- The typed state of runs. Appends write it (append.sql).

-- name: of
-- Of those that have one.
SELECT run, version, value, sequence FROM states WHERE run = ANY ($1::text[])

-- name: rewrite
-- What stands by the log ($4 = 0: nothing), while the head is where the log was read. It is locked, so that no append writes
-- something newer meanwhile.
WITH head AS (
    SELECT id FROM runs WHERE id = $1 AND epoch = $2 AND sequence = $3 FOR UPDATE
), written AS (
    INSERT INTO states (run, version, sequence, updated_at, value)
    SELECT id, $4::int, $5::int, now(), $6::json FROM head WHERE $4::int > 0
    ON CONFLICT (run) DO UPDATE
    SET version = excluded.version, sequence = excluded.sequence, updated_at = excluded.updated_at, value = excluded.value
), deleted AS (
    DELETE FROM states s USING head h WHERE s.run = h.id AND $4::int = 0
)
SELECT id FROM head
