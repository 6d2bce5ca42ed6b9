"""The event log: append-only streams, one per run, with a head row each. The single source of truth.

Obligations, each with a case in the conformance suite:
- an append moves a head and inserts its events, or does neither; several runs travel in one batch and do not share
  a fate: one that does not move leaves its neighbours moved;
- a head moves only for its owner's epoch and only from the expected sequence (fencing lives here and nowhere else);
- sequences are dense from 1, and one append wins each;
- an append that closes (parks or ends the run) moves only if all mail was folded;
- after an acknowledged append every read shows it; after an exception nothing is known, and `resolve` finds out;
- nothing but the owner's append changes a run's stream, once it has ended nothing at all; but a redrive, which moves a
  failed run only, from the epoch and sequence at which it failed, and raises its epoch: of two the first wins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from math import inf
from typing import Any, Protocol

import msgspec

from pointsman.kernel.checksum import following
from pointsman.kernel.events import Recorded
from pointsman.ports.human_tasks import TaskRow
from pointsman.ports.notices import NoticeRow
from pointsman.ports.reservations import ReservationRow
from pointsman.ports.states import StateRow

OPEN_STATUSES = ("running", "parked", "stopped", "quarantined")
"""A run is open until it ends. running: owned, or waiting for an owner. parked: waits, owned by nobody.
stopped: its code does not fit its log. quarantined: driving it does harm."""
ENDED_STATUSES = ("completed", "failed", "cancelled")


class NewRun(msgspec.Struct, frozen=True):
    """The fields of a new head row. The head of a child is created only if its `parent` moves in the same batch.

    `created_at`: ms, if the creator has already published that time; None: the store's time.
    """

    workflow: str
    version: int
    build: str
    bucket: int
    digest: str
    tenant: str = "default"
    attributes: Mapping[str, Any] = {}
    parent: str | None = None
    parent_call: str | None = None
    created_at: int | None = None


class Letter(msgspec.Struct, frozen=True):
    """Mail that a run which ends leaves for its parent, in the same batch as its own last event."""

    run: str
    key: str
    kind: str
    body: bytes


class NewEvent(msgspec.Struct, frozen=True, gc=False):
    """An event to append. `checksum`: chained over the run (`kernel/checksum.py`), an unsigned 32-bit number; system
    streams have none.
    """

    type: str
    version: int
    at: int
    body: bytes
    checksum: int = 0


def chained(previous: int, sequence: int, epoch: int, *, type: str, version: int, at: int, body: bytes) -> NewEvent:  # noqa: A002  as in NewEvent
    """Event number `sequence` of a run, chained to the event before it by its checksum `previous`."""
    return NewEvent(type, version, at, body, following(previous, sequence, at, type, version, epoch, body))


class Append(msgspec.Struct, gc=False):
    """One run's part of a batch.

    Attributes:
        expected: the head's sequence before this append; 0 with `create`.
        nonce: 8 bytes that tell this append from any other, for `resolve`.
        folded: number of mails that the run's stream has taken in, this append included.
        closes: moves only while the head's mail count equals `folded` (parks or ends).
        redrives: moves only a failed run, which is open again, and raises its epoch by one; its events have it.
        generations, base: how many of the events begin a generation, and the sequence of the last that does.
        owner: incarnation that owns the run after this append; None gives it up.
        wake_at: when an unowned run is due, ms by the database's clock; None: when mail comes.
        create: makes the head first; `epoch` is then the first epoch (1, or 0 for a run that nobody owns yet).
        tasks: human tasks that these events open, change or close, for the people's list.
        notices: what a webhook is to be told of them.
        reservations: events of this append that spend from a tranche of a shared budget.
        state: the run's typed state, where these events change it; `NO_STATE`: none stands any more.
        is_progress: these events get the run on, so the deaths of its owners are forgotten. Not so where an owner only
            notes what it is about to do again.
    """

    run: str
    epoch: int
    expected: int
    nonce: bytes
    events: list[NewEvent]
    status: str
    owner: int | None
    folded: int = 0
    closes: bool = False
    redrives: bool = False
    generations: int = 0
    base: int = 0
    wake_at: int | None = None
    create: NewRun | None = None
    letter: Letter | None = None
    tasks: tuple[TaskRow, ...] = ()
    notices: tuple[NoticeRow, ...] = ()
    reservations: tuple[ReservationRow, ...] = ()
    state: StateRow | None = None
    is_progress: bool = True


class Outcome(Enum):
    """The outcome of one run's part of a batch."""

    MOVED = "moved"
    FENCED = "fenced"
    """The epoch changed: another owner has the run. Drop it."""
    MAIL_ARRIVED = "mail_arrived"
    """A closing append met mail that was not folded: fold and try again."""
    CONFLICT = "conflict"
    """Same epoch, other sequence: this owner's own ambiguous write, or a bug. Resolve."""
    EXISTS = "exists"
    """The run to create exists."""
    MISSING = "missing"
    """There is no such run (or, for a child, its parent did not move)."""


class AppendResult(msgspec.Struct, frozen=True, gc=False):
    outcome: Outcome
    mail: int = 0


class Head(msgspec.Struct, frozen=True):
    """The head row of a run. Times are in ms by the database's clock. `base`: the sequence at which the current
    generation begins; a replay reads nothing before it.
    """

    id: str
    workflow: str
    version: int
    build: str
    status: str
    sequence: int
    epoch: int
    owner: int | None
    mail: int
    folded: int
    takeovers: int
    wake_at: int | None
    tenant: str
    attributes: Mapping[str, Any]
    digest: str
    bucket: int
    parent: str | None
    created_at: int
    updated_at: int
    ended_at: int | None
    base: int = 1
    generation: int = 1


class RunFilter(msgspec.Struct, frozen=True):
    """Which runs to list, newest first. An empty filter lists all."""

    status: tuple[str, ...] = ()
    workflow: str | None = None
    tenant: str | None = None
    attributes: Mapping[str, Any] = {}


def was_cut(page: Sequence[Recorded], limit: int, bytes_max: int | None) -> bool:
    """Whether the run may have events after this page, which was read with these limits. If not, it had none at that
    time.

    Bodies are compared as they were appended; in storage they are never larger. A damaged event has no body here, and
    counts as being as large as it may be.
    """
    return len(page) >= limit or (bytes_max is not None and size_of(page) >= bytes_max)


def size_of(page: Sequence[Recorded]) -> float:
    """The total bytes of the bodies; infinite if one of them can't be read."""
    return sum(inf if row.damage else len(row.body) for row in page)


class FeedEvent(msgspec.Struct, frozen=True):
    run: str
    recorded: Recorded


class Resolution(Enum):
    OURS = "ours"
    ABSENT = "absent"
    OTHERS = "others"


class EventLog(Protocol):
    """The event log. Every method raises `StoreUnavailable` if the store can't be reached; after that, nothing is known
    about an append.
    """

    async def append(self, batch: Sequence[Append], *, lane: int = 0) -> list[AppendResult]:
        """Append for many runs at once; a run appears once in a batch. The results are in the order of the batch.

        A batch never waits for a batch of another lane. Letters may only go to runs that are in no batch under way in
        this lane.
        """
        ...

    async def resolve(self, append: Append) -> Resolution:
        """Find out what became of an append whose reply was lost. After OURS it is as durable as an acknowledged one.

        First waits for any statement of ours that may still hold the head, so ABSENT means that the append will never
        happen.
        """
        ...

    async def read(
        self, run: str, *, after: int = 0, limit: int = 1000, bytes_max: int | None = None
    ) -> list[Recorded]:
        """Read the events of a run with sequence > `after`, in order, with their bodies byte for byte as they were
        appended.

        An event that can't be read has its `damage` described and an empty body; its neighbours can still be read.

        Args:
            bytes_max: the page ends with the event at which the stored bodies reach this many bytes, so it has at least
                one
                event if there is one. None: only `limit` counts. `was_cut` tells which of the two ended it.
        """
        ...

    async def read_many(
        self, after: Mapping[str, int], *, limit: int, bytes_max: int | None = None
    ) -> dict[str, list[Recorded]]:
        """Read the first `limit` events of several runs, for each those with sequence > the run's number in `after`.

        This is for runs that are claimed together. The answer has every run of `after`; a run that does not exist has
        no events. A run with `limit` events may have more: go on with `read`.

        Args:
            bytes_max: as for `read`, over all runs together in the order of `after`. After the event that reaches it,
                neither
                its run nor the later runs have any more events in the answer.
        """
        ...

    async def heads(self, runs: Sequence[str]) -> dict[str, Head]:
        """The heads of those of `runs` that exist."""
        ...

    async def list_runs(
        self, where: RunFilter, *, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[Head], str | None]:
        """List heads, newest first, with an opaque cursor for the next page (None at the end).

        Raises `InvalidCursor` for a cursor that this store did not return.
        """
        ...

    async def feed(self, *, cursor: str | None = None, limit: int = 1000) -> tuple[list[FeedEvent], str]:
        """Events of all runs from `cursor` on. No event ever appears before one that was already read.

        A reader that continues from the last cursor sees each event once and misses none, however late a transaction
        commits. The events of a run come in the order of their sequence.
        """
        ...
