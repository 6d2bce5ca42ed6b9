-- Reading the event log, and finding out what became of an append.

-- name: head_columns
-- A head, in the order of `Head`'s fields.
r.id, r.workflow, r.version, r.build, r.status, r.sequence, r.epoch, r.owner, r.mail, r.folded, r.takeovers, r.wake_at, r.tenant,
r.attributes, r.digest, r.bucket, r.parent, r.created_at, r.updated_at, r.ended_at, r.base, r.generation

-- name: heads
-- Those that exist.
SELECT
    -- include: head_columns
FROM runs r WHERE r.id = ANY ($1::text[])

-- name: read
-- A stretch of one run's stream. Its bucket prunes the partitions.
SELECT s.sequence, s.at, s.type, s.version, s.epoch, s.checksum + 2147483648 AS checksum, s.body, s.packed, s.codec
FROM streams s
WHERE s.number = (SELECT number FROM runs WHERE id = $1) AND s.bucket = (SELECT bucket FROM runs WHERE id = $1)
  AND s.sequence > $2
ORDER BY s.sequence LIMIT $3

-- name: read_many
-- The first events of several runs, each behind its own sequence.
SELECT w.n, s.sequence, s.at, s.type, s.version, s.epoch, s.checksum + 2147483648 AS checksum, s.body, s.packed, s.codec
FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS w (id, after, n)
JOIN runs r ON r.id = w.id
CROSS JOIN LATERAL (
    SELECT * FROM streams e
    WHERE e.number = r.number AND e.bucket = r.bucket AND e.sequence > w.after
    ORDER BY e.sequence LIMIT $3
) s
ORDER BY w.n, s.sequence

-- name: read_within
-- As `read_many`, up to the event with which the bodies come to $4 bytes as they are stored. The sizes come from the rows
-- alone: a large value stands elsewhere, and is fetched only for an event that is given. (`body::text` would fetch it too, where
-- `plain_json_bytes_max` was raised: those count as PostgreSQL keeps them.)
SELECT t.n, t.sequence, t.at, t.type, t.version, t.epoch, t.checksum + 2147483648 AS checksum, t.body, t.packed, t.codec
FROM (
    SELECT w.n, s.*,
           sum(CASE WHEN s.codec <> 0 THEN octet_length(s.packed)
                    WHEN pg_column_size(s.body) < 2600 THEN octet_length(s.body::text)
                    ELSE pg_column_size(s.body) - 4 END)
               OVER (ORDER BY w.n, s.sequence ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS w (id, after, n)
    JOIN runs r ON r.id = w.id
    CROSS JOIN LATERAL (
        SELECT * FROM streams e
        WHERE e.number = r.number AND e.bucket = r.bucket AND e.sequence > w.after
        ORDER BY e.sequence LIMIT $3
    ) s
) t
WHERE t.before IS NULL OR t.before < $4::bigint
ORDER BY t.n, t.sequence

-- name: list_runs
-- Newest first, by keyset. A condition whose parameter is null falls out of the plan: this runs with custom plans only.
SELECT
    -- include: head_columns
    , r.number
FROM runs r
WHERE ($1::text[] IS NULL OR r.status = ANY ($1))
  AND (NOT $2::bool OR r.ended_at IS NULL)
  AND ($3::text IS NULL OR r.workflow = $3)
  AND ($4::text IS NULL OR r.tenant = $4)
  AND ($5::jsonb IS NULL OR (r.attributes <> '{}' AND r.attributes @> $5))
  AND ($6::bigint IS NULL OR r.number < $6)
ORDER BY r.number DESC
LIMIT $7

-- name: horizon
-- Every transaction below it has ended: what the feed may show.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint

-- name: feed_floor
-- Where the feed begins.
SELECT value::bigint FROM cluster WHERE key = 'feed_floor'

-- name: feed
-- Events of transactions from $1 to below $2, behind the event ($1, $3, $4). Those of deleted runs come without a run: they
-- count for the limit, and the reader goes on behind them.
SELECT r.id AS run, s.xid, s.number, s.sequence, s.at, s.type, s.version, s.epoch, s.checksum + 2147483648 AS checksum, s.body,
       s.packed, s.codec
FROM (SELECT * FROM streams
      WHERE xid >= $1::bigint AND xid < $2::bigint AND (xid > $1::bigint OR (number, sequence) > ($3::bigint, $4::bigint))
      ORDER BY xid, number, sequence
      LIMIT $5) s
LEFT JOIN runs r ON r.number = s.number
ORDER BY s.xid, s.number, s.sequence

-- name: feed_lag
-- For how long the oldest writing transaction, anywhere in the cluster, has held the feed back; milliseconds.
SELECT coalesce(max((extract(epoch FROM clock_timestamp() - xact_start) * 1000)::bigint), 0)
FROM pg_stat_activity WHERE backend_xid IS NOT NULL

-- name: lost_sessions
-- Sessions of ours, by (pid, name), that still exist although their connections are gone.
SELECT a.pid FROM pg_stat_activity a
JOIN unnest($1::int[], $2::text[]) AS lost (pid, name) ON a.pid = lost.pid AND a.application_name = lost.name

-- name: end_session
-- End one of our own lost sessions.
SELECT pg_terminate_backend($1)

-- name: lock_head
-- Waits for whoever holds the head.
SELECT sequence FROM runs WHERE id = $1 FOR UPDATE

-- name: try_to_create
-- Waits for a creation of the same id that is under way. Always rolled back.
INSERT INTO runs (id, epoch, sequence, status, bucket, workflow, version, build, digest, tenant, created_at, updated_at)
VALUES ($1, 0, 0, 'running', 0, '', 0, '', '', '', now(), now())
ON CONFLICT (id) DO NOTHING

-- name: nonce_at
-- Whose append wrote an event: one row where the event exists. Only the first event of an append has a nonce.
SELECT s.nonce FROM streams s
WHERE s.number = (SELECT number FROM runs WHERE id = $1) AND s.bucket = (SELECT bucket FROM runs WHERE id = $1)
  AND s.sequence = $2

-- name: barrier
-- A small commit. Once a synchronous standby has it, it has everything before it too.
INSERT INTO cluster (key, value) VALUES ('barrier', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value
