"""The people's list of the memory store: see `ports/human_tasks.py` for what it promises. Appends write it."""

from __future__ import annotations

import asyncio
import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec

from pointsman.kernel.errors import InvalidCursor
from pointsman.ports.human_tasks import HumanTask, TaskFilter, TaskRow
from pointsman.stores.checks import check_text
from pointsman.stores.memory.database import HeadRow
from pointsman.stores.memory.session import Session

Key = tuple[int, str]


class MemoryHumanTasks:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._database = session.database

    async def get(self, task: str) -> HumanTask | None:
        check_text(task)
        await self._session.enter()
        found = self._database.tasks.get(task)
        await asyncio.sleep(0)
        return found

    async def list(
        self, where: TaskFilter, *, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[HumanTask], str | None]:
        check_text(*where.status, *(text or "" for text in (where.tenant, where.run, where.workflow, where.assignee)))
        after = _decode_cursor(cursor) if cursor is not None else None
        await self._session.enter()
        found = [
            task
            for task in self._database.tasks.values()
            if (after is None or _key(task) > after) and _matches(task, where)
        ]
        found.sort(key=_key)
        page = found[: max(limit, 1)]
        await asyncio.sleep(0)
        return page, _encode_cursor(_key(page[-1])) if len(found) > len(page) else None


def write_task(tasks: dict[str, HumanTask], run: HeadRow, row: TaskRow) -> None:
    """What an append that moved says of a task. What is said again changes nothing."""
    closed_at = None if row.status == "open" else row.at
    known = tasks.get(row.id)
    if known is None:
        tasks[row.id] = HumanTask(
            id=row.id, run=run.id, call=row.call, tenant=run.new.tenant, workflow=run.new.workflow, status=row.status,
            question=row.question, detail=msgspec.Raw(bytes(row.detail)), opened_at=row.at, closed_at=closed_at,
            assignee=row.assignee or "", requested=row.requested,
        )  # fmt: skip
        return
    if row.requested:
        known = tasks[row.id] = msgspec.structs.replace(known, requested=row.requested)
    if row.assignee is not None:
        known = tasks[row.id] = msgspec.structs.replace(known, assignee=row.assignee)
    if known.status != row.status:
        tasks[row.id] = msgspec.structs.replace(known, status=row.status, closed_at=closed_at)


def _matches(task: HumanTask, where: TaskFilter) -> bool:
    return (
        (not where.status or task.status in where.status)
        and (where.tenant is None or task.tenant == where.tenant)
        and (where.run is None or task.run == where.run)
        and (where.workflow is None or task.workflow == where.workflow)
        and (where.assignee is None or task.assignee == where.assignee)
    )


def _key(task: HumanTask) -> Key:
    return task.opened_at, task.id


def _encode_cursor(key: Key) -> str:
    return urlsafe_b64encode(msgspec.json.encode(key)).decode()


def _decode_cursor(cursor: str) -> Key:
    try:
        opened_at, task = msgspec.json.decode(urlsafe_b64decode(cursor), type=Key)
    except (msgspec.MsgspecError, binascii.Error, ValueError):
        raise InvalidCursor("this is not a cursor that a list of tasks gave") from None
    if _encode_cursor((opened_at, task)) != cursor:
        raise InvalidCursor("this is not a cursor that a list of tasks gave")
    return opened_at, task
