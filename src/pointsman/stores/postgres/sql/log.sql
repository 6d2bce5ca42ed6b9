-- Queries of the event log. `:name` at the start of a line includes another query of this file.

-- name: roots
-- Heads of new runs that have no parent in this batch. A run that exists stays as it is and is not returned.
roots AS (
    INSERT INTO runs (sequence, epoch, owner, created_at, updated_at, wake_at, ended_at, bucket, version, folded, id, status,
                      workflow, build, digest, tenant, parent, parent_call, attributes)
    SELECT c.sequence, c.epoch, c.owner, date_trunc('milliseconds', now()), now(), c.wake_at,
           CASE WHEN c.status IN ('completed', 'failed', 'cancelled') THEN now() END,
           c.bucket, c.version, c.folded, c.id, c.status, c.workflow, c.build, c.digest, c.tenant, NULL, NULL, c.attributes
    FROM unnest($14::text[], $15::bigint[], $16::bigint[], $17::text[], $18::bigint[], $19::timestamptz[], $20::int[],
                $21::int[], $22::int[], $23::text[], $24::text[], $25::text[], $26::text[], $27::jsonb[])
         AS c (id, epoch, sequence, status, owner, wake_at, folded, bucket, version, workflow, build, digest, tenant,
               attributes)
    ON CONFLICT (id) DO NOTHING
    RETURNING id, bucket, mail
)
