"""The system log on SQLite: see `ports/system_log.py` for what it promises."""

from __future__ import annotations

from collections.abc import Sequence

from pointsman.kernel.errors import InvalidCursor, WrongExpectedSequence
from pointsman.kernel.events import Recorded
from pointsman.ports.event_log import NewEvent
from pointsman.ports.system_log import EVENTS_KEPT, SystemHead
from pointsman.stores import cursors
from pointsman.stores.checks import check_json, check_text
from pointsman.stores.queries import load
from pointsman.stores.sqlite.connection import Connection
from pointsman.stores.sqlite.rows import Row
from pointsman.stores.sqlite.session import Session

_SQL = load(__package__, "system_log")


class SqliteSystemLog:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._clock = session.database.clock

    async def append(self, stream: str, expected: int, events: Sequence[NewEvent], state: bytes) -> SystemHead:
        """See `ports/system_log.py`.

        Raises:
            ValueError: there are no events: the sequence would not move, and two such appends would both win.
        """
        if not events:
            raise ValueError(f"stream {stream}: an append without events")
        check_text(stream, *(event.type for event in events))
        check_json(state)
        return await self._session.call(
            lambda connection: _append(connection, stream, expected, events, bytes(state), self._clock.now())
        )

    async def head(self, stream: str) -> SystemHead | None:
        check_text(stream)
        row = await self._session.call(lambda connection: connection.execute(_SQL["head"], (stream,)).fetchone())
        return None if row is None else _head(row)

    async def heads(self, prefix: str, *, after: str = "", limit: int = 1000) -> list[SystemHead]:
        check_text(prefix, after)
        wanted = {"prefix": prefix, "after": after, "limit": max(limit, 0)}
        found = await self._session.call(lambda connection: connection.execute(_SQL["heads"], wanted).fetchall())
        return [_head(row) for row in found]

    async def changes(self, prefix: str, *, cursor: str | None = None) -> tuple[list[SystemHead], str]:
        """The cursor counts the appends of all streams."""
        check_text(prefix)
        since = 0 if cursor is None else cursors.decode(cursor, tuple[int])[0]

        def look(connection: Connection) -> tuple[list[Row], int]:
            (last,) = connection.execute(_SQL["last_change"]).fetchone()
            return connection.execute(_SQL["changes"], {"since": since, "prefix": prefix}).fetchall(), last

        found, last = await self._session.call(look)
        if since > last:
            raise InvalidCursor("this is not a cursor that the system log gave")
        return [_head(row) for row in found], cursors.encode(last)

    async def read(self, stream: str, *, after: int = 0, limit: int = 1000) -> list[Recorded]:
        check_text(stream)
        found = await self._session.call(
            lambda connection: connection.execute(_SQL["read"], (stream, after, max(limit, 0))).fetchall()
        )
        return [Recorded(*row) for row in found]


def _append(
    connection: Connection, stream: str, expected: int, events: Sequence[NewEvent], state: bytes, now: int
) -> SystemHead:
    row = connection.execute(_SQL["sequence"], (stream,)).fetchone()
    if (row[0] if row is not None else 0) != expected:
        raise WrongExpectedSequence(f"stream {stream} is not at {expected}: read its head and decide again")
    sequence = expected + len(events)
    connection.execute(_SQL["move"], (stream, sequence, state.decode(), now))
    connection.executemany(
        _SQL["insert"],
        [
            (stream, place, event.at, event.type, event.version, bytes(event.body))
            for place, event in enumerate(events, expected + 1)
        ],
    )
    connection.execute(_SQL["cut"], (stream, sequence - EVENTS_KEPT))
    return SystemHead(stream, sequence, state, now)


def _head(row: Row) -> SystemHead:
    stream, sequence, state, updated_at = row
    return SystemHead(stream, sequence, state.encode(), updated_at)
