"""The system log on PostgreSQL: see `ports/system_log.py` for what it promises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg

from pointsman.kernel.errors import CorruptLog, WrongExpectedSequence
from pointsman.kernel.events import Recorded
from pointsman.ports.event_log import NewEvent
from pointsman.ports.system_log import EVENTS_KEPT, SystemHead
from pointsman.stores import cursors, payload
from pointsman.stores.postgres.connection import Pool
from pointsman.stores.queries import load

CUT_EVERY: Final = 100
"""Sequences between two cuts."""

_SQL = load(__package__, "system_log")


class PostgresSystemLog:
    """
    Args:
        plain_bytes_max: bodies with more bytes are packed.
    """

    def __init__(self, readers: Pool, plain_bytes_max: int) -> None:
        self._readers = readers
        self._plain_bytes_max = plain_bytes_max

    async def append(self, stream: str, expected: int, events: Sequence[NewEvent], state: bytes) -> SystemHead:
        """See `ports/system_log.py`.

        Raises:
            ValueError: there are no events: the sequence would not move, and two such appends would both win.
            CorruptLog: somebody wrote events past the head.
        """
        if not events:
            raise ValueError(f"stream {stream}: an append without events")
        columns = self._columns(events)
        try:
            row = await self._readers.call(
                lambda connection: connection.fetchrow(
                    _SQL["append"], stream, expected, len(events), state, *columns, EVENTS_KEPT, CUT_EVERY
                )
            )
        except asyncpg.UniqueViolationError as error:
            raise CorruptLog(f"stream {stream} has events past its head at {expected}") from error
        if row is None:
            raise WrongExpectedSequence(f"stream {stream} is not at {expected}: read its head and decide again")
        return SystemHead(stream, row["sequence"], state, row["updated_at"])

    async def head(self, stream: str) -> SystemHead | None:
        row = await self._readers.call(lambda connection: connection.fetchrow(_SQL["head"], stream))
        return None if row is None else SystemHead(*row)

    async def heads(self, prefix: str, *, after: str = "", limit: int = 1000) -> list[SystemHead]:
        rows = await self._readers.call(
            lambda connection: connection.fetch(_SQL["heads"], prefix, after, max(limit, 0))
        )
        return [SystemHead(*row) for row in rows]

    async def changes(self, prefix: str, *, cursor: str | None = None) -> tuple[list[SystemHead], str]:
        """See `ports/system_log.py`. The cursor is the oldest transaction that was still under way anywhere in the
        cluster. If one stays open for long, changes since it began are returned again; none is lost.
        """
        since = 0 if cursor is None else cursors.decode(cursor, tuple[int])[0]
        rows = await self._readers.call(lambda connection: connection.fetch(_SQL["changes"], prefix, since))
        heads = [SystemHead(*row[1:]) for row in rows if row["stream"] is not None]
        return heads, cursors.encode(rows[0]["horizon"])

    async def read(self, stream: str, *, after: int = 0, limit: int = 1000) -> list[Recorded]:
        rows = await self._readers.call(
            lambda connection: connection.fetch(_SQL["read"], stream, max(after, 0), max(limit, 0))
        )
        return [
            Recorded(
                sequence=row["sequence"], at=row["at"], type=row["type"], version=row["version"],
                body=payload.load(row["body"], row["packed"], row["codec"]),
            )
            for row in rows
        ]  # fmt: skip

    def _columns(self, events: Sequence[NewEvent]) -> list[list[object]]:
        """Columns of the events. Bodies that are certainly JSON stay readable by SQL; appends are few, so all are
        checked.
        """
        stored = [
            payload.store(event.body, self._plain_bytes_max)
            if payload.is_json(event.body)
            else payload.pack(event.body)
            for event in events
        ]
        return [
            [event.at for event in events],
            [event.type for event in events],
            [event.version for event in events],
            [body for body, _, _ in stored],
            [packed for _, packed, _ in stored],
            [codec for _, _, codec in stored],
        ]
