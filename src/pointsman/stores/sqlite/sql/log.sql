-- The event log. All statements run on one thread, each group of operations in one transaction.

-- name: head_columns
-- A head, in the order of `Head`'s fields.
r.id, r.workflow, r.version, r.build, r.status, r.sequence, r.epoch, r.owner, r.mail, r.folded, r.takeovers, r.wake_at, r.tenant,
r.attributes, r.digest, r.bucket, r.parent, r.created_at, r.updated_at, r.ended_at, r.base, r.generation

-- name: event_columns
-- An event, in the order of `Recorded`'s fields but for the body, which comes last.
s.sequence, s.at, s.type, s.version, s.epoch, s.checksum, s.codec, s.body, s.packed

-- name: position
-- Where a head stands, for an append.
SELECT number, epoch, sequence, mail, status FROM runs WHERE id = ?

-- name: create
-- Make a head; the move that follows fills in the rest.
INSERT INTO runs (id, epoch, sequence, status, bucket, workflow, version, build, digest, tenant, attributes, parent, parent_call,
                  created_at, updated_at)
VALUES (?, ?, 0, 'running', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
RETURNING number

-- name: move
-- Move a head that was found to stand where the append expects it.
UPDATE runs
SET sequence = :sequence, status = :status, owner = :owner, wake_at = :wake_at, folded = :folded,
    takeovers = iif(:is_progress, 0, takeovers), updated_at = :now, ended_at = :ended_at, epoch = :epoch, base = iif(:generations > 0, :base, base),
    generation = generation + :generations
WHERE number = :number

-- name: insert_event
-- One event. Only the first of an append has its nonce.
INSERT INTO streams (number, sequence, at, epoch, version, checksum, codec, type, body, packed, nonce)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: write_task
-- What an append says of a task. What is said again changes nothing.
INSERT INTO human_tasks (id, run, call, status, question, detail, opened_at, closed_at, assignee, requested)
VALUES (:id, :run, :call, :status, :question, :detail, :opened_at, :closed_at, coalesce(:assignee, ''), :requested)
ON CONFLICT (id) DO UPDATE
SET status = excluded.status, closed_at = iif(status = excluded.status, closed_at, excluded.closed_at),
    assignee = coalesce(:assignee, assignee), requested = coalesce(nullif(:requested, 0), requested)
WHERE status <> excluded.status OR assignee <> coalesce(:assignee, assignee)
   OR requested <> coalesce(nullif(:requested, 0), requested)

-- name: write_reservation
-- What it spends.
INSERT OR IGNORE INTO reservations (tranche, number, sequence) VALUES (?, ?, ?)

-- name: write_notice
-- What is to be told; one that is there is not told again.
INSERT OR IGNORE INTO notices (id, at, due_at, body) VALUES (?, ?, ?, ?)

-- name: heads
-- Those that exist, of a JSON array of ids.
SELECT
    -- include: head_columns
FROM json_each(?) wanted CROSS JOIN runs r ON r.id = wanted.value

-- name: read
-- A stretch of one run's stream.
SELECT
    -- include: event_columns
FROM streams s
WHERE s.number = (SELECT number FROM runs WHERE id = ?) AND s.sequence > ?
ORDER BY s.sequence LIMIT ?

-- name: nonce_at
-- Whose append wrote an event.
SELECT s.nonce FROM streams s WHERE s.number = (SELECT number FROM runs WHERE id = ?) AND s.sequence = ?

-- name: list_runs
-- Newest first, by keyset.
SELECT
    -- include: head_columns
    , r.number
FROM runs r
WHERE (:status IS NULL OR r.status IN (SELECT value FROM json_each(:status)))
  AND (:workflow IS NULL OR r.workflow = :workflow)
  AND (:tenant IS NULL OR r.tenant = :tenant)
  AND (:attributes IS NULL OR holds(r.attributes, :attributes))
  AND r.number < :before
ORDER BY r.number DESC LIMIT :limit

-- name: feed
-- Events behind a position.
SELECT r.id, s.position,
    -- include: event_columns
FROM streams s JOIN runs r ON r.number = s.number
WHERE s.position > ? ORDER BY s.position LIMIT ?

-- name: last_position
-- The last position that was ever given.
SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'streams'), 0)
