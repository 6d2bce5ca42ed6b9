"""Reservations: which events of which runs spend from a tranche of a shared budget.

They are written by the append that holds the event (`Append.reservations`), so that the tranches of a dead coordinator
can be settled exactly, and deleted once the tranche is settled.
"""

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
        """All reservations from this tranche, by run and sequence."""
        ...

    async def forget(self, tranche: str) -> None:
        """Delete the reservations of a settled tranche. Idempotent."""
        ...
