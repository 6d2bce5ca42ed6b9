"""The board on PostgreSQL: see `ports/board.py` for what it promises."""

from __future__ import annotations

from collections.abc import Mapping

from pointsman.stores.postgres.connection import Pool
from pointsman.stores.queries import load

_SQL = load(__package__, "board")


class PostgresBoard:
    def __init__(self, readers: Pool) -> None:
        self._readers = readers

    async def publish(self, incarnation: int, body: bytes) -> Mapping[int, bytes]:
        rows = await self._readers.call(lambda connection: connection.fetch(_SQL["publish"], incarnation, body))
        return {row["incarnation"]: row["body"] for row in rows}
