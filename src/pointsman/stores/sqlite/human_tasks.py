"""The people's list on SQLite: see `ports/human_tasks.py` for what it promises. Appends write it (`event_log.py`)."""

from __future__ import annotations

import msgspec

from pointsman.ports.human_tasks import HumanTask, TaskFilter
from pointsman.stores import cursors
from pointsman.stores.checks import check_text
from pointsman.stores.queries import load
from pointsman.stores.sqlite.rows import Row
from pointsman.stores.sqlite.session import Session

DETAIL = 7
"""The index of the detail among a task's columns."""

_SQL = load(__package__, "human_tasks")


class SqliteHumanTasks:
    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, task: str) -> HumanTask | None:
        check_text(task)
        row = await self._session.call(lambda connection: connection.execute(_SQL["get"], (task,)).fetchone())
        return None if row is None else _task(row)

    async def list(
        self, where: TaskFilter, *, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[HumanTask], str | None]:
        check_text(*where.status, *(text or "" for text in (where.tenant, where.run, where.workflow, where.assignee)))
        opened_at, task = (None, None) if cursor is None else cursors.decode(cursor, tuple[int, str])
        limit = max(limit, 1)
        wanted = {
            "status": msgspec.json.encode(where.status).decode() if where.status else None,
            "tenant": where.tenant,
            "run": where.run,
            "workflow": where.workflow,
            "assignee": where.assignee,
            "opened_at": opened_at,
            "task": task,
            "limit": limit + 1,
        }
        found = await self._session.call(lambda connection: connection.execute(_SQL["list"], wanted).fetchall())
        page = [_task(row) for row in found[:limit]]
        return page, cursors.encode(page[-1].opened_at, page[-1].id) if len(found) > limit else None


def _task(row: Row) -> HumanTask:
    fields = list(row)
    fields[DETAIL] = msgspec.Raw(fields[DETAIL].encode())
    return HumanTask(*fields)
