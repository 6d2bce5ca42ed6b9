"""The memory database of a schedule: what was committed when, and a standby that may take its place."""

from __future__ import annotations

import random
from collections.abc import Callable, Set
from dataclasses import replace
from typing import Any, NamedTuple

from msgspec import structs

from pointsman.kernel.events import Recorded
from pointsman.stores.memory import MemoryDatabase
from pointsman.stores.memory.database import HeadRow
from pointsman.testing.sim.clocks import SimClock


class Erased(NamedTuple):
    """A run that retention deleted, its parent if there was one, when, and how many events there had been."""

    row: HeadRow
    parent: HeadRow | None
    at: int
    position: int


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
        self.damaged: dict[str, Recorded] = {}
        """Runs with an event that is not what was appended, and what that was."""
        self.erased: list[Erased] = []
        self.erased_feed: dict[int, tuple[str, Recorded]] = {}
        """What retention deleted, and where in the feed it stood."""

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
            "damaged": dict(self.damaged),
            "length": len(self.feed),
        }

    def become(self, standby: dict[str, Any]) -> None:
        """Go on from what a standby has."""
        length = standby["length"]
        del self.feed[length:], self.feed.stamps[length:]
        for name in ("runs", "open_runs", "tasks", "states", "reservations", "damaged"):
            setattr(self, name, standby[name])

    def damage(self, rng: random.Random, is_cached: Callable[[str], bool]) -> str | None:
        """The last event of some run that waits for its time, or for a signal, is altered. Gives the run.

        Args:
            is_cached: some process has it in memory, and would go on without reading it.
        """
        waiting = [
            row for row in self.open_runs.values()
            if row.status == "parked" and row.events[-1].type in ("TimerSet", "SignalAwaited")
            and row.id not in self.damaged and not is_cached(row.id)
        ]  # fmt: skip
        if not waiting:
            return None
        row = rng.choice(waiting)
        event = row.events[-1]
        row.events[-1] = structs.replace(event, body=event.body + b" ")
        self.damaged[row.id] = event
        return row.id

    def damages(self) -> dict[str, int]:
        """The sequence of each altered event, by run."""
        return {run: event.sequence for run, event in self.damaged.items()}

    def stream(self, row: HeadRow) -> tuple[Recorded, ...]:
        """As it was appended: what was altered, and no coordinator has had to read again, is put right."""
        events, original = list(row.events), self.damaged.get(row.id)
        if original is not None and events[original.sequence - 1].body == original.body + b" ":
            events[original.sequence - 1] = original
        return tuple(events)

    def erase(self, runs: Set[str]) -> None:
        """The checkers see also what retention deleted."""
        self.erased += [
            Erased(self.runs[run], self.runs.get(self.runs[run].new.parent or ""), self.clock.now(), len(self.feed))
            for run in sorted(runs)
        ]  # fmt: skip
        kept = [entry for entry in self.feed if entry[0] in runs]
        places = [place for place, entry in enumerate(self.feed) if entry[0] in runs]
        super().erase(runs)
        self.erased_feed.update(zip(places, kept, strict=True))

    def has_past(self, at: int) -> bool:
        """Is a run left that had ended by then, with its parent, and is no parent of what is kept?"""
        over = {run: row for run, row in self.runs.items() if row.ended_at is not None and row.ended_at < at}
        past = {run for run, row in over.items() if row.new.parent not in self.runs or row.new.parent in over}
        while kept := {row.new.parent for run, row in self.runs.items() if run not in past} & past:
            past -= kept
        return bool(past)

    def whole_feed(self) -> list[tuple[str, Recorded]]:
        """With what retention deleted."""
        return [self.erased_feed.get(place, entry) for place, entry in enumerate(self.feed)]

    def skip(self, ms: int) -> None:
        """Put the clock forward, while everything rests; leases go on."""
        self.true_clock.skip(ms)
        for row in self.incarnations.values():
            row.expires_at += ms
