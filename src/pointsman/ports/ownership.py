"""Ownership: to become the owner of runs, always by raising their epoch.

Obligations: a claim raises the epoch by one and never takes a run that a living incarnation owns; two claimers
never get the same run; an incarnation that has been ended claims nothing; claimers do not wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from pointsman.ports.event_log import Head


class Definition(msgspec.Struct, frozen=True):
    """A workflow version that a coordinator can drive, and the digest of the code that it has for it."""

    workflow: str
    version: int
    build: str


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
        """Claim runs whose owner's incarnation has ended, and say how many are left at least: 0 is exact.

        Raises each run's `takeovers` by one; its next append clears it. Runs whose workflow version is not among
        `definitions` are neither claimed nor counted.
        """
        ...

    async def owned(self, owner: int) -> list[str]:
        """The runs of this incarnation. What it does not know of (the reply to a claim was lost) it hands over."""
        ...

    async def hand_over(self, owner: int, runs: Sequence[str] | None = None) -> int:
        """Give up runs of this incarnation (all without `runs`): unowned and due at once. Returns how many."""
        ...

    async def stranded(self, definitions: Sequence[Definition]) -> list[Definition]:
        """Workflow versions that open runs need and nobody in `definitions` has (build empty)."""
        ...
