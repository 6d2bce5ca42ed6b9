"""The system log on Redis: see `ports/system_log.py` for what it promises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pointsman.kernel.errors import InvalidCursor, WrongExpectedSequence
from pointsman.kernel.events import Recorded
from pointsman.ports.event_log import NewEvent
from pointsman.ports.system_log import EVENTS_KEPT, SystemHead
from pointsman.stores import cursors
from pointsman.stores.checks import check_json, check_text
from pointsman.stores.redis import rows
from pointsman.stores.redis.session import Blobs, Session


class RedisSystemLog:
    def __init__(self, session: Session) -> None:
        self._session = session

    async def append(self, stream: str, expected: int, events: Sequence[NewEvent], state: bytes) -> SystemHead:
        """See `ports/system_log.py`.

        Raises:
            ValueError: there are no events: the sequence would not move, and two such appends would both win.
        """
        if not events:
            raise ValueError(f"stream {stream}: an append without events")
        check_text(stream, *(event.type for event in events))
        check_json(state)
        blobs = Blobs()
        plain = self._session.settings.plain_bytes_max
        for sequence, event in enumerate(events, expected + 1):
            blobs.add(rows.stored(event, sequence, 0, b"", plain))
        place = blobs.add(state)
        found = await self._session.call(
            "system_log.append", blobs, stream=stream, expected=expected, count=len(events), first=3, state=place,
            kept=EVENTS_KEPT,
        )  # fmt: skip
        if found is None:
            raise WrongExpectedSequence(f"stream {stream} is not at {expected}: read its head and decide again")
        return _head(found)

    async def head(self, stream: str) -> SystemHead | None:
        check_text(stream)
        found = await self._session.call("system_log.head", stream=stream)
        return None if found is None else _head(found)

    async def heads(self, prefix: str, *, after: str = "", limit: int = 1000) -> list[SystemHead]:
        check_text(prefix, after)
        found = await self._session.call("system_log.heads", prefix=prefix, after=after, limit=max(limit, 0))
        return [_head(row) for row in found]

    async def changes(self, prefix: str, *, cursor: str | None = None) -> tuple[list[SystemHead], str]:
        """The cursor counts the appends of all streams."""
        check_text(prefix)
        since = 0 if cursor is None else cursors.decode(cursor, tuple[int])[0]
        last, found = await self._session.call("system_log.changes", prefix=prefix, since=str(since))
        if since > int(last):
            raise InvalidCursor("this is not a cursor that the system log gave")
        return [_head(row) for row in found], cursors.encode(int(last))

    async def read(self, stream: str, *, after: int = 0, limit: int = 1000) -> list[Recorded]:
        check_text(stream)
        found = [rows.recorded(raw, 0) for raw in await self._session.call("system_log.read", stream=stream)]
        return [event for event in found if event.sequence > after][: max(limit, 0)]


def _head(row: Any) -> SystemHead:
    stream, sequence, state, updated_at = row
    return SystemHead(stream.decode(), int(sequence), state, int(updated_at))
