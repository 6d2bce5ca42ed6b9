"""Reservations on Redis: see `ports/reservations.py` for what it promises. Appends write them."""

from __future__ import annotations

from pointsman.ports.reservations import Reservation
from pointsman.stores.checks import check_text
from pointsman.stores.redis.session import Session


class RedisReservations:
    def __init__(self, session: Session) -> None:
        self._session = session

    async def of(self, tranche: str, *, limit: int = 10_000) -> list[Reservation]:
        check_text(tranche)
        found = []
        for entry in await self._session.call("reservations.of", tranche=tranche):
            sequence, _, run = entry.decode().partition(":")
            found.append((run, int(sequence)))
        return [Reservation(tranche, run, sequence) for run, sequence in sorted(found)[: max(limit, 0)]]

    async def forget(self, tranche: str) -> None:
        check_text(tranche)
        await self._session.call("reservations.forget", tranche=tranche)
