"""The mailbox of the memory store: see `ports/mailbox.py` for what it promises."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from pointsman.ports.mailbox import Mail
from pointsman.stores.checks import check_text
from pointsman.stores.memory.session import Session


class MemoryMailbox:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._database = session.database

    async def post(self, run: str, key: str, kind: str, body: bytes) -> int:
        check_text(run, key, kind)
        await self._session.enter()
        number = self._accept(run, key, kind, body)
        await asyncio.sleep(0)
        return number

    async def read(self, run: str, *, after: int) -> list[Mail]:
        await self._session.enter()
        row = self._database.runs.get(run)
        mails = [mail for mail in row.letters.values() if mail.number > after] if row else []
        await asyncio.sleep(0)
        return mails

    async def find(self, run: str, key: str) -> Mail | None:
        await self._session.enter()
        row = self._database.runs.get(run)
        mail = row.letters.get(key) if row else None
        await asyncio.sleep(0)
        return mail

    async def unread(self, owner: int) -> Mapping[str, int]:
        await self._session.enter()
        rows = self._database.open_runs.values()
        unread = {row.id: row.mail for row in rows if row.owner == owner and row.mail > row.folded}
        await asyncio.sleep(0)
        return unread

    def _accept(self, run: str, key: str, kind: str, body: bytes) -> int:
        return self._database.accept_mail(run, key, kind, body)
