"""The system log of the memory store: see `ports/system_log.py` for what it promises."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pointsman.kernel.errors import InvalidCursor, WrongExpectedSequence
from pointsman.kernel.events import Recorded
from pointsman.ports.event_log import NewEvent
from pointsman.ports.system_log import EVENTS_KEPT, SystemHead
from pointsman.stores.checks import check_json, check_text
from pointsman.stores.memory.database import SystemRow
from pointsman.stores.memory.session import Session


class MemorySystemLog:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._database = session.database

    async def append(self, stream: str, expected: int, events: Sequence[NewEvent], state: bytes) -> SystemHead:
        """See `ports/system_log.py`.

        Raises:
            ValueError: no events: the sequence would stay, and two such appends would both win.
        """
        if not events:
            raise ValueError(f"stream {stream}: an append without events")
        check_text(stream, *(event.type for event in events))
        check_json(state)
        await self._session.enter()
        head = self._append(stream, expected, events, bytes(state))
        await asyncio.sleep(0)
        return head

    async def head(self, stream: str) -> SystemHead | None:
        check_text(stream)
        await self._session.enter()
        row = self._database.system.get(stream)
        head = row.head() if row is not None else None
        await asyncio.sleep(0)
        return head

    async def heads(self, prefix: str, *, after: str = "", limit: int = 1000) -> list[SystemHead]:
        check_text(prefix, after)
        await self._session.enter()
        rows = sorted(self._of(prefix), key=lambda row: row.stream)
        heads = [row.head() for row in rows if row.stream > after][: max(limit, 0)]
        await asyncio.sleep(0)
        return heads

    async def changes(self, prefix: str, *, cursor: str | None = None) -> tuple[list[SystemHead], str]:
        """The cursor counts the appends of all streams."""
        check_text(prefix)
        await self._session.enter()
        end = self._database.system_changes
        since = _position(cursor, end)
        heads = [row.head() for row in self._of(prefix) if row.changed > since]
        await asyncio.sleep(0)
        return heads, str(end)

    async def read(self, stream: str, *, after: int = 0, limit: int = 1000) -> list[Recorded]:
        check_text(stream)
        await self._session.enter()
        row = self._database.system.get(stream)
        kept = [recorded for recorded in row.events if recorded.sequence > after] if row is not None else []
        await asyncio.sleep(0)
        return kept[: max(limit, 0)]

    def _of(self, prefix: str) -> list[SystemRow]:
        return [row for stream, row in self._database.system.items() if stream.startswith(prefix)]

    def _append(self, stream: str, expected: int, events: Sequence[NewEvent], state: bytes) -> SystemHead:
        database = self._database
        row = database.system.get(stream)
        if (row.sequence if row is not None else 0) != expected:
            raise WrongExpectedSequence(f"stream {stream} is not at {expected}: read its head and decide again")
        if row is None:
            row = database.system[stream] = SystemRow(stream)
        for event in events:
            row.sequence += 1
            row.events.append(Recorded(row.sequence, event.at, event.type, event.version, bytes(event.body)))
        del row.events[:-EVENTS_KEPT]
        database.system_changes += 1
        row.state, row.updated_at, row.changed = state, database.clock.now(), database.system_changes
        return row.head()


def _position(cursor: str | None, end: int) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 20 and int(cursor) <= end):
        raise InvalidCursor("this is not a cursor that the system log gave")
    return int(cursor)
