-- Notices. Their rows are written by appends (log.sql).

-- name: take
-- Those that are due, the oldest first; they are due again when they were held long enough.
UPDATE notices SET due_at = :again, tries = tries + 1
WHERE id IN (SELECT id FROM notices WHERE due_at <= :now ORDER BY due_at, id LIMIT :limit)
RETURNING id, at, body, tries

-- name: postpone
-- Due again later.
UPDATE notices SET due_at = ? WHERE id = ?

-- name: settle
-- Told, or given up.
DELETE FROM notices WHERE id = ?
