-- The system log: streams without an owner, where the expected sequence decides.

-- name: head_columns
-- A head, in the order of `SystemHead`'s fields.
stream, sequence, state, updated_at

-- name: sequence
-- Where a stream stands.
SELECT sequence FROM system_streams WHERE stream = ?

-- name: move
-- Its new head.
INSERT INTO system_streams (stream, sequence, state, updated_at, changed)
VALUES (?, ?, ?, ?, (SELECT coalesce(max(changed), 0) + 1 FROM system_streams))
ON CONFLICT (stream) DO UPDATE
SET sequence = excluded.sequence, state = excluded.state, updated_at = excluded.updated_at, changed = excluded.changed

-- name: insert
-- One event.
INSERT INTO system_events (stream, sequence, at, type, version, body) VALUES (?, ?, ?, ?, ?, ?)

-- name: cut
-- Old events.
DELETE FROM system_events WHERE stream = ? AND sequence <= ?

-- name: head
-- One stream.
SELECT
    -- include: head_columns
FROM system_streams WHERE stream = ?

-- name: heads
-- Those that begin with a prefix, by name (code points), behind another.
SELECT
    -- include: head_columns
FROM system_streams WHERE stream >= :prefix AND stream > :after AND substr(stream, 1, length(:prefix)) = :prefix
ORDER BY stream LIMIT :limit

-- name: changes
-- Those that changed since.
SELECT
    -- include: head_columns
FROM system_streams WHERE changed > :since AND substr(stream, 1, length(:prefix)) = :prefix ORDER BY stream

-- name: last_change
-- How many appends all of them have seen.
SELECT coalesce(max(changed), 0) FROM system_streams

-- name: read
-- A stretch of a stream, as far as it is kept.
SELECT sequence, at, type, version, body FROM system_events WHERE stream = ? AND sequence > ? ORDER BY sequence LIMIT ?
