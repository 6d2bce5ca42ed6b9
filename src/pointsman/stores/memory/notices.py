"""Notices of the memory store: see `ports/notices.py` for what it promises. Appends write them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from pointsman.ports.notices import Notice
from pointsman.stores.checks import check_text
from pointsman.stores.memory.session import Session


class MemoryNotices:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._database = session.database

    async def take(self, *, limit: int, hold_ms: int) -> list[Notice]:
        await self._session.enter()
        now = self._database.clock.now()
        due = [entry for entry in self._database.notices.values() if entry.due_at <= now]
        due.sort(key=lambda entry: (entry.due_at, entry.notice.id))
        taken = due[: max(limit, 0)]
        for entry in taken:
            entry.due_at = now + hold_ms
        notices = sorted((entry.notice for entry in taken), key=lambda notice: (notice.at, notice.id))
        await asyncio.sleep(0)
        return notices

    async def postpone(self, notice: str, *, tries: int, delay_ms: int) -> None:
        check_text(notice)
        await self._session.enter()
        entry = self._database.notices.get(notice)
        if entry is not None:
            entry.due_at = self._database.clock.now() + delay_ms
            entry.notice = msgspec.structs.replace(entry.notice, tries=tries)
        await asyncio.sleep(0)

    async def settle(self, notices: Sequence[str]) -> None:
        check_text(*notices)
        await self._session.enter()
        for notice in notices:
            self._database.notices.pop(notice, None)
        await asyncio.sleep(0)
