"""The mailbox on PostgreSQL: see `ports/mailbox.py` for what it promises."""

from __future__ import annotations

from collections.abc import Mapping

import asyncpg

from pointsman.kernel.errors import DuplicateMail, RunEnded, UnknownRun
from pointsman.ports.mailbox import Mail
from pointsman.stores.postgres.connection import Pool
from pointsman.stores.queries import load

_SQL = load(__package__, "mailbox")


class PostgresMailbox:
    def __init__(self, readers: Pool) -> None:
        self._readers = readers

    async def post(self, run: str, key: str, kind: str, body: bytes) -> int:
        try:
            number: int | None = await self._readers.call(
                lambda connection: connection.fetchval(_SQL["post"], run, key, kind, body)
            )
        except asyncpg.UniqueViolationError as error:
            raise DuplicateMail from error
        if number is not None:
            return number
        row = await self._readers.call(lambda connection: connection.fetchrow(_SQL["refusal"], run, key))
        if row is None:
            raise UnknownRun(f"no run has the id {run!r}")
        raise DuplicateMail if row["has_key"] else RunEnded

    async def read(self, run: str, *, after: int) -> list[Mail]:
        rows = await self._readers.call(lambda connection: connection.fetch(_SQL["read_mail"], run, after))
        return [Mail(*row) for row in rows]

    async def find(self, run: str, key: str) -> Mail | None:
        row = await self._readers.call(lambda connection: connection.fetchrow(_SQL["find_mail"], run, key))
        return None if row is None else Mail(*row)

    async def unread(self, owner: int) -> Mapping[str, int]:
        rows = await self._readers.call(lambda connection: connection.fetch(_SQL["unread"], owner))
        return {row["id"]: row["mail"] for row in rows}
