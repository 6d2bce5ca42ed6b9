"""The memory database of a schedule: what was committed when, and a standby that may take its place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pointsman.kernel.events import Recorded
from pointsman.stores.memory import MemoryDatabase
from pointsman.testing.sim.clocks import SimClock


class StampedFeed(list[tuple[str, Recorded]]):
    """The database's feed, which also notes when each event was committed."""

    def __init__(self, clock: SimClock) -> None:
        super().__init__()
        self._clock = clock
        self.stamps: list[int] = []

    def append(self, event: tuple[str, Recorded]) -> None:
        self.stamps.append(self._clock.now())
        super().append(event)


class Replica(MemoryDatabase):
    """See the module."""

    def __init__(self, clock: SimClock) -> None:
        super().__init__(clock)
        self.true_clock = clock
        self.feed: StampedFeed = StampedFeed(clock)

    def state(self) -> dict[str, Any]:
        """What appends change, copied: what a standby has."""
        runs = {
            run: replace(row, events=list(row.events), nonces=list(row.nonces), letters=dict(row.letters))
            for run, row in self.runs.items()
        }
        return {
            "runs": runs,
            "open_runs": {run: runs[run] for run in self.open_runs},
            "tasks": dict(self.tasks),
            "states": dict(self.states),
            "reservations": {tranche: set(rows) for tranche, rows in self.reservations.items()},
            "length": len(self.feed),
        }

    def become(self, standby: dict[str, Any]) -> None:
        """Go on from what a standby has."""
        length = standby["length"]
        del self.feed[length:], self.feed.stamps[length:]
        for name in ("runs", "open_runs", "tasks", "states", "reservations"):
            setattr(self, name, standby[name])

    def skip(self, ms: int) -> None:
        """Put the clock forward, while everything rests; leases go on."""
        self.true_clock.skip(ms)
        for row in self.incarnations.values():
            row.expires_at += ms
