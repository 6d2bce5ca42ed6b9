-- Notices. Their rows are written by appends (append.sql).

-- name: take
-- Those that are due, the oldest first; of those who ask at the same time each gets others. They are due again when they were held
-- long enough.
WITH due AS MATERIALIZED (
    SELECT id FROM notices WHERE due_at <= now() ORDER BY due_at, id LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE notices n SET due_at = now() + $2 * interval '1 millisecond'
FROM due d WHERE n.id = ANY (ARRAY [d.id])
RETURNING n.id, n.at, n.body, n.tries

-- name: postpone
-- Told in vain so often, and due again later.
UPDATE notices SET due_at = now() + $2 * interval '1 millisecond', tries = $3 WHERE id = $1

-- name: settle
-- Told, or given up.
DELETE FROM notices WHERE id = ANY ($1::text[])
