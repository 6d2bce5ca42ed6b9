"""Reservations of the memory store: see `ports/reservations.py` for what it promises. Appends write them."""

from __future__ import annotations

import asyncio

from pointsman.ports.reservations import Reservation
from pointsman.stores.checks import check_text
from pointsman.stores.memory.session import Session


class MemoryReservations:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._database = session.database

    async def of(self, tranche: str, *, limit: int = 10_000) -> list[Reservation]:
        check_text(tranche)
        await self._session.enter()
        spent = sorted(self._database.reservations.get(tranche, ()))
        await asyncio.sleep(0)
        return [Reservation(tranche, run, sequence) for run, sequence in spent[: max(limit, 0)]]

    async def forget(self, tranche: str) -> None:
        check_text(tranche)
        await self._session.enter()
        self._database.reservations.pop(tranche, None)
        await asyncio.sleep(0)
