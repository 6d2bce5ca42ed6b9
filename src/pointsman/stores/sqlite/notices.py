"""Notices on SQLite: see `ports/notices.py` for what it promises. Appends write them (`event_log.py`)."""

from __future__ import annotations

from collections.abc import Sequence

from pointsman.ports.clock import Clock
from pointsman.ports.notices import Notice
from pointsman.stores.checks import check_text
from pointsman.stores.queries import load
from pointsman.stores.sqlite.session import Session

_SQL = load(__package__, "notices")


class SqliteNotices:
    def __init__(self, session: Session, clock: Clock) -> None:
        self._session = session
        self._clock = clock

    async def take(self, *, limit: int, hold_ms: int) -> list[Notice]:
        now = self._clock.now()
        wanted = {"now": now, "again": now + hold_ms, "limit": max(limit, 0)}
        rows = await self._session.call(lambda connection: connection.execute(_SQL["take"], wanted).fetchall())
        taken = [Notice(key, at, body.encode(), tries) for key, at, body, tries in rows]
        return sorted(taken, key=lambda notice: (notice.at, notice.id))

    async def postpone(self, notice: str, *, tries: int, delay_ms: int) -> None:
        check_text(notice)
        wanted = {"id": notice, "tries": tries, "due_at": self._clock.now() + delay_ms}
        await self._session.call(lambda connection: connection.execute(_SQL["postpone"], wanted).rowcount)

    async def settle(self, notices: Sequence[str]) -> None:
        check_text(*notices)
        rows = [(notice,) for notice in notices]
        await self._session.call(lambda connection: connection.executemany(_SQL["settle"], rows).rowcount)
