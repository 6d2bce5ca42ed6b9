-- What the doctor asks, and the repairs that it makes. Runs come as a JSON array, or null for all.

-- name: mail_counts
-- Runs whose unread mail is not what their head says.
SELECT r.id, r.mail, r.folded, count(m.number), coalesce(max(m.number), r.folded)
FROM runs r LEFT JOIN mailbox m ON m.run = r.id AND m.number > r.folded
WHERE :runs IS NULL OR r.id IN (SELECT value FROM json_each(:runs))
GROUP BY r.id HAVING r.mail - r.folded <> count(m.number) OR r.mail <> coalesce(max(m.number), r.folded)
ORDER BY r.id LIMIT :limit

-- name: orphans
-- Open runs whose owner is not among the living. When it ended is not kept.
SELECT r.id, r.owner, CASE WHEN c.incarnation IS NOT NULL THEN 0 END
FROM runs r LEFT JOIN coordinators c ON c.incarnation = r.owner
WHERE r.owner IS NOT NULL AND r.ended_at IS NULL AND r.owner NOT IN (SELECT value FROM json_each(:living))
  AND (:runs IS NULL OR r.id IN (SELECT value FROM json_each(:runs)))
ORDER BY r.id LIMIT :limit

-- name: strays
-- Rows of runs that are not there.
SELECT 'events', 'number ' || number, count(*) FROM streams WHERE number NOT IN (SELECT number FROM runs) GROUP BY number
UNION ALL
SELECT 'mail', run, count(*) FROM mailbox WHERE run NOT IN (SELECT id FROM runs) GROUP BY run
UNION ALL
SELECT 'reservations', 'tranche ' || tranche || ', number ' || number, count(*) FROM reservations
WHERE number NOT IN (SELECT number FROM runs) GROUP BY tranche, number
LIMIT :limit

-- name: moved_away
-- Events of a run that repairs have moved away.
SELECT count(*) FROM quarantined_events WHERE run = ?

-- name: cut_head
-- The head of a run that is cut, if it is the one that was seen; the last generation may be among what is moved.
UPDATE runs
SET epoch = epoch + 1, sequence = :kept + 1, folded = :folded, status = 'running', owner = NULL, wake_at = :now, takeovers = 0,
    updated_at = :now,
    base = coalesce((SELECT max(s.sequence) FROM streams s
                     WHERE s.number = runs.number AND s.type = 'RunRestarted' AND s.sequence <= :kept), 1),
    generation = 1 + (SELECT count(*) FROM streams s
                      WHERE s.number = runs.number AND s.type = 'RunRestarted' AND s.sequence <= :kept)
WHERE id = :run AND epoch = :epoch AND sequence = :sequence AND ended_at IS NULL
RETURNING number, epoch

-- name: keep_cut
-- What is moved away, as it stood.
INSERT INTO quarantined_events (moved_at, run, reason, position, number, sequence, at, epoch, version, checksum, codec, type, body,
                                packed, nonce)
SELECT :now, :run, :reason, position, number, sequence, at, epoch, version, checksum, codec, type, body, packed, nonce
FROM streams WHERE number = :number AND sequence > :kept

-- name: cut_events
-- The suffix.
DELETE FROM streams WHERE number = :number AND sequence > :kept

-- name: cut_reservations
-- Their places in the stream will be taken by other events.
DELETE FROM reservations WHERE number = :number AND sequence > :kept

-- name: recount_mail
-- Count mail as far as the last one that is there.
UPDATE runs
SET epoch = epoch + 1, owner = NULL, wake_at = :now, updated_at = :now,
    mail = max(folded, coalesce((SELECT max(number) FROM mailbox WHERE run = :run), 0))
WHERE id = :run AND epoch = :epoch AND ended_at IS NULL
