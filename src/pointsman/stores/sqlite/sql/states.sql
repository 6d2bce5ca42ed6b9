-- The typed state of runs. Appends write it.

-- name: write
-- What stands.
INSERT INTO states (run, version, sequence, updated_at, value) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (run) DO UPDATE
SET version = excluded.version, sequence = excluded.sequence, updated_at = excluded.updated_at, value = excluded.value

-- name: delete
-- Nothing does.
DELETE FROM states WHERE run = ?

-- name: of
-- Of a JSON array of ids.
SELECT s.run, s.version, s.value, s.sequence FROM json_each(?) wanted CROSS JOIN states s ON s.run = wanted.value

-- name: is_at
-- Does a head stand there?
SELECT 1 FROM runs WHERE id = ? AND epoch = ? AND sequence = ?
