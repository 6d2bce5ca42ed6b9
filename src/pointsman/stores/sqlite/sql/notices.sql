-- Notices. Their rows are written by appends (log.sql).

-- name: take
-- Those that are due, the oldest first; they are due again when they were held long enough.
UPDATE notices SET due_at = :again
WHERE id IN (SELECT id FROM notices WHERE due_at <= :now ORDER BY due_at, id LIMIT :limit)
RETURNING id, at, body, tries

-- name: postpone
-- Told in vain so often, and due again later.
UPDATE notices SET due_at = :due_at, tries = :tries WHERE id = :id

-- name: settle
-- Told, or given up.
DELETE FROM notices WHERE id = ?
