"""Reservations: which events of which runs spend from a tranche of a shared budget. Written by the append that holds
the event (`Append.reservations`), so that the tranche of a dead coordinator can be settled exactly; deleted when it
is."""

from __future__ import annotations

from typing import Protocol

import msgspec


class ReservationRow(msgspec.Struct, frozen=True):
    """Event `sequence` of the append's run is a CallReserved that names `tranche`."""

    tranche: str
    sequence: int


class Reservation(msgspec.Struct, frozen=True):
    tranche: str
    run: str
    sequence: int


class Reservations(Protocol):
    async def of(self, tranche: str, *, limit: int = 10_000) -> list[Reservation]:
        """All that spend from it, by run and sequence."""
        ...

    async def forget(self, tranche: str) -> None:
        """It is settled. Twice is once."""
        ...
