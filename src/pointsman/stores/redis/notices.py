"""Notices on Redis: see `ports/notices.py` for what it promises. Appends write them."""

from __future__ import annotations

from collections.abc import Sequence

from pointsman.ports.notices import Notice
from pointsman.stores.checks import check_text
from pointsman.stores.redis.session import Session


class RedisNotices:
    def __init__(self, session: Session) -> None:
        self._session = session

    async def take(self, *, limit: int, hold_ms: int) -> list[Notice]:
        found = await self._session.call("notices.take", limit=max(limit, 0), hold_ms=hold_ms)
        taken = [Notice(id_.decode(), int(at), body, int(tries)) for id_, at, body, tries in found]
        return sorted(taken, key=lambda notice: (notice.at, notice.id))

    async def postpone(self, notice: str, *, tries: int, delay_ms: int) -> None:
        check_text(notice)
        await self._session.call("notices.postpone", notice=notice, tries=tries, delay_ms=delay_ms)

    async def settle(self, notices: Sequence[str]) -> None:
        check_text(*notices)
        await self._session.call("notices.settle", notices=list(notices))
