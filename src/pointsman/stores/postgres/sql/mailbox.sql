-- The mailbox. Its rows stay until their run is deleted.

-- name: post
-- Count one mail on the head, make an unowned run due, and keep the mail under its number. Adds nothing to an ended run.
-- A key that the run has is a unique violation, which takes all of it back.
WITH addressed AS (
    UPDATE runs
    SET mail = mail + 1, wake_at = CASE WHEN owner IS NULL THEN least(wake_at, now()) END, updated_at = now()
    WHERE id = $1 AND ended_at IS NULL
    RETURNING mail
)
INSERT INTO mailbox (run, key, kind, body, number) SELECT $1, $2, $3, $4, mail FROM addressed
RETURNING number

-- name: refusal
-- Why a mail was not taken: no row, the run is unknown; has_key, it is a duplicate; else the run has ended.
SELECT EXISTS (SELECT FROM mailbox m WHERE m.run = r.id AND m.key = $2) AS has_key FROM runs r WHERE r.id = $1

-- name: read_mail
-- Mails of a run behind a number.
SELECT number, key, kind, body, at FROM mailbox WHERE run = $1 AND number > $2 ORDER BY number

-- name: find_mail
-- The mail of a key.
SELECT number, key, kind, body, at FROM mailbox WHERE run = $1 AND key = $2

-- name: unread
-- Runs of an owner whose mail is not all folded.
SELECT id, mail FROM runs WHERE owner = $1 AND mail > folded
