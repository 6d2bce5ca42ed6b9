-- Retention. There are no partitions here: the events of a run are deleted with it.

-- name: buckets
-- What each bucket holds. The size is that of the bodies.
SELECT bucket, count(*), count(*) FILTER (WHERE ended_at IS NULL), min(created_at) FILTER (WHERE ended_at IS NULL),
       sum((SELECT coalesce(sum(length(coalesce(packed, body))), 0) FROM streams s WHERE s.number = runs.number))
FROM runs GROUP BY bucket ORDER BY bucket

-- name: past
-- Buckets before one.
SELECT DISTINCT bucket FROM runs WHERE bucket < ? ORDER BY bucket

-- name: deletable
-- Runs of buckets up to :bucket that ended before :before, without children that are kept, and whose parent ended too.
SELECT r.number, r.id FROM runs r
WHERE r.bucket <= :bucket AND r.ended_at < :before
  AND NOT EXISTS (SELECT 1 FROM runs c WHERE c.parent = r.id)
  AND NOT EXISTS (SELECT 1 FROM runs p WHERE p.id = r.parent AND (p.ended_at IS NULL OR p.ended_at >= :before))
LIMIT :limit

-- name: fence_parents
-- A new epoch for the parents of these: a redrive that was decided while its child was there is refused.
UPDATE runs SET epoch = epoch + 1
WHERE id IN (SELECT r.parent FROM runs r WHERE r.id IN (SELECT value FROM json_each(?)))

-- name: delete_events
-- The events of a run.
DELETE FROM streams WHERE number = ?

-- name: delete_run
-- Its head.
DELETE FROM runs WHERE number = ?

-- name: delete_mail
-- Its mail.
DELETE FROM mailbox WHERE run = ?

-- name: delete_quarantined
-- What repairs moved away of it.
DELETE FROM quarantined_events WHERE run = ?

-- name: delete_tasks
-- Its tasks.
DELETE FROM human_tasks WHERE run = ?

-- name: delete_states
-- Its typed state.
DELETE FROM states WHERE run = ?

-- name: delete_reservations
-- Those of deleted runs. A small table: a tranche that is settled has none left.
DELETE FROM reservations WHERE number NOT IN (SELECT number FROM runs)

-- name: move
-- Runs of one bucket to another. Their events belong to the run alone.
UPDATE runs SET bucket = :to WHERE number IN (SELECT number FROM runs WHERE bucket = :bucket ORDER BY number LIMIT :limit)

-- name: left
-- How many runs are in a bucket.
SELECT count(*) FROM runs WHERE bucket = ?
