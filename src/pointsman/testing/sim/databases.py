"""What a schedule needs of its database, whichever store is below.

Checkers read it through the ports (`reading.py`); what goes wrong in the database itself goes through here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from pointsman.kernel.events import Recorded
from pointsman.ports.clock import Clock
from pointsman.ports.event_log import Head
from pointsman.ports.mailbox import Mail
from pointsman.ports.store import Store
from pointsman.testing.sim.clocks import ProcessClocks, SimClock
from pointsman.testing.sim.faulty import Faults, Trace
from pointsman.testing.sim.loop import Process, SimLoop
from pointsman.testing.sim.reading import Reader

WAITING = ("TimerSet", "SignalAwaited")
"""Last events of runs that wait for a time, or for a signal."""


class OpenRun(NamedTuple):
    """A run that has not ended, and when it is due (ms), if it waits for a time."""

    id: str
    status: str
    wake_at: int | None


class Committed(NamedTuple):
    """An event, and when it was committed (ms by the database's clock)."""

    run: str
    event: Recorded
    at: int


class Erased(NamedTuple):
    """A run that retention deleted, its parent if there was one, when, and how many events there had been."""

    head: Head
    parent: Head | None
    at: int
    position: int
    stream: Sequence[Recorded] = ()
    mails: Sequence[Mail] = ()


class Surroundings(NamedTuple):
    """Of a process that opens a database."""

    loop: SimLoop
    rng: random.Random
    process: Process
    clocks: ProcessClocks
    faults: Faults
    trace: Trace


class EarlyClock(Clock, Protocol):
    early_ms: int
    """How far ahead of the database's clock it was at most."""


class Seat(Protocol):
    """One process's hold on the database.

    Attributes:
        store: what its coordinator works with.
        clock: what its coordinator takes for the database's clock.
    """

    @property
    def store(self) -> Store: ...
    @property
    def clock(self) -> EarlyClock: ...
    @property
    def is_busy(self) -> bool:
        """Is an append of this process on its way?"""
        ...

    def heal(self) -> None:
        """Nothing is wrong between this process and the database any more."""
        ...

    def crash(self) -> None:
        """What the end of the process is to the database."""
        ...


class SimDatabase(Protocol):
    """The database of a schedule, and the faults that can strike it.

    Attributes:
        true_clock: the database's clock.
        reader: what it holds now.
        damaged: runs with an event that is not what was appended, and what that was.
        erased: what retention deleted.
    """

    true_clock: SimClock
    reader: Reader
    damaged: dict[str, Recorded]
    erased: list[Erased]

    @property
    def position(self) -> int:
        """How many events were ever committed, less those that a standby never got."""
        ...

    def open_runs_now(self) -> Sequence[OpenRun]:
        """The oldest first. What is asked all the time: `reader` has the rest."""
        ...

    def epoch_of(self, run: str) -> int:
        """0: there is no such run."""
        ...

    def join(self, around: Surroundings) -> Seat: ...

    def committed(self) -> Sequence[Committed]:
        """Every event, in the order of commits; also of runs that retention deleted. What a repair moved away is in its
        place under no run's name."""
        ...

    def alter(self, run: str, event: Recorded) -> bool:
        """Put a space behind the body of the last event of a run. False: it does not lie there as plain text."""
        ...

    def skip(self, ms: int) -> None:
        """Put the clock forward, while everything rests; leases go on."""
        ...

    def close(self) -> None: ...


def rot(database: SimDatabase, rng: random.Random, is_cached: Callable[[str], bool]) -> str | None:
    """The last event of some run that waits for its time, or for a signal, is altered. Gives the run.

    Args:
        is_cached: some process has it in memory, and would go on without reading it.
    """
    waiting: list[tuple[str, Recorded]] = []
    for run in database.open_runs_now():
        if run.status == "parked" and run.id not in database.damaged and not is_cached(run.id):
            last = database.reader.stream(run.id)[-1]
            waiting += [(run.id, last)] * (last.type in WAITING)
    if not waiting:
        return None
    name, event = rng.choice(waiting)
    if not database.alter(name, event):
        return None
    database.damaged[name] = event
    return name


def as_appended(database: SimDatabase, run: str) -> tuple[Recorded, ...]:
    """What was altered, and no coordinator has had to read again, is put right."""
    events, original = database.reader.stream(run), database.damaged.get(run)
    if original is not None and events[original.sequence - 1].body == original.body + b" ":
        events = list(events)
        events[original.sequence - 1] = original
    return tuple(events)


def has_past(database: SimDatabase, at: int) -> bool:
    """Is a run left that had ended by then, with its parent, and is no parent of what is kept?"""
    heads = {head.id: head for head in database.reader.heads()}
    over = {run for run, head in heads.items() if head.ended_at is not None and head.ended_at < at}
    past = {run for run in over if heads[run].parent not in heads or heads[run].parent in over}
    while kept := {head.parent for run, head in heads.items() if run not in past} & past:
        past -= kept
    return bool(past)
