"""Other code comes while runs go on: every coordinator is replaced by one of the next release, one after the other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Protocol

from pointsman.agents.directory import AgentDirectory
from pointsman.testing.sim.faulty import Trace
from pointsman.testing.sim.node import Node

Release = Callable[[], AgentDirectory]
"""What a coordinator of this release knows: its agents and workflows."""
MIXED_S = 1.5
"""Virtual seconds, at most, from one coordinator of a release to the next: while runs of one change to and fro between
both, and stop."""


class Fleet(Protocol):
    """The coordinators that are replaced."""

    @property
    def nodes(self) -> list[Node]: ...
    def replace(self, node: Node) -> None: ...


class Deploying:
    """Replaces all coordinators by those of the next release, one after the other. Coordinators that begin are of the
    `current` release.
    """

    def __init__(self, fleet: Fleet, rng: random.Random, trace: Trace, releases: Sequence[Release]) -> None:
        self.releases = releases
        self._fleet = fleet
        self._rng = rng
        self._trace = trace
        self._number = 0

    @property
    def current(self) -> Release:
        return self.releases[self._number]

    async def work(self, span_s: float) -> None:
        """Deploy each release in turn, within about `span_s` virtual seconds and what draining takes."""
        for number in range(1, len(self.releases)):
            await asyncio.sleep(self._rng.random() * span_s)
            self._number = number
            self._trace.fault("operator", "deploy", f"of release {number + 1}")
            for node in list(self._fleet.nodes):
                await self._roll(node)

    async def _roll(self, node: Node) -> None:
        """A node that dies meanwhile is of the new release when it comes back."""
        if not node.is_dead and not node.is_leaving:
            await node.drain()
            self._fleet.replace(node)
        await asyncio.sleep(self._rng.random() * MIXED_S)
