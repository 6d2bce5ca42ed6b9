"""Reservations on SQLite: see `ports/reservations.py` for what it promises. Appends write them (`event_log.py`)."""

from __future__ import annotations

from pointsman.ports.reservations import Reservation
from pointsman.stores.checks import check_text
from pointsman.stores.queries import load
from pointsman.stores.sqlite.session import Session

_SQL = load(__package__, "reservations")


class SqliteReservations:
    def __init__(self, session: Session) -> None:
        self._session = session

    async def of(self, tranche: str, *, limit: int = 10_000) -> list[Reservation]:
        check_text(tranche)
        found = await self._session.call(
            lambda connection: connection.execute(_SQL["of"], (tranche, max(limit, 0))).fetchall()
        )
        return [Reservation(*row) for row in found]

    async def forget(self, tranche: str) -> None:
        check_text(tranche)
        await self._session.call(lambda connection: connection.execute(_SQL["forget"], (tranche,)).rowcount)
