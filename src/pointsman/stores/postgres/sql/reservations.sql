-- Reservations. Their rows are written by appends (append.sql).

-- name: of
-- All that spend from a tranche.
SELECT v.tranche, r.id, v.sequence FROM reservations v JOIN runs r ON r.number = v.number
WHERE v.tranche = $1 ORDER BY r.id, v.sequence LIMIT $2

-- name: forget
-- A tranche is settled.
DELETE FROM reservations WHERE tranche = $1
