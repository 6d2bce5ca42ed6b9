"""The memory database of a schedule: what was committed when, and a standby that may take its place."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace
from typing import Any

from msgspec import structs

from pointsman.kernel.events import Recorded
from pointsman.stores.memory import MemoryDatabase, MemoryStore
from pointsman.stores.memory.database import HeadRow
from pointsman.testing.sim.clocks import SimClock
from pointsman.testing.sim.databases import Committed, Erased, OpenRun, Surroundings
from pointsman.testing.sim.reading import Reader, at_once
from pointsman.testing.sim.store import NetworkSeat


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
    """A `SimDatabase` in memory, which processes reach over a network."""

    def __init__(self, clock: SimClock) -> None:
        super().__init__(clock)
        self.true_clock = clock
        self.feed: StampedFeed = StampedFeed(clock)
        self.damaged: dict[str, Recorded] = {}
        self.erased: list[Erased] = []
        self._erased_feed: dict[int, tuple[str, Recorded]] = {}
        """What retention deleted, and where in the feed it stood."""
        store = MemoryStore(self)
        at_once(store.open())
        self.inbound.clear()
        self.reader = Reader(store)

    @property
    def position(self) -> int:
        return len(self.feed)

    def open_runs_now(self) -> Sequence[OpenRun]:
        return [OpenRun(row.id, row.status, row.wake_at) for row in self.open_runs.values()]

    def epoch_of(self, run: str) -> int:
        row = self.runs.get(run)
        return row.epoch if row is not None else 0

    def join(self, around: Surroundings) -> NetworkSeat:
        return NetworkSeat(self, self.true_clock, around)

    def committed(self) -> Sequence[Committed]:
        entries = [self._erased_feed.get(place, entry) for place, entry in enumerate(self.feed)]
        return [Committed(run, event, at) for (run, event), at in zip(entries, self.feed.stamps, strict=True)]

    def alter(self, run: str, event: Recorded) -> bool:
        self.runs[run].events[-1] = structs.replace(event, body=event.body + b" ")
        return True

    def skip(self, ms: int) -> None:
        self.true_clock.skip(ms)
        for row in self.incarnations.values():
            row.expires_at += ms

    def close(self) -> None:
        """Nothing is held."""

    # -- its standby ------

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
            "notices": {notice: replace(entry) for notice, entry in self.notices.items()},
            "reservations": {tranche: set(rows) for tranche, rows in self.reservations.items()},
            "damaged": dict(self.damaged),
            "length": len(self.feed),
        }

    def become(self, standby: dict[str, Any]) -> None:
        """Go on from what a standby has."""
        length = standby["length"]
        del self.feed[length:], self.feed.stamps[length:]
        for name in ("runs", "open_runs", "tasks", "states", "notices", "reservations", "damaged"):
            setattr(self, name, standby[name])

    # -- what production changes in it ------

    def erase(self, runs: Set[str]) -> None:
        """The checkers see also what retention deleted."""
        self.erased += [self._erased(self.runs[run]) for run in sorted(runs)]
        kept = [entry for entry in self.feed if entry[0] in runs]
        places = [place for place, entry in enumerate(self.feed) if entry[0] in runs]
        super().erase(runs)
        self._erased_feed.update(zip(places, kept, strict=True))

    def _erased(self, row: HeadRow) -> Erased:
        parent = self.runs.get(row.new.parent or "")
        head = parent.head() if parent is not None else None
        return Erased(
            row.head(), head, self.clock.now(), len(self.feed), tuple(row.events), tuple(row.letters.values())
        )
