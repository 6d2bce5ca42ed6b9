"""The people's list on Redis: see `ports/human_tasks.py` for what it promises. Appends write it."""

from __future__ import annotations

import builtins
from typing import Any, Final

import msgspec

from pointsman.ports.human_tasks import HumanTask, TaskFilter
from pointsman.stores import cursors
from pointsman.stores.checks import check_text
from pointsman.stores.redis.rows import fields
from pointsman.stores.redis.session import Session

PAGE: Final = 500
"""Tasks that a listing reads in one step."""


class RedisHumanTasks:
    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, task: str) -> HumanTask | None:
        check_text(task)
        row = await self._session.call("human_tasks.get", id=task)
        return None if row is None else _task(row)

    async def list(
        self, where: TaskFilter, *, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[HumanTask], str | None]:
        """List tasks by reading all of them, oldest first, until the page is full; for one run, only its own."""
        check_text(*where.status, *(text or "" for text in (where.tenant, where.run, where.workflow, where.assignee)))
        after = (0, "") if cursor is None else cursors.decode(cursor, tuple[int, str])
        limit, passed, out = max(limit, 1), 0, list[HumanTask]()
        while len(out) <= limit:
            page = await self._page(where, after[0], passed)
            passed += len(page)
            out += [task for task in page if (task.opened_at, task.id) > after and _matches(task, where)]
            if where.run is not None or len(page) < PAGE:
                break
        last = out[limit - 1] if len(out) > limit else None
        return out[:limit], None if last is None else cursors.encode(last.opened_at, last.id)

    async def _page(self, where: TaskFilter, at: int, passed: int) -> builtins.list[HumanTask]:
        if where.run is None:
            rows = await self._session.call("human_tasks.page", at=str(at), passed=passed, limit=PAGE)
            return [_task(row) for row in rows]
        found = [_task(row) for row in await self._session.call("human_tasks.of_run", run=where.run)]
        return sorted(found, key=lambda task: (task.opened_at, task.id))


def _matches(task: HumanTask, where: TaskFilter) -> bool:
    return (
        (not where.status or task.status in where.status)
        and (where.tenant is None or task.tenant == where.tenant)
        and (where.workflow is None or task.workflow == where.workflow)
        and (where.assignee is None or task.assignee == where.assignee)
    )


def _task(row: Any) -> HumanTask:
    found = fields(row[1])
    return HumanTask(
        id=row[0].decode(), run=found["run"], call=found["call"], tenant=found["tenant"], workflow=found["workflow"],
        status=found["status"], question=found["question"], detail=msgspec.Raw(found["detail"].encode()),
        opened_at=int(found["opened_at"]), closed_at=int(found["closed_at"]) if found["closed_at"] else None,
        assignee=found["assignee"], requested=int(found["requested"]),
    )  # fmt: skip
