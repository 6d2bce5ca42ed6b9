"""Notices on PostgreSQL: see `ports/notices.py` for what it promises. Appends write them (`rows.py`)."""

from __future__ import annotations

from collections.abc import Sequence

from pointsman.ports.notices import Notice
from pointsman.stores.postgres.connection import Pool
from pointsman.stores.queries import load

_SQL = load(__package__, "notices")


class PostgresNotices:
    def __init__(self, readers: Pool) -> None:
        self._readers = readers

    async def take(self, *, limit: int, hold_ms: int) -> list[Notice]:
        rows = await self._readers.call(lambda connection: connection.fetch(_SQL["take"], max(limit, 0), hold_ms))
        return sorted((Notice(*row) for row in rows), key=lambda notice: (notice.at, notice.id))

    async def postpone(self, notice: str, *, tries: int, delay_ms: int) -> None:
        await self._readers.call(lambda connection: connection.execute(_SQL["postpone"], notice, delay_ms, tries))

    async def settle(self, notices: Sequence[str]) -> None:
        await self._readers.call(lambda connection: connection.execute(_SQL["settle"], list(notices)))
