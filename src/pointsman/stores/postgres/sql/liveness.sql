-- Incarnations and their leases. All times are this server's; ms(t) below is milliseconds since 1970.

-- name: next_incarnation
-- Its lock is taken before its row can be seen, so that nobody finds a living incarnation whose lock is free.
SELECT nextval('coordinators_incarnation_seq')

-- name: enlist
-- A new incarnation, unless a living one has the name. All others hear of it as it commits, so that one of them watches it.
WITH enlisted AS (
    INSERT INTO coordinators (incarnation, name, address, definitions, ttl_ms, started_at, expires_at)
    VALUES ($1, $2, $3, $4::text::jsonb, $5, now(), now() + make_interval(secs => $5::int / 1000.0))
    ON CONFLICT (name) WHERE ended_at IS NULL DO NOTHING
    RETURNING incarnation
)
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms,
       pg_notify('pointsman_enlisted', incarnation || ' ' || coalesce(current_schema(), '')) FROM enlisted

-- name: namesake
-- The living incarnation of a name.
SELECT incarnation, address FROM coordinators WHERE name = $1 AND ended_at IS NULL

-- name: renew
-- Extend the lease, unless somebody ended the incarnation.
UPDATE coordinators SET expires_at = clock_timestamp() + make_interval(secs => ttl_ms / 1000.0)
WHERE incarnation = $1 AND ended_at IS NULL
RETURNING (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms

-- name: end_incarnation
-- The first who does it wins.
WITH ended AS (
    UPDATE coordinators c SET
        -- include: ending
    WHERE incarnation = $1 AND ended_at IS NULL RETURNING incarnation
)
-- include: tell

-- name: ending
-- Its trial is now what it died of: without the runs that got on. Told before the first of its runs is claimed: afterwards their
-- heads tell of others.
ended_at = now(),
trial = ARRAY (SELECT r.id FROM runs r WHERE r.id = ANY (c.trial) AND r.owner = c.incarnation AND r.takeovers > 0)

-- name: tell
-- The end of an end: all survivors hear of it as it commits. Rare, so the lock that a NOTIFY takes at commit costs nobody much.
SELECT incarnation, pg_notify('pointsman_ended', incarnation || ' ' || coalesce(current_schema(), '')) FROM ended

-- name: end_if_free
-- End an incarnation whose lock is still free.
WITH ended AS (
    UPDATE coordinators c SET
        -- include: ending
    WHERE incarnation = $3::bigint AND ended_at IS NULL AND pg_try_advisory_xact_lock_shared($1::int, $2::int)
    RETURNING incarnation
)
-- include: tell

-- name: end_expired
-- End those whose leases ran out, but only with a TTL for the whole of which the caller ($2, ms) has been in touch.
WITH ended AS (
    UPDATE coordinators c SET
        -- include: ending
    WHERE ended_at IS NULL AND incarnation <> $1 AND expires_at < clock_timestamp() AND ttl_ms <= $2::bigint
    RETURNING incarnation
)
-- include: tell

-- name: members
-- The living.
SELECT incarnation, name, address, (extract(epoch FROM started_at) * 1000)::bigint AS started_at,
       (extract(epoch FROM expires_at) * 1000)::bigint AS expires_at, expires_at < clock_timestamp() AS is_expired,
       definitions::text AS definitions
FROM coordinators WHERE ended_at IS NULL ORDER BY incarnation

-- name: lock
-- Hold an incarnation, if nobody else does.
SELECT pg_try_advisory_lock($1::int, $2::int)

-- name: unlock
-- Let it go.
SELECT pg_advisory_unlock($1::int, $2::int)

-- name: is_free
-- Whether nobody holds it: a shared lock is taken for a moment, so that many may ask at once.
SELECT pg_try_advisory_xact_lock_shared($1::int, $2::int)

-- name: wait_until_free
-- Wait, at most for lock_timeout and until `wait_no_more`, for its holder's session to end. In a block, because an error that is
-- caught is not written to the server's log, and this one happens every second. A block takes no parameters: they come as settings.
DO $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(current_setting('pointsman.watched_key')::int, current_setting('pointsman.watched')::int);
    PERFORM set_config('pointsman.is_free', 'yes', false);
EXCEPTION WHEN lock_not_available OR query_canceled THEN
    PERFORM set_config('pointsman.is_free', 'no', false);
END $$

-- name: wait_no_more
-- End the wait of another session of ours.
SELECT pg_cancel_backend($1::int)

-- name: watch_one
-- Say whose lock `wait_until_free` waits for.
SELECT set_config('pointsman.watched_key', $1::int::text, false), set_config('pointsman.watched', $2::int::text, false)

-- name: was_freed
-- Whether `wait_until_free` ended because the lock was free.
SELECT current_setting('pointsman.is_free') = 'yes'

-- name: now
-- The clock.
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint

-- name: schema_key
-- What tells this schema from others in the same database.
SELECT coalesce(current_schema(), '')
