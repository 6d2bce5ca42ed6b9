-- The people's list. Its rows are written by appends (log.sql).

-- name: task_columns
-- A task, in the order of `HumanTask`'s fields.
t.id, t.run, t.call, r.tenant, r.workflow, t.status, t.question, t.detail, t.opened_at, t.closed_at,
t.assignee, t.requested

-- name: get
-- One task.
SELECT
    -- include: task_columns
FROM human_tasks t JOIN runs r ON r.id = t.run WHERE t.id = ?

-- name: list
-- Oldest first, by keyset.
SELECT
    -- include: task_columns
FROM human_tasks t JOIN runs r ON r.id = t.run
WHERE (:status IS NULL OR t.status IN (SELECT value FROM json_each(:status)))
  AND (:tenant IS NULL OR r.tenant = :tenant)
  AND (:run IS NULL OR t.run = :run)
  AND (:workflow IS NULL OR r.workflow = :workflow)
  AND (:assignee IS NULL OR t.assignee = :assignee)
  AND (:opened_at IS NULL OR (t.opened_at, t.id) > (:opened_at, :task))
ORDER BY t.opened_at, t.id LIMIT :limit
