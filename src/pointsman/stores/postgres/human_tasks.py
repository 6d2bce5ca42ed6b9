"""The people's list on PostgreSQL: see `ports/human_tasks.py` for what it promises. Appends write it (`rows.py`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pointsman.ports.human_tasks import HumanTask, TaskFilter
from pointsman.stores import cursors
from pointsman.stores.postgres.connection import Link, Pool
from pointsman.stores.queries import load

if TYPE_CHECKING:
    import asyncpg

_SQL = load(__package__, "human_tasks")


class PostgresHumanTasks:
    """
    Args:
        readers: for short statements.
        planner: a link that plans the list anew each time, because its best plan depends on the filter.
    """

    def __init__(self, readers: Pool, planner: Link) -> None:
        self._readers = readers
        self._planner = planner

    async def get(self, task: str) -> HumanTask | None:
        row = await self._readers.call(lambda connection: connection.fetchrow(_SQL["get"], task))
        return None if row is None else _task(row)

    async def list(
        self, where: TaskFilter, *, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[HumanTask], str | None]:
        opened_at, task = (None, None) if cursor is None else cursors.decode(cursor, tuple[int, str])
        limit = max(limit, 1)
        rows = await self._planner.call(
            lambda connection: connection.fetch(
                _SQL["list"],
                [*where.status] or None,
                where.tenant,
                where.run,
                opened_at,
                task,
                limit + 1,
                where.workflow,
                where.assignee,
            )
        )
        page = [_task(row) for row in rows[:limit]]
        return page, cursors.encode(page[-1].opened_at, page[-1].id) if len(rows) > limit else None


def _task(row: asyncpg.Record) -> HumanTask:
    fields = dict(row)
    return HumanTask(**(fields | {"detail": msgspec.Raw(fields["detail"])}))
