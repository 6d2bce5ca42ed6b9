-- Ownership: every claim raises the epoch by one. Definitions come as a JSON array of [workflow, version, build].

-- name: head_columns
-- A head, in the order of `Head`'s fields.
id, workflow, version, build, status, sequence, epoch, owner, mail, folded, takeovers, wake_at, tenant, attributes, digest, bucket,
parent, created_at, updated_at, ended_at, base, generation

-- name: definitions
-- Who can drive what.
SELECT json_extract(value, '$[0]') AS workflow, json_extract(value, '$[1]') AS version, json_extract(value, '$[2]') AS build
FROM json_each(:definitions)

-- name: due
-- Unowned runs whose time has come, oldest first; with :runs, only those.
SELECT r.number, d.build, 0
FROM runs r JOIN (
    -- include: definitions
) d ON d.workflow = r.workflow AND d.version = r.version
WHERE r.owner IS NULL AND r.wake_at IS NOT NULL AND r.wake_at <= :now AND r.ended_at IS NULL
  AND r.status <> 'quarantined' AND (r.status <> 'stopped' OR r.build <> d.build)
  AND (:runs IS NULL OR r.id IN (SELECT value FROM json_each(:runs)))
ORDER BY r.wake_at, r.id LIMIT :limit

-- name: acquit
-- Of the trials of the dead, the runs that got on. Before the first of their runs is claimed: afterwards their heads tell of others.
DELETE FROM trials WHERE NOT is_judged AND incarnation NOT IN (SELECT value FROM json_each(:living)) AND NOT EXISTS (
    SELECT * FROM runs r WHERE r.id = run AND r.owner = incarnation AND r.takeovers > 0 AND r.ended_at IS NULL
)

-- name: condemn
-- The others.
UPDATE trials SET is_judged = 1 WHERE NOT is_judged AND incarnation NOT IN (SELECT value FROM json_each(:living))

-- name: orphanage
-- Runs whose owner is not among the living. Where there are culprits of its death, the others which died with it are not to blame.
SELECT r.number, d.build, k.owner IS NULL AS is_blamed, r.takeovers, r.id,
       r.takeovers > 0 AND (k.owner IS NULL OR (r.id, r.owner) IN (SELECT run, incarnation FROM trials)) AS is_suspect
FROM runs r JOIN (
    -- include: definitions
) d ON d.workflow = r.workflow AND d.version = r.version
LEFT JOIN (SELECT DISTINCT incarnation AS owner FROM trials) k ON k.owner = r.owner
WHERE r.owner IS NOT NULL AND r.owner NOT IN (SELECT value FROM json_each(:living)) AND r.status <> 'quarantined'

-- name: orphans
-- Those under no suspicion.
SELECT number, build, is_blamed FROM (
    -- include: orphanage
) WHERE NOT is_suspect ORDER BY number

-- name: suspects
-- The least suspect of the others, at most so many of them as :together has for their number of deaths.
WITH suspects AS (
    SELECT * FROM (
        -- include: orphanage
    ) WHERE is_suspect
), fewest AS (
    SELECT min(takeovers) AS takeovers FROM suspects
)
SELECT number, build, 1, id FROM suspects JOIN fewest USING (takeovers) ORDER BY id LIMIT coalesce((
    SELECT value FROM json_each(:together), fewest WHERE key < takeovers ORDER BY key DESC LIMIT 1
), 0)

-- name: enlist
-- An incarnation.
INSERT INTO coordinators (incarnation, name, address, started_at) VALUES (?, ?, ?, ?)

-- name: put_on_trial
-- A run that an incarnation drives on suspicion.
INSERT INTO trials (incarnation, run) VALUES (?, ?)

-- name: end_trial
-- It drives none.
DELETE FROM trials WHERE incarnation = ?

-- name: died_on_trial
-- The dead that had a run on trial.
SELECT incarnation, c.name FROM trials JOIN coordinators c USING (incarnation)
WHERE run = :run AND incarnation NOT IN (SELECT value FROM json_each(:living)) ORDER BY incarnation

-- name: release
-- A quarantined run is due again.
UPDATE runs SET status = 'running', owner = NULL, takeovers = 0, wake_at = ? WHERE id = ? AND status = 'quarantined' AND ended_at IS NULL

-- name: forget_trials
-- Nobody died of it any more.
DELETE FROM trials WHERE run = :run AND incarnation NOT IN (SELECT value FROM json_each(:living))

-- name: owners
-- Who owns runs.
SELECT DISTINCT owner FROM runs WHERE owner IS NOT NULL

-- name: claim
-- Take one.
UPDATE runs
SET epoch = epoch + 1, owner = ?, status = 'running', wake_at = NULL, build = ?, takeovers = takeovers + ?, updated_at = ?
WHERE number = ?
RETURNING
    -- include: head_columns

-- name: owned
-- The runs of an incarnation.
SELECT id, epoch FROM runs WHERE owner = ? ORDER BY number

-- name: hand_over
-- Give up runs, each under the epoch that is known of it: unowned and due at once.
UPDATE runs SET owner = NULL, wake_at = :now, updated_at = :now
WHERE owner = :owner
  AND (id, epoch) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:runs))

-- name: open_versions
-- Workflow versions of open runs.
SELECT DISTINCT workflow, version FROM runs WHERE ended_at IS NULL ORDER BY workflow, version
