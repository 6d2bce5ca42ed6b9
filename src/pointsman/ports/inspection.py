"""What a store tells its doctor beyond what a coordinator needs, and the repairs that are made in it.

Obligations: every query is answered from the database as it is, changes nothing, and returns at most as many rows as it
was asked for. A repair moves a head only if its epoch and sequence are those that the caller has seen, and raises the
epoch in the same statement, so that the run's owner is fenced. It deletes nothing that it does not keep a copy of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from pointsman.ports.event_log import NewEvent
from pointsman.ports.states import StateRow


class Fact(msgspec.Struct, frozen=True):
    """A fact about the database. `advice`: what is wrong and what to do; empty if nothing is wrong."""

    name: str
    value: str
    advice: str = ""


class MailCount(msgspec.Struct, frozen=True):
    """A run whose head counts other unread mail than its mailbox holds.

    Mail that the owner has folded in is in the stream: whether its rows are still there tells nothing.

    Attributes:
        counted: the number up to which its head counts mail.
        folded: the number up to which its owner has read.
        found: mails with a higher number than `folded`.
        last: the highest number of these; without any, `folded`.
    """

    run: str
    counted: int
    folded: int
    found: int
    last: int


class Orphan(msgspec.Struct, frozen=True):
    """An open run whose owner has ended (ms ago by the database's clock), or never existed (None)."""

    run: str
    owner: int
    ended_ms_ago: int | None


class Stray(msgspec.Struct, frozen=True):
    """Rows that belong to no run. `kind`: events, mail, reservations. `of`: whose they say they are."""

    kind: str
    of: str
    rows: int


class Cut(msgspec.Struct, frozen=True):
    """Move away what stands behind event `kept` of a run, and put `repaired` in its place.

    Attributes:
        epoch, sequence: of the head, as it was seen; the new epoch is one higher.
        folded: mails that the kept events have taken in.
        state: the run's typed state by the kept events; None: there is none.
        repaired: the event number `kept + 1`, of the new epoch.
    """

    run: str
    epoch: int
    sequence: int
    kept: int
    folded: int
    repaired: NewEvent
    reason: str
    state: StateRow | None = None


class Inspection(Protocol):
    """What a doctor asks of a store. Every method raises `StoreUnavailable` if the store can't be reached."""

    async def facts(self) -> list[Fact]: ...

    async def mail_counts(self, *, runs: Sequence[str] | None = None, limit: int) -> list[MailCount]:
        """Runs whose unread mail is not what their head says; of all runs, or of these."""
        ...

    async def orphans(self, *, runs: Sequence[str] | None = None, limit: int) -> list[Orphan]: ...

    async def strays(self, *, limit: int) -> list[Stray]: ...

    async def moved_away(self, run: str) -> int:
        """The events of a run that repairs have moved away."""
        ...

    async def cut(self, cut: Cut) -> bool:
        """Carry out a repair: the run is then unowned, running, and due at once. Returns False if its head has changed
        meanwhile.
        """
        ...

    async def recount_mail(self, run: str, epoch: int) -> bool:
        """Let the head count its mail as far as the last one that is there; the run is unowned and due at once.
        False: its head is another by now, or it has ended."""
        ...
