"""What goes wrong with a file and its one process: the disk is full or slow, and somebody starts a second process."""

from __future__ import annotations

import asyncio

from pointsman.testing.sim.nemesis import Nemesis
from pointsman.testing.sim.node import Node
from pointsman.testing.sim.sqlite.database import SimFile


class DiskNemesis(Nemesis):
    """See `Nemesis`; for a `SimFile`."""

    kinds = (
        "crash", "crash", "crash", "stop", "short_stop", "full", "failing", "slow", "second", "drain", "unreachable",
        "rot", "rot",
    )  # fmt: skip

    async def _full(self, node: Node) -> None:
        """The disk has no room: what needs a new page is refused, with everything that shares its transaction."""
        del node
        await self._hurt("full", is_full=True)

    async def _failing(self, node: Node) -> None:
        """The disk takes no commit: what was done until then is rolled back."""
        del node
        await self._hurt("failing", is_failing=True)

    async def _hurt(self, kind: str, *, is_full: bool = False, is_failing: bool = False) -> None:
        file = self._world.database
        assert isinstance(file, SimFile)
        if file.is_full or file.is_failing:
            return
        self._trace.fault("disk", kind)
        file.hurt(is_full=is_full, is_failing=is_failing)
        await asyncio.sleep(self._rng.choice((0.05, 0.3, 1.3 * self._world.ttl_s)))
        file.hurt()
        self._trace.say("disk", "is well again")

    async def _slow(self, node: Node) -> None:
        """A while in which a commit may take long."""
        del node
        self._faults.slow = self._rng.choice((0.05, 0.3))
        await asyncio.sleep(self._rng.uniform(0.3, 1.0))
        self._faults.slow = 0.0

    async def _second(self, node: Node) -> None:
        """By mistake a second process is started for the same file, also while the first hangs. It is refused as long
        as the first is there; it is killed before long, whatever it does."""
        second = self._world.begin_beside(node)
        self._trace.fault(second.process.name, "second")
        await asyncio.sleep(self._rng.choice((0.05, 0.3, 1.3 * self._world.ttl_s)))
        self._trace.say(second.process.name, "is killed again")
        self._world.end_beside(second)
