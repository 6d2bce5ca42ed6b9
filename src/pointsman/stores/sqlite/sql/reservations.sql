-- Reservations. Their rows are written by appends (log.sql).

-- name: of
-- All that spend from a tranche.
SELECT v.tranche, r.id, v.sequence FROM reservations v JOIN runs r ON r.number = v.number
WHERE v.tranche = ? ORDER BY r.id, v.sequence LIMIT ?

-- name: forget
-- A tranche is settled.
DELETE FROM reservations WHERE tranche = ?
