-- The mailbox. Its rows stay until their run is deleted.

-- name: addressee
-- The run, and whether it has the key.
SELECT r.mail, r.ended_at, EXISTS (SELECT 1 FROM mailbox m WHERE m.run = r.id AND m.key = :key) FROM runs r WHERE r.id = :run

-- name: count
-- One mail more; an unowned run is due at once.
UPDATE runs SET mail = mail + 1, updated_at = :now,
    wake_at = CASE WHEN owner IS NULL THEN min(coalesce(wake_at, :now), :now) ELSE wake_at END
WHERE id = :run

-- name: insert
-- The mail under its number.
INSERT INTO mailbox (run, key, number, kind, body, at) VALUES (?, ?, ?, ?, ?, ?)

-- name: read
-- Mails of a run behind a number.
SELECT number, key, kind, body, at FROM mailbox WHERE run = ? AND number > ? ORDER BY number

-- name: find
-- The mail of a key.
SELECT number, key, kind, body, at FROM mailbox WHERE run = ? AND key = ?

-- name: unread
-- Runs of an owner whose mail is not all folded.
SELECT id, mail FROM runs WHERE owner = ? AND mail > folded
