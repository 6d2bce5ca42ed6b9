"""Ownership: becoming the owner of runs, always by raising their epoch.

Obligations: a claim raises the epoch by one and never takes a run that a living incarnation owns. Two claimers never
get the same run. An incarnation that has been ended claims nothing. Claimers do not wait for each other.

A run that was taken over, and whose next owner dies as well before the run has appended anything, is a *suspect*: it
may be what ends its coordinators. Suspects are claimed separately, on *trial*: when an incarnation dies during a trial,
the blame falls only on the runs that it had on trial and that have appended nothing since, in whatever order they are
claimed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from pointsman.ports.event_log import Head


class Definition(msgspec.Struct, frozen=True):
    """A workflow version that a coordinator can drive, with the digest of its code."""

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
        """Claim unowned runs that are due (`wake_at` has come) and whose workflow version is among `definitions`.

        A stopped run is due for any build other than the one that stopped it. With `runs`, only these are considered.
        """
        ...

    async def claim_orphans(
        self, owner: int, definitions: Sequence[Definition], *, limit: int
    ) -> tuple[list[Head], int]:
        """Claim runs whose owner's incarnation has ended, except suspects. Also returns a lower bound of how many are
        left; 0 is exact.

        Raises each run's `takeovers` by one, unless its owner died during the trial of other runs; the run's next
        append resets it. Runs whose workflow version is not among `definitions` are neither claimed nor counted.
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
        """Clear the runs that this incarnation has on trial, if any: they are not to blame for its death any more."""
        ...

    async def died_on_trial(self, run: str) -> list[Victim]:
        """The incarnations that ended during a trial of this run, by number."""
        ...

    async def release(self, run: str) -> bool:
        """Release a quarantined run: it is due again and no longer suspected. Returns False if there is no such run, or
        it is not quarantined.
        """
        ...

    async def owned(self, owner: int) -> Mapping[str, int]:
        """The runs of this incarnation, with their epochs. The caller hands over those that it does not know of,
        because the reply to a claim was lost.
        """
        ...

    async def hand_over(self, owner: int, runs: Mapping[str, int]) -> int:
        """Give up runs of this incarnation: they become unowned and due at once. Returns how many did.

        Each run is given with the epoch under which it is given up. A run that has another epoch by now is left alone,
        even if this incarnation has claimed it again: the caller lost it meanwhile, and does not know who drives it.
        """
        ...

    async def stranded(self, definitions: Sequence[Definition]) -> list[Definition]:
        """The workflow versions that open runs need and that are not in `definitions` (build empty)."""
        ...
