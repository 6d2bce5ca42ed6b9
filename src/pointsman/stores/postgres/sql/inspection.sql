-- What the doctor asks, and the repairs that it makes.

-- name: settings
-- What matters of how the server is set up.
SELECT name, setting FROM pg_settings
WHERE name = ANY (ARRAY ['server_version', 'server_version_num', 'fsync', 'full_page_writes', 'synchronous_commit', 'wal_level',
                         'data_checksums', 'max_connections'])

-- name: sessions
-- Sessions that clients have, and how many of them hold a transaction and do nothing; how many ms the oldest writing transaction is old; the server's time.
SELECT count(*) FILTER (WHERE backend_type = 'client backend')::int AS clients,
       count(*) FILTER (WHERE state LIKE 'idle in transaction%' AND state_change < now() - interval '1 minute')::int AS idle,
       coalesce(max((extract(epoch FROM clock_timestamp() - xact_start) * 1000)::bigint) FILTER (WHERE backend_xid IS NOT NULL), 0)
           AS writing_ms,
       (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
FROM pg_stat_activity

-- name: migrations
-- The newest migration that has been applied.
SELECT number, name FROM migrations ORDER BY number DESC, phase DESC LIMIT 1

-- name: mail_counts
-- Runs whose unread mail is not what their head says. A head that counts mail of which some is missing never closes.
SELECT r.id, r.mail, r.folded, coalesce(m.found, 0)::int, coalesce(m.last, r.folded)
FROM runs r LEFT JOIN (
    SELECT u.run, count(*) AS found, max(u.number) AS last
    FROM mailbox u JOIN runs o ON o.id = u.run AND u.number > o.folded
    WHERE $1::text[] IS NULL OR u.run = ANY ($1) GROUP BY u.run
) m ON m.run = r.id
WHERE ($1::text[] IS NULL OR r.id = ANY ($1))
  AND (r.mail - r.folded <> coalesce(m.found, 0) OR r.mail <> coalesce(m.last, r.folded))
ORDER BY r.id LIMIT $2

-- name: orphans
-- Open runs whose owner has ended, or was never there.
SELECT r.id, r.owner, (extract(epoch FROM now() - c.ended_at) * 1000)::bigint
FROM runs r LEFT JOIN coordinators c ON c.incarnation = r.owner
WHERE r.owner IS NOT NULL AND r.ended_at IS NULL AND (c.incarnation IS NULL OR c.ended_at IS NOT NULL)
  AND ($1::text[] IS NULL OR r.id = ANY ($1))
ORDER BY r.id LIMIT $2

-- name: strays
-- Mail and reservations of runs that are not there, and events in a bucket that is not their run's. (Events of runs that are
-- not there are those of deleted ones: they go when their bucket is dropped.)
(SELECT 'events' AS kind, 'run ' || min(r.id) || ', bucket ' || s.bucket AS of, count(*)::int AS rows
 FROM streams s JOIN runs r ON r.number = s.number
 WHERE r.bucket <> s.bucket GROUP BY s.number, s.bucket LIMIT $1)
UNION ALL
(SELECT 'mail', m.run, count(*)::int FROM mailbox m LEFT JOIN runs r ON r.id = m.run
 WHERE r.id IS NULL GROUP BY m.run LIMIT $1)
UNION ALL
(SELECT 'reservations', 'tranche ' || v.tranche || ', number ' || v.number, count(*)::int
 FROM reservations v LEFT JOIN runs r ON r.number = v.number
 WHERE r.id IS NULL GROUP BY v.tranche, v.number LIMIT $1)

-- name: moved_away
-- Events of a run that repairs have moved away.
SELECT count(*)::int FROM quarantined_events WHERE run = $1

-- name: cut
-- Raise the epoch, move the bad suffix away, and put one event in its place; the last generation may be among what is moved. Reservations of the suffix go with it: their places
-- in the stream will be taken by other events. `moved` is counted so that it has happened before the same place is filled.
WITH head AS (
    UPDATE runs
    SET epoch = epoch + 1, sequence = $4::bigint + 1, folded = $5, status = 'running', owner = NULL, wake_at = now(), takeovers = 0,
        updated_at = now(), base = coalesce(b.base, 1), generation = 1 + b.restarts
    FROM (SELECT max(s.sequence) AS base, count(s.sequence) AS restarts
          FROM runs o LEFT JOIN streams s ON s.number = o.number AND s.bucket = o.bucket
                                         AND s.type = 'RunRestarted' AND s.sequence <= $4::bigint
          WHERE o.id = $1) b
    WHERE id = $1 AND epoch = $2 AND sequence = $3 AND ended_at IS NULL
    RETURNING id, number, bucket, epoch
), moved AS (
    DELETE FROM streams s USING head h
    WHERE s.number = h.number AND s.bucket = h.bucket AND s.sequence > $4::bigint
    RETURNING h.id, s.*
), kept AS (
    INSERT INTO quarantined_events
        (run, reason, number, at, xid, bucket, sequence, epoch, checksum, version, codec, body, type, nonce, packed)
    SELECT id, $6, number, at, xid, bucket, sequence, epoch, checksum, version, codec, body, type, nonce, packed FROM moved
), forgotten AS (
    DELETE FROM reservations v USING head h WHERE v.number = h.number AND v.sequence > $4::bigint
), stated AS (
    INSERT INTO states (run, version, sequence, updated_at, value)
    SELECT id, $12::int, $13::int, now(), $14::json FROM head WHERE $12::int > 0
    ON CONFLICT (run) DO UPDATE
    SET version = excluded.version, sequence = excluded.sequence, updated_at = excluded.updated_at, value = excluded.value
), stateless AS (
    DELETE FROM states s USING head h WHERE s.run = h.id AND $12::int = 0
)
INSERT INTO streams (number, bucket, sequence, epoch, at, xid, checksum, version, body, type)
SELECT h.number, h.bucket, $4::bigint + 1, h.epoch, $7, pg_current_xact_id()::text::bigint, $8::bigint - 2147483648, $9, $10, $11
FROM head h WHERE (SELECT count(*) FROM moved) >= 0
RETURNING number

-- name: recount_mail
-- Count mail as far as the last one that is there.
UPDATE runs
SET epoch = epoch + 1, owner = NULL, wake_at = now(), updated_at = now(),
    mail = greatest(folded, coalesce((SELECT max(number) FROM mailbox WHERE run = $1), 0))
WHERE id = $1 AND epoch = $2 AND ended_at IS NULL
RETURNING id
