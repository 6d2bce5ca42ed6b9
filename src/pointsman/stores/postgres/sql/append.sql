-- The append: one statement for a whole batch, never inside an explicit transaction (a stopped client would keep its locks).
-- `n` is a run's place in the batch, from 1: first the heads to move, then those to create, each sorted by code point, which is
-- the order in which all statements lock. `place`, of an event: n * 2^32 + sequence; of an append: that of its first event. Each
-- array element costs the client 0.25 µs or more. So columns of numbers come as text (`$4::text::bigint[]`); bodies as lines of
-- one text; texts that repeat come once, in `words`, and are named by number; and a column that holds nothing but its default
-- is an empty array (`unnest` fills it up with nulls).
-- `SELECT unnest(a), unnest(b)` where `FROM unnest(a, b)` would say the same: that one makes a table of each array first, 3 µs
-- a step.
-- `= ANY (ARRAY [...])` where `=` would say the same: planned while the tables are small, `=` becomes a hash join over a whole
-- index, and stays one when they have grown; an array can only be looked up.
-- Parameters: $1 words, $2 nonces of 8 bytes each in the order of `n`, $3-$15 heads to move, $16 how many these are, $17-$33
-- heads to create, $34-$41 events, $42-$46 letters, $47 all heads to lock. Tasks, reservations and notices:
-- $42-$59 of `append_rows`, $48-$65 of `append_family`; $66-$70 states of `append_states`.

-- name: append
-- Create runs, move heads and insert their events. What was not created or moved is not returned, and none of its events is.
WITH roots AS (
    -- include: create
    WHERE c.parent IS NULL
    -- include: unless_it_exists
), moved AS (
    -- include: move
    -- include: as_heads
), heads AS MATERIALIZED (
    SELECT n, place, number, bucket, epoch, mail FROM moved
    UNION ALL
    SELECT $16::int + c.n, ($16::int + c.n << 32) + 1, r.number, r.bucket, r.epoch, r.mail
    FROM roots r JOIN unnest($17::text[]) WITH ORDINALITY AS c (id, n) USING (id)
), inserted AS (
    -- include: insert_events
)
SELECT n, mail FROM heads

-- name: append_family
-- The same for a batch with children or letters. Its heads are locked first, all in one order, so that batches which write to
-- each other's runs can't deadlock. A run must not both move and get a letter: a row's second update would be ignored.
    -- include: family
SELECT n, mail FROM heads

-- name: append_states
-- The same for a batch in which typed states of runs change. A variant of its own, so that nobody else pays for it.
    -- include: family
, said_state AS (
    SELECT * FROM unnest($66::int[], $67::text[], $68::int[], $69::int[], $70::json[]) AS s (n, run, version, sequence, value)
), states AS (
    INSERT INTO states (run, version, sequence, updated_at, value)
    SELECT s.run, s.version, s.sequence, now(), s.value FROM said_state s JOIN heads h ON h.n = s.n WHERE s.version > 0
    ON CONFLICT (run) DO UPDATE
    SET version = excluded.version, sequence = excluded.sequence, updated_at = excluded.updated_at, value = excluded.value
), stateless AS (
    DELETE FROM states t USING said_state s JOIN heads h ON h.n = s.n WHERE t.run = ANY (ARRAY [s.run]) AND s.version = 0
)
SELECT n, mail FROM heads

-- name: append_rows
-- `append` for a batch whose events open or close human tasks or spend from a tranche, without children and letters. A variant
-- of its own because every call under a shared budget spends: a step that does takes 31 µs here, 39 as a family (25 without).
WITH roots AS (
    -- include: create
    WHERE c.parent IS NULL
    -- include: unless_it_exists
), moved AS (
    -- include: move
    -- include: as_heads
), heads AS MATERIALIZED (
    SELECT n, place, number, bucket, epoch, mail FROM moved
    UNION ALL
    SELECT $16::int + c.n, ($16::int + c.n << 32) + 1, r.number, r.bucket, r.epoch, r.mail
    FROM roots r JOIN unnest($17::text[]) WITH ORDINALITY AS c (id, n) USING (id)
), inserted AS (
    -- include: insert_events
), said AS (
    SELECT * FROM unnest($42::int[], $43::text[], $44::text[], $45::text[], $46::text[], $47::text[], $48::json[],
                         $49::timestamptz[], $50::timestamptz[], $51::text[], $52::int[])
                  AS s (n, id, run, call, status, question, detail, opened_at, closed_at, assignee, requested)
), spent AS (
    SELECT * FROM unnest($53::int[], $54::text[], $55::int[]) AS s (n, tranche, sequence)
), told AS (
    SELECT * FROM unnest($56::int[], $57::text[], $58::timestamptz[], $59::json[]) AS s (n, id, at, body)
), tasks AS (
    -- include: write_tasks
), reserved AS (
    -- include: write_reservations
), noticed AS (
    -- include: write_notices
)
SELECT n, mail FROM heads

-- name: family
-- The parts of `append_family`.
WITH locked AS MATERIALIZED (
    SELECT id FROM runs WHERE id = ANY ($47::text[]) ORDER BY id FOR UPDATE
), roots AS (
    -- include: create
    WHERE c.parent IS NULL AND (SELECT count(*) FROM locked) >= 0
    -- include: unless_it_exists
), moved AS (
    -- include: move
      AND (SELECT count(*) FROM locked) >= 0
    -- include: as_heads
), children AS (
    -- include: create
    WHERE c.parent IN (SELECT id FROM moved UNION ALL SELECT id FROM roots)
    -- include: unless_it_exists
), heads AS MATERIALIZED (
    SELECT n, place, number, bucket, epoch, mail FROM moved
    UNION ALL
    SELECT $16::int + c.n, ($16::int + c.n << 32) + 1, r.number, r.bucket, r.epoch, r.mail
    FROM (SELECT * FROM roots UNION ALL SELECT * FROM children) r
    JOIN unnest($17::text[]) WITH ORDINALITY AS c (id, n) USING (id)
), inserted AS (
    -- include: insert_events
), letters AS MATERIALIZED (
    SELECT run, key, kind, body, row_number() OVER (PARTITION BY run ORDER BY n) AS place
    FROM (SELECT l.*, row_number() OVER (PARTITION BY l.run, l.key ORDER BY l.n) AS copy
          FROM unnest($42::text::int[], $43::text[], $44::text[], $45::text[], $46::bytea[]) AS l (n, run, key, kind, body)
          JOIN heads h ON h.n = l.n
          WHERE NOT EXISTS (SELECT FROM mailbox m WHERE m.run = ANY (ARRAY [l.run]) AND m.key = ANY (ARRAY [l.key]))) fresh
    WHERE copy = 1
), addressed AS (
    UPDATE runs r
    SET mail = r.mail + c.letters,
        wake_at = CASE WHEN r.owner IS NULL THEN least(r.wake_at, now()) END,
        updated_at = now()
    FROM (SELECT run, count(*)::int AS letters FROM letters GROUP BY run) c
    WHERE r.id = ANY (ARRAY [c.run]) AND r.status NOT IN ('completed', 'failed', 'cancelled')
    RETURNING r.id, r.mail - c.letters AS before
), delivered AS (
    INSERT INTO mailbox (run, key, kind, body, number)
    SELECT l.run, l.key, l.kind, l.body, a.before + l.place
    FROM letters l JOIN addressed a ON a.id = l.run
), said AS (
    SELECT * FROM unnest($48::int[], $49::text[], $50::text[], $51::text[], $52::text[], $53::text[], $54::json[],
                         $55::timestamptz[], $56::timestamptz[], $57::text[], $58::int[])
                  AS s (n, id, run, call, status, question, detail, opened_at, closed_at, assignee, requested)
), spent AS (
    SELECT * FROM unnest($59::int[], $60::text[], $61::int[]) AS s (n, tranche, sequence)
), told AS (
    SELECT * FROM unnest($62::int[], $63::text[], $64::timestamptz[], $65::json[]) AS s (n, id, at, body)
), tasks AS (
    -- include: write_tasks
), reserved AS (
    -- include: write_reservations
), noticed AS (
    -- include: write_notices
)

-- name: move
-- Move heads: only for their epoch and from their sequence, and closing ones only with all mail folded. A redrive moves a head
-- that has failed, and raises its epoch; nothing else moves one that has ended.
UPDATE runs r
SET sequence = r.sequence + h.events, status = h.status, owner = h.owner, wake_at = h.wake_at,
    folded = coalesce(h.folded, 0), updated_at = now(), epoch = CASE WHEN h.redrives THEN r.epoch + 1 ELSE r.epoch END,
    takeovers = CASE WHEN coalesce(h.is_progress, true) THEN 0 ELSE r.takeovers END,
    base = CASE WHEN h.generations > 0 THEN h.base ELSE r.base END, generation = r.generation + coalesce(h.generations, 0),
    ended_at = CASE WHEN h.status IN ('completed', 'failed', 'cancelled') THEN now() END
FROM (SELECT id, epoch, place, events, ($1::text[])[status] AS status, owner, closes, folded, wake_at, redrives, generations,
             base, is_progress
      FROM (SELECT unnest($3::text[]) AS id, unnest($4::text::bigint[]) AS epoch, unnest($5::text::bigint[]) AS place,
                   unnest($6::text::int[]) AS events, unnest($7::text::int[]) AS status, unnest($8::text::bigint[]) AS owner,
                   unnest($9::text::boolean[]) AS closes, unnest($10::text::int[]) AS folded,
                   unnest($11::timestamptz[]) AS wake_at, unnest($12::text::boolean[]) AS redrives,
                   unnest($13::text::int[]) AS generations, unnest($14::text::int[]) AS base,
                   unnest($15::text::boolean[]) AS is_progress) u) h
WHERE r.id = ANY (ARRAY [h.id]) AND r.epoch = h.epoch AND r.sequence = (h.place & 4294967295) - 1
  AND CASE WHEN h.redrives THEN r.status = 'failed' ELSE r.status NOT IN ('completed', 'failed', 'cancelled') END
  AND (h.closes IS NOT TRUE OR r.mail = coalesce(h.folded, 0))

-- name: as_heads
-- The end of `move`.
RETURNING h.place >> 32 AS n, h.place, r.id, r.number, r.bucket, r.epoch, r.mail

-- name: create
-- Make heads.
INSERT INTO runs (id, epoch, sequence, status, owner, wake_at, folded, bucket, workflow, version, build, digest, tenant,
                  attributes, parent, parent_call, created_at, updated_at, ended_at)
SELECT c.id, c.epoch, c.sequence, c.status, c.owner, c.wake_at, c.folded, c.bucket, c.workflow, c.version, c.build, c.digest,
       c.tenant, c.attributes, c.parent, c.parent_call, coalesce(c.created_at, now()), now(),
       CASE WHEN c.status IN ('completed', 'failed', 'cancelled') THEN now() END
FROM (SELECT id, epoch, sequence, ($1::text[])[status] AS status, owner, wake_at, folded, bucket,
             ($1::text[])[workflow] AS workflow, version, ($1::text[])[build] AS build, digest,
             ($1::text[])[tenant] AS tenant, coalesce(attributes, '{}') AS attributes, parent, parent_call,
             created_at
      FROM (SELECT unnest($17::text[]) AS id, unnest($18::text::bigint[]) AS epoch, unnest($19::text::int[]) AS sequence,
                   unnest($20::text::int[]) AS status, unnest($21::text::bigint[]) AS owner,
                   unnest($22::timestamptz[]) AS wake_at, unnest($23::text::int[]) AS folded,
                   unnest($24::text::int[]) AS bucket, unnest($25::text::int[]) AS workflow,
                   unnest($26::text::int[]) AS version, unnest($27::text::int[]) AS build, unnest($28::text[]) AS digest,
                   unnest($29::text::int[]) AS tenant, unnest($30::jsonb[]) AS attributes, unnest($31::text[]) AS parent,
                   unnest($32::text[]) AS parent_call, unnest($33::timestamptz[]) AS created_at) u) c

-- name: unless_it_exists
-- The end of `create`.
ON CONFLICT (id) DO NOTHING
RETURNING id, number, bucket, epoch, mail

-- name: insert_events
-- Events of the heads that moved or were created, in those heads' buckets and epochs, all under this statement's xid.
-- The first event of an append carries its nonce. Bodies are one to a line, and an empty line where it is packed. Checksums have
-- 32 bits and no sign, which `integer` holds shifted.
INSERT INTO streams (number, bucket, sequence, epoch, at, xid, checksum, version, codec, body, type, nonce, packed)
SELECT h.number, h.bucket, (e.place & 4294967295)::int, h.epoch, e.at, (SELECT pg_current_xact_id()::text::bigint),
       e.checksum - 2147483648, coalesce(e.version, 1), coalesce(e.codec, 0), coalesce(e.body, 'null')::json,
       ($1::text[])[e.type], CASE WHEN e.place = h.place THEN substr($2::bytea, (8 * h.n - 7)::int, 8) ELSE '' END,
       coalesce(e.packed, '')
FROM (SELECT unnest($34::text::bigint[]) AS place, unnest($35::text::bigint[]) AS at, unnest($36::text::int[]) AS type,
             unnest(string_to_array(convert_from($37::bytea, 'UTF8'), E'\n', '')) AS body,
             unnest($38::text::smallint[]) AS version, unnest($39::bytea[]) AS packed, unnest($40::text::smallint[]) AS codec,
             unnest($41::text::bigint[]) AS checksum) e
JOIN heads h ON h.n = e.place >> 32

-- name: write_tasks
-- What the appends that moved `said` of human tasks. What is said again changes nothing, so that a task keeps the moment at which
-- it was closed. A task is in `said` once: a row's second update in one statement would be an error.
INSERT INTO human_tasks AS t (id, run, call, status, question, detail, opened_at, closed_at, assignee, requested)
SELECT s.id, s.run, s.call, s.status, s.question, s.detail, s.opened_at, s.closed_at, s.assignee, s.requested
FROM said s JOIN heads h ON h.n = s.n
ON CONFLICT (id) DO UPDATE
SET status = excluded.status, closed_at = CASE WHEN t.status = excluded.status THEN t.closed_at ELSE excluded.closed_at END,
    assignee = coalesce(excluded.assignee, t.assignee), requested = coalesce(nullif(excluded.requested, 0), t.requested)
WHERE t.status <> excluded.status OR t.assignee IS DISTINCT FROM coalesce(excluded.assignee, t.assignee)
   OR t.requested <> coalesce(nullif(excluded.requested, 0), t.requested)

-- name: write_reservations
-- What they `spent`.
INSERT INTO reservations (tranche, number, sequence)
SELECT s.tranche, h.number, s.sequence
FROM spent s JOIN heads h ON h.n = s.n
ON CONFLICT (tranche, number, sequence) DO NOTHING

-- name: write_notices
-- What is to be `told`; one that is there is not told again.
INSERT INTO notices (id, at, due_at, body)
SELECT s.id, s.at, s.at, s.body
FROM told s JOIN heads h ON h.n = s.n
ON CONFLICT (id) DO NOTHING

-- name: refused
-- Heads of appends that did not move, to tell why.
SELECT id, epoch, sequence, mail FROM runs WHERE id = ANY ($1::text[])

-- name: occupied
-- Runs whose next event's place is taken although their heads are not there yet: somebody wrote past the head.
SELECT DISTINCT a.id
FROM unnest($1::text[], $2::bigint[], $3::int[]) AS a (id, expected, events)
JOIN runs r ON r.id = a.id AND r.sequence = a.expected
JOIN streams s ON s.number = r.number AND s.bucket = r.bucket
              AND s.sequence > a.expected AND s.sequence <= a.expected + a.events
