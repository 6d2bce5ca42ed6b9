"""Reservations on PostgreSQL: see `ports/reservations.py` for what it promises. Appends write them (`rows.py`)."""

from __future__ import annotations

from pointsman.ports.reservations import Reservation
from pointsman.stores.postgres.connection import Pool
from pointsman.stores.queries import load

_SQL = load(__package__, "reservations")


class PostgresReservations:
    def __init__(self, readers: Pool) -> None:
        self._readers = readers

    async def of(self, tranche: str, *, limit: int = 10_000) -> list[Reservation]:
        rows = await self._readers.call(lambda connection: connection.fetch(_SQL["of"], tranche, max(limit, 0)))
        return [Reservation(*row) for row in rows]

    async def forget(self, tranche: str) -> None:
        await self._readers.call(lambda connection: connection.execute(_SQL["forget"], tranche))
