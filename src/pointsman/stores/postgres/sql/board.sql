-- The board: what the living say of themselves.

-- name: publish
-- Say something in place of what was said before, unless one's incarnation has ended, and hear the others. What the ended ones
-- said is removed by whoever comes first: rows that somebody else is just removing are left to them.
WITH said AS (
    INSERT INTO board (incarnation, body)
    SELECT incarnation, $2 FROM coordinators WHERE incarnation = $1 AND ended_at IS NULL
    ON CONFLICT (incarnation) DO UPDATE SET body = excluded.body
), removed AS (
    DELETE FROM board WHERE incarnation IN (
        SELECT b.incarnation FROM board b JOIN coordinators c USING (incarnation)
        WHERE c.ended_at IS NOT NULL
        FOR UPDATE OF b SKIP LOCKED
    )
)
SELECT b.incarnation, b.body FROM board b JOIN coordinators c USING (incarnation)
WHERE c.ended_at IS NULL AND b.incarnation <> $1
