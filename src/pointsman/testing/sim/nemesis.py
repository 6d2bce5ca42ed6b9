"""What goes wrong in a schedule, and when: kills, stops, what else befalls processes. All of it ends.

What befalls the way to the database, and the database itself, is in the nemesis of each kind of database.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ClassVar, Protocol

from pointsman.testing.sim.databases import SimDatabase, rot
from pointsman.testing.sim.faulty import Faults, Trace
from pointsman.testing.sim.node import Node


class Victims(Protocol):
    """What the nemesis needs of its world."""

    @property
    def ttl_s(self) -> float: ...
    @property
    def nodes(self) -> list[Node]: ...
    @property
    def database(self) -> SimDatabase: ...
    def replace(self, node: Node) -> None: ...
    def forget(self, position: int) -> None: ...
    def begin_beside(self, node: Node) -> Node: ...
    def end_beside(self, second: Node) -> None: ...


class Nemesis:
    """One fault after another, until `heal`. `kinds`: the faults among which chance chooses, each a method's name."""

    kinds: ClassVar[Sequence[str]]

    def __init__(self, world: Victims, rng: random.Random, faults: Faults, trace: Trace) -> None:
        self._world = world
        self._rng = rng
        self._faults = faults
        self._trace = trace
        self._pending: list[asyncio.Task[None]] = []

    async def work(self, span_s: float) -> None:
        """Torment for about `span_s` virtual seconds."""
        loop, rng = asyncio.get_running_loop(), self._rng
        over = loop.time() + span_s
        while loop.time() < over:
            await asyncio.sleep(span_s * (0.03 + rng.random() * 0.6))
            kind, node = rng.choice(self.kinds), rng.choice(self._world.nodes)
            self._pending.append(loop.create_task(getattr(self, f"_{kind}")(node)))

    async def strike_once(self, node: Node) -> None:
        """A kill or nothing, and a while of what is wrong already."""
        await asyncio.sleep(self._rng.random())
        if self._rng.random() < 0.5:
            await self._crash(node)
        await asyncio.sleep(self._rng.random())

    async def heal(self) -> None:
        """Wait until what has begun is over, and let everything be well."""
        await asyncio.gather(*self._pending)
        self._faults.heal()
        for node in list(self._world.nodes):
            node.heal()
            if node.is_dead:
                self._world.replace(node)

    # -- kinds of faults ------

    async def _crash(self, node: Node) -> None:
        if node.is_dead or node.is_leaving:
            return
        self._trace.fault(node.process.name, "crash")
        node.crash()
        await asyncio.sleep(self._rng.choice((0.02, 0.3, 1.7 * self._world.ttl_s)))
        self._world.replace(node)

    def poison(self, node: Node, revive: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]) -> None:
        """The body of a run ends its process. `revive`: starts a task that brings it back."""
        self._trace.fault(node.process.name, "poison")
        node.crash()
        self._pending.append(revive(self._bring_back(node)))

    async def _bring_back(self, node: Node) -> None:
        await asyncio.sleep(self._rng.choice((0.02, 0.3)))
        self._world.replace(node)

    async def _rot(self, node: Node) -> None:
        """An event in the database is no more what it was."""
        del node
        nodes = self._world.nodes
        run = rot(self._world.database, self._rng, lambda run: any(node.remembers(run) for node in nodes))
        if run is not None:
            self._trace.fault("database", "rot", f"in the last event of {run}")

    async def _drain(self, node: Node) -> None:
        if node.is_dead or node.is_leaving or not node.is_up:
            return
        self._trace.fault(node.process.name, "drain")
        await node.drain()
        self._world.replace(node)

    async def _stop(self, node: Node) -> None:
        await self._hold(node, "stop", self._world.ttl_s * self._rng.uniform(0.9, 2.5))

    async def _short_stop(self, node: Node) -> None:
        await self._hold(node, "short_stop", self._world.ttl_s * self._rng.uniform(0.05, 0.9))

    async def _hold(self, node: Node, kind: str, seconds: float) -> None:
        if node.is_dead or node.process.is_held:
            return
        self._trace.fault(node.process.name, kind, f"for {seconds:.3f} s")
        node.stop()
        await asyncio.sleep(seconds)
        self._trace.say(node.process.name, "goes on")
        node.resume()

    async def _unreachable(self, node: Node) -> None:
        """Clients do not reach it; it reaches the database."""
        if node.is_unreachable:
            return
        self._trace.fault(node.process.name, "unreachable")
        node.is_unreachable = True
        await asyncio.sleep(self._rng.choice((0.1, 0.4, 1.0)))
        node.is_unreachable = False
