-- Retention: deleting runs, moving what is kept, and the partitions that hold the buckets.

-- name: partitions
-- Every table that is a partition, is being detached, or was and is not dropped yet.
SELECT c.relname AS name, i.inhrelid IS NOT NULL AS is_attached, coalesce(i.inhdetachpending, false) AS is_pending,
       pg_total_relation_size(c.oid) AS size
FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
WHERE c.relkind = 'r' AND c.relname ~ '^streams_(minus_)?[0-9]+$'
  AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'streams'::regclass)

-- name: counts
-- The runs of each bucket.
SELECT bucket, count(*) AS runs, count(*) FILTER (WHERE ended_at IS NULL) AS open_runs,
       min(created_at) FILTER (WHERE ended_at IS NULL) AS oldest_open
FROM runs GROUP BY bucket

-- name: now
-- The clock.
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint

-- name: delete
-- Runs of buckets up to $1 that ended before $2, as far as nobody deletes them already. This statement's snapshot only proposes:
-- a failed run may be redriven meanwhile, and then wants its children. So parents are locked too, which looks at them as they
-- are now; and get a new epoch, so that a redrive that was decided while the child was there is refused. Nobody waits here.
-- Events stay until their bucket is dropped.
WITH old AS MATERIALIZED (
    SELECT r.id, r.parent FROM runs r
    WHERE r.bucket <= $1 AND r.ended_at < $2
      AND NOT EXISTS (SELECT FROM runs c WHERE c.parent = r.id)
      AND NOT EXISTS (SELECT FROM runs p WHERE p.id = r.parent AND (p.ended_at IS NULL OR p.ended_at >= $2))
    LIMIT $3
    FOR UPDATE OF r SKIP LOCKED
), parents AS MATERIALIZED (
    SELECT p.id FROM runs p JOIN (SELECT DISTINCT parent FROM old) o ON o.parent = p.id
    WHERE p.ended_at < $2
    FOR NO KEY UPDATE OF p SKIP LOCKED
), gone AS MATERIALIZED (
    SELECT o.id, p.id AS parent
    FROM old o LEFT JOIN parents p ON p.id = o.parent LEFT JOIN runs known ON known.id = o.parent
    WHERE p.id IS NOT NULL OR known.id IS NULL
), fenced AS (
    UPDATE runs p SET epoch = p.epoch + 1 FROM (SELECT DISTINCT parent FROM gone) g WHERE p.id = g.parent
), mails AS (
    DELETE FROM mailbox m USING gone g WHERE m.run = g.id
), quarantined AS (
    DELETE FROM quarantined_events q USING gone g WHERE q.run = g.id
), tasks AS (
    DELETE FROM human_tasks t USING gone g WHERE t.run = g.id
), states AS (
    DELETE FROM states s USING gone g WHERE s.run = g.id
), heads AS (
    DELETE FROM runs r USING gone g WHERE r.id = g.id RETURNING r.id
)
SELECT count(*) FROM heads

-- name: delete_reservations
-- Those of deleted runs. A table of few rows, which has no index by run because every call under a shared budget would pay it.
DELETE FROM reservations v WHERE NOT EXISTS (SELECT FROM runs r WHERE r.number = v.number)

-- name: move
-- Runs of bucket $1 to bucket $2, at most $3 of them and about $4 events. Whoever appends first wins: the events are those of
-- this statement's snapshot, so a head moves only while it stands where that snapshot saw it, and is locked from then on. A
-- repair may put another event in the place of the last one, but never under the same epoch. An append that waits for the lock
-- takes the bucket from the head as it then is.
WITH picked AS MATERIALIZED (
    SELECT id, sequence, epoch FROM runs WHERE bucket = $1 LIMIT $3
), seen AS MATERIALIZED (
    SELECT id, sequence, epoch
    FROM (SELECT id, sequence, epoch, sum(sequence) OVER places AS events, row_number() OVER places AS place
          FROM picked WINDOW places AS (ORDER BY id)) counted
    WHERE events <= $4 OR place = 1
), locked AS MATERIALIZED (
    SELECT r.id FROM runs r JOIN seen s ON r.id = s.id
    WHERE r.bucket = $1 AND r.sequence = s.sequence AND r.epoch = s.epoch
    ORDER BY r.id
    FOR UPDATE OF r SKIP LOCKED
), moved AS (
    UPDATE runs r SET bucket = $2 FROM locked l WHERE r.id = l.id RETURNING r.number
), events AS (
    UPDATE streams s SET bucket = $2 FROM moved m WHERE s.number = m.number AND s.bucket = $1
)
SELECT count(*) FROM moved

-- name: left
-- How many runs are in a bucket.
SELECT count(*) FROM runs WHERE bucket = $1

-- name: try_lock
-- One at a time works on partitions. The lock is the session's: it ends with whoever held it.
SELECT pg_try_advisory_lock(hashtext('pointsman retention'), hashtext(coalesce(current_schema(), '')))

-- name: unlock
-- The next, please.
SELECT pg_advisory_unlock(hashtext('pointsman retention'), hashtext(coalesce(current_schema(), '')))
