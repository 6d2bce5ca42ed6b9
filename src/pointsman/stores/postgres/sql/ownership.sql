-- Ownership: every claim raises the epoch by one. `alive` locks the claimer's own row FOR SHARE (FOR KEY SHARE would not do):
-- whoever ends the incarnation waits for the claim, or the claim sees the end.

-- name: alive
-- The claimer, if nobody ended it.
SELECT FROM coordinators WHERE incarnation = $1 AND ended_at IS NULL FOR SHARE

-- name: claim
-- The end of a claim: `picked` are locked rows with the build that will drive them.
UPDATE runs r
SET epoch = r.epoch + 1, owner = $1, status = 'running', wake_at = NULL, build = p.build, takeovers = r.takeovers + p.takeover,
    updated_at = now()
FROM picked p WHERE r.id = p.id
RETURNING
    -- include: head_columns

-- name: head_columns
-- A head, in the order of `Head`'s fields.
r.id, r.workflow, r.version, r.build, r.status, r.sequence, r.epoch, r.owner, r.mail, r.folded, r.takeovers, r.wake_at, r.tenant,
r.attributes, r.digest, r.bucket, r.parent, r.created_at, r.updated_at, r.ended_at, r.base, r.generation

-- name: claim_due
-- Unowned runs whose time has come, oldest first, of the given definitions; with $6, only those.
WITH alive AS MATERIALIZED (
    -- include: alive
), picked AS MATERIALIZED (
    SELECT r.id, d.build, 0 AS takeover
    FROM runs r JOIN unnest($2::text[], $3::int[], $4::text[]) AS d (workflow, version, build) USING (workflow, version)
    WHERE EXISTS (SELECT FROM alive) AND r.owner IS NULL AND r.wake_at <= now() AND r.ended_at IS NULL
      AND r.status <> 'quarantined' AND (r.status <> 'stopped' OR r.build <> d.build)
      AND ($6::text[] IS NULL OR r.id = ANY ($6))
    ORDER BY r.wake_at
    LIMIT $5
    FOR UPDATE OF r SKIP LOCKED
)
-- include: claim

-- name: owners
-- All who own runs: jumps from owner to owner in the index instead of reading all owned runs.
(SELECT owner FROM runs WHERE owner IS NOT NULL ORDER BY owner LIMIT 1)
UNION ALL
SELECT (SELECT r.owner FROM runs r WHERE r.owner > o.owner ORDER BY r.owner LIMIT 1) FROM owners o WHERE o.owner IS NOT NULL

-- name: dead_owners
-- Ended incarnations that still own runs.
WITH RECURSIVE owners AS (
    -- include: owners
)
SELECT o.owner FROM owners o JOIN coordinators c ON c.incarnation = o.owner WHERE c.ended_at IS NOT NULL

-- name: orphanage
-- What both kinds of takeover begin with. The `culprits` of a death are what is left of the trial of its incarnation: where there
-- are any, the others which died with it are not to blame.
alive AS MATERIALIZED (
    -- include: alive
), owners AS (
    -- include: owners
), dead AS MATERIALIZED (
    SELECT c.incarnation, coalesce(c.trial, '{}') AS culprits
    FROM owners o
    JOIN coordinators c ON c.incarnation = o.owner
    WHERE c.ended_at IS NOT NULL
), definitions AS MATERIALIZED (
    SELECT * FROM unnest($2::text[], $3::int[], $4::text[]) AS d (workflow, version, build)
)

-- name: orphans
-- Runs of the dead that these definitions could drive.
FROM runs r JOIN definitions d USING (workflow, version) JOIN dead x ON x.incarnation = r.owner
WHERE r.owner = ANY (ARRAY (SELECT incarnation FROM dead)) AND r.status <> 'quarantined'

-- name: claim_orphans
-- Runs of ended incarnations that are under no suspicion, as far as nobody has them locked: a last statement of their owner, or
-- another claimer. And how many are left, as far as that matters: all in one statement, because a takeover waits for each of
-- its round trips.
WITH RECURSIVE
    -- include: orphanage
, picked AS MATERIALIZED (
    SELECT r.id, d.build, (x.culprits = '{}')::int AS takeover
    -- include: orphans
      AND EXISTS (SELECT FROM alive) AND NOT (
          -- include: is_suspect
      )
    LIMIT $5
    FOR UPDATE OF r SKIP LOCKED
), claimed AS (
    -- include: claim
), seen AS (
    SELECT count(*) AS orphans
    FROM (SELECT
          -- include: orphans
            AND NOT (
                -- include: is_suspect
            )
          LIMIT 2 * $5::int + 1) AS enough
)
SELECT c.*, (s.orphans - (SELECT count(*) FROM claimed))::int AS orphans_left FROM seen s LEFT JOIN claimed c ON true

-- name: is_suspect
-- Of an orphan.
r.takeovers > 0 AND (x.culprits = '{}' OR r.id = ANY (x.culprits))

-- name: claim_suspects
-- Some of those that are: those with fewest deaths first, so that the innocent do not wait for the guilty, and at most so many of
-- them together as $5 has for that number.
WITH RECURSIVE
    -- include: orphanage
, suspects AS MATERIALIZED (
    SELECT r.id, d.build, r.takeovers
    -- include: orphans
      AND EXISTS (SELECT FROM alive) AND
          -- include: is_suspect
    ORDER BY r.takeovers, r.id
    LIMIT ($5::int[])[1]
    FOR UPDATE OF r SKIP LOCKED
), fewest AS (
    SELECT min(takeovers) AS takeovers FROM suspects
), picked AS MATERIALIZED (
    SELECT s.id, s.build, 1 AS takeover
    FROM suspects s JOIN fewest USING (takeovers)
    ORDER BY s.id
    LIMIT (SELECT ($5::int[])[least(f.takeovers, cardinality($5::int[]))] FROM fewest f)
), tried AS (
    UPDATE coordinators SET trial = ARRAY (SELECT id FROM picked) WHERE incarnation = $1 AND EXISTS (SELECT FROM picked)
)
-- include: claim

-- name: end_trial
-- What happens from now on is not the fault of the runs that were on trial.
UPDATE coordinators SET trial = NULL WHERE incarnation = $1 AND ended_at IS NULL

-- name: died_on_trial
-- Incarnations that ended while they had a run on trial.
SELECT incarnation, name FROM coordinators WHERE $1 = ANY (trial) AND ended_at IS NOT NULL ORDER BY incarnation

-- name: release
-- A quarantined run is due again, and what it was suspected of is forgotten.
WITH released AS (
    UPDATE runs SET status = 'running', owner = NULL, wake_at = now(), takeovers = 0, updated_at = now()
    WHERE id = $1 AND status = 'quarantined'
    RETURNING id
), forgotten AS (
    UPDATE coordinators c SET trial = array_remove(c.trial, r.id) FROM released r WHERE r.id = ANY (c.trial) AND c.ended_at IS NOT NULL
)
SELECT id FROM released

-- name: owned
-- The runs of an incarnation.
SELECT id, epoch FROM runs WHERE owner = $1

-- name: hand_over
-- Give up runs, each under the epoch that is known of it: unowned and due at once. Locked in the order in which appends lock.
WITH picked AS MATERIALIZED (
    SELECT r.id, r.epoch FROM runs r JOIN unnest($2::text[], $3::bigint[]) AS known (id, epoch) USING (id, epoch)
    WHERE r.owner = $1 ORDER BY r.id FOR UPDATE OF r
)
UPDATE runs r SET owner = NULL, wake_at = now(), updated_at = now()
FROM picked p WHERE r.id = p.id AND r.epoch = p.epoch AND r.owner = $1
RETURNING r.id

-- name: open_versions
-- Workflow versions of open runs, jumping from one to the next in the index.
WITH RECURSIVE versions AS (
    (SELECT workflow, version FROM runs WHERE ended_at IS NULL ORDER BY workflow, version LIMIT 1)
    UNION ALL
    SELECT n.workflow, n.version
    FROM versions v CROSS JOIN LATERAL (
        SELECT r.workflow, r.version FROM runs r
        WHERE r.ended_at IS NULL AND (r.workflow, r.version) > (v.workflow, v.version)
        ORDER BY r.workflow, r.version LIMIT 1
    ) n
)
SELECT workflow, version FROM versions
