-- The people's list. Its rows are written by appends (append.sql).

-- name: task_columns
-- A task, in the order of `HumanTask`'s fields.
t.id, t.run, t.call, r.tenant, r.workflow, t.status, t.question, t.detail, t.opened_at, t.closed_at,
coalesce(t.assignee, '') AS assignee, t.requested

-- name: get
-- One task.
SELECT
    -- include: task_columns
FROM human_tasks t JOIN runs r ON r.id = t.run WHERE t.id = $1

-- name: list
-- Oldest first, by keyset. A condition whose parameter is null falls out of the plan: this runs with custom plans only.
SELECT
    -- include: task_columns
FROM human_tasks t JOIN runs r ON r.id = t.run
WHERE ($1::text[] IS NULL OR t.status = ANY ($1))
  AND ($2::text IS NULL OR r.tenant = $2)
  AND ($3::text IS NULL OR t.run = $3)
  AND ($4::timestamptz IS NULL OR (t.opened_at, t.id) > ($4, $5::text))
  AND ($7::text IS NULL OR r.workflow = $7)
  AND ($8::text IS NULL OR coalesce(t.assignee, '') = $8)
ORDER BY t.opened_at, t.id
LIMIT $6
