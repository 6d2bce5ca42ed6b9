"""Ownership: to become the owner of runs, always by raising their epoch.

Obligations: a claim raises the epoch by one and never takes a run that a living incarnation owns; two claimers
never get the same run; an incarnation that has been ended claims nothing; claimers do not wait for each other.

A run that was taken over and has appended nothing since, when its next owner dies too, is a *suspect*: it may be what
ends its coordinators. Suspects are claimed apart, on *trial*: when an incarnation dies during a trial, the runs that it
had on trial and that have appended nothing since are to blame, and no other, in whatever order they are claimed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from pointsman.ports.event_log import Head


class Definition(msgspec.Struct, frozen=True):
    """A workflow version that a coordinator can drive, and the digest of the code that it has for it."""

    workflow: str
    version: int
    build: str


class Victim(msgspec.Struct, frozen=True):
    """An incarnation that ended during a trial."""

    incarnation: int
    name: str


class Ownership(Protocol):
    async def claim_due(
        self, owner: int, definitions: Sequence[Definition], *, limit: int, runs: Sequence[str] | None = None
    ) -> list[Head]:
        """Claim unowned runs that are due (`wake_at` has come), whose workflow version is among `definitions`.

        A stopped run is due for a build other than the one that stopped it. With `runs`, only those.
        """
        ...

    async def claim_orphans(
        self, owner: int, definitions: Sequence[Definition], *, limit: int
    ) -> tuple[list[Head], int]:
        """Claim runs whose owner's incarnation has ended, but no suspects, and say how many are left at least: 0 is
        exact.

        Raises each run's `takeovers` by one, unless its owner died during the trial of other runs; its next append
        clears it. Runs whose workflow version is not among `definitions` are neither claimed nor counted.
        """
        ...

    async def claim_suspects(
        self, owner: int, definitions: Sequence[Definition], *, together: Sequence[int]
    ) -> list[Head]:
        """Claim suspects whose owner's incarnation has ended, and put them on trial together: those with fewest
        `takeovers`, and only such as have equally many. Raises their `takeovers` by one.

        Args:
            together: at most how many of those with 1, 2, 3 … `takeovers`, none more than the one before it; the last
                holds for all that have more.
        """
        ...

    async def end_trial(self, owner: int) -> None:
        """The runs that this incarnation has on trial, if any, are not to blame for its death any more."""
        ...

    async def died_on_trial(self, run: str) -> list[Victim]:
        """The incarnations that ended during a trial of this run, by number."""
        ...

    async def release(self, run: str) -> bool:
        """A quarantined run is due again, under no suspicion. False: there is no such run, or it is not quarantined."""
        ...

    async def owned(self, owner: int) -> Mapping[str, int]:
        """The runs of this incarnation, with their epochs. What it does not know of (the reply to a claim was lost) it
        hands over."""
        ...

    async def hand_over(self, owner: int, runs: Mapping[str, int]) -> int:
        """Give up runs of this incarnation: unowned and due at once. Returns how many.

        Each with the epoch under which it is given up. One that has another by now stays as it is, also where this
        incarnation has claimed it again: it was lost meanwhile, and whoever gives it up does not know whose it is.
        """
        ...

    async def stranded(self, definitions: Sequence[Definition]) -> list[Definition]:
        """Workflow versions that open runs need and nobody in `definitions` has (build empty)."""
        ...
