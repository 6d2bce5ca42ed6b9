"""Who lives, where all coordinators of a store are in one process: incarnations, what they say, and whom to tell.

Every write here is one atomic step: none awaits. The only clock is the injected one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pointsman.ports.clock import Clock
from pointsman.ports.ownership import Definition
from pointsman.stores.inprocess.wakeup import Inbound


@dataclass(slots=True)
class IncarnationRow:
    number: int
    name: str
    address: str
    definitions: tuple[Definition, ...]
    ttl_ms: int
    started_at: int
    expires_at: int
    ended: bool = False
    trial: frozenset[str] = frozenset()
    """The runs that it drives on suspicion; once `is_judged`, those that it died of."""
    is_judged: bool = False
    severed: bool = False
    """Its session lock is free: the process is gone, or has lost its connection."""


class Membership:
    """Shared by the stores of one database.

    Args:
        clock: the database's clock; leases are due by it alone.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.next_incarnation = 1
        self.incarnations: dict[int, IncarnationRow] = {}
        self.deaths: list[int] = []
        self.inbound: list[Inbound] = []
        self.board: dict[int, bytes] = {}
        self._watchers: list[asyncio.Future[None]] = []

    def register(self, name: str, address: str, definitions: Sequence[Definition], ttl_ms: int) -> IncarnationRow:
        now = self.clock.now()
        row = IncarnationRow(
            number=self.next_incarnation, name=name, address=address, definitions=tuple(definitions),
            ttl_ms=ttl_ms, started_at=now, expires_at=now + ttl_ms,
        )  # fmt: skip
        self.next_incarnation += 1
        self.incarnations[row.number] = row
        self._wake_watchers()
        return row

    def living(self) -> Iterator[IncarnationRow]:
        return (row for row in self.incarnations.values() if not row.ended)

    def is_living(self, incarnation: int) -> bool:
        row = self.incarnations.get(incarnation)
        return row is not None and not row.ended

    def end(self, incarnation: int) -> bool:
        """End an incarnation; the first who does wins."""
        if not self.is_living(incarnation):
            return False
        self.incarnations[incarnation].ended = True
        self.board.pop(incarnation, None)
        self.deaths.append(incarnation)
        self._wake_watchers()
        return True

    def sever(self, incarnation: int) -> None:
        """Free its session lock, as the end of its process does: a hint to watchers.

        Where the process lives, its next renewal takes the lock again.
        """
        if self.is_living(incarnation):
            self.incarnations[incarnation].severed = True
            self._wake_watchers()

    async def membership_change(self, timeout_s: float | None) -> None:
        """Wait until an incarnation begins, ends or is severed, at most `timeout_s`."""
        watcher = asyncio.get_running_loop().create_future()
        self._watchers.append(watcher)
        try:
            await asyncio.wait((watcher,), timeout=timeout_s)
        finally:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

    def _wake_watchers(self) -> None:
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)
