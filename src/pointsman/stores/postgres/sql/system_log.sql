-- The system log: streams without an owner, where the expected sequence decides.

-- name: head_columns
-- A head, in the order of `SystemHead`'s fields.
stream, sequence, state, updated_at

-- name: append
-- Move a stream from its expected sequence, or make it where that is 0, and insert the events only then. Whoever comes second
-- waits for the first, and then finds another sequence (or, making it, the row): no row comes back.
-- All events but the last $11 are cut, but only when the sequence reaches a multiple of $12, so that most appends delete nothing.
WITH moved AS (
    UPDATE system_streams
    SET sequence = $2::bigint + $3::int, state = $4::json, xid = pg_current_xact_id()::text::bigint, updated_at = now()
    WHERE stream = $1::text AND sequence = $2 AND $2 > 0
    RETURNING sequence, updated_at
), made AS (
    INSERT INTO system_streams (stream, sequence, state, xid, updated_at)
    SELECT $1, $3, $4, pg_current_xact_id()::text::bigint, now() WHERE $2 = 0
    ON CONFLICT (stream) DO NOTHING
    RETURNING sequence, updated_at
), head AS MATERIALIZED (
    SELECT * FROM moved UNION ALL SELECT * FROM made
), inserted AS (
    INSERT INTO system_events (stream, sequence, at, type, version, body, packed, codec)
    SELECT $1, $2 + e.n, e.at, e.type, e.version, coalesce(e.body, 'null'), coalesce(e.packed, ''), coalesce(e.codec, 0)
    FROM head h
    CROSS JOIN unnest($5::bigint[], $6::text[], $7::smallint[], $8::json[], $9::bytea[], $10::smallint[])
               WITH ORDINALITY AS e (at, type, version, body, packed, codec, n)
), cut AS (
    DELETE FROM system_events e USING head h
    WHERE e.stream = $1 AND e.sequence <= h.sequence - $11::bigint AND $2 / $12::bigint < ($2 + $3) / $12
)
SELECT sequence, updated_at FROM head

-- name: head
-- Where a stream stands.
SELECT
    -- include: head_columns
FROM system_streams WHERE stream = $1

-- name: heads
-- Those that begin with $1, behind $2, by name. The first condition is what the index can use.
SELECT
    -- include: head_columns
FROM system_streams
WHERE stream >= $1 AND stream > $2 AND starts_with(stream, $1)
ORDER BY stream LIMIT $3

-- name: changes
-- Heads of transactions from $2 on, and from where to go on: every transaction that this statement does not see yet is at or
-- above that, however late it commits. One that it saw may be above it too, and is then shown twice.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon,
    -- include: head_columns
FROM (VALUES (1)) AS always LEFT JOIN system_streams ON xid >= $2::bigint AND starts_with(stream, $1::text)
ORDER BY stream

-- name: read
-- A stretch of a stream, as far as it is still kept.
SELECT sequence, at, type, version, body, packed, codec FROM system_events
WHERE stream = $1 AND sequence > $2 ORDER BY sequence LIMIT $3
