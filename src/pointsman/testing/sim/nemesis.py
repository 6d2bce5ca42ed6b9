"""What goes wrong in a schedule, and when: kills, stops, partitions, a bad network. All of it ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from pointsman.testing.sim.database import Replica
from pointsman.testing.sim.faulty import Faults, Trace
from pointsman.testing.sim.node import Node

KINDS = (
    "crash", "crash", "stop", "stop", "short_stop", "cut", "reset", "down", "restart", "weather", "weather", "drain",
    "unreachable", "failover", "rot", "rot",
)  # fmt: skip


class Victims(Protocol):
    """What the nemesis needs of its world."""

    @property
    def ttl_s(self) -> float: ...
    @property
    def nodes(self) -> list[Node]: ...
    @property
    def database(self) -> Replica: ...
    def replace(self, node: Node) -> None: ...
    def fail_over(self, standby: dict[str, Any]) -> None: ...


class Nemesis:
    """One fault after another, until `heal`."""

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
            kind, node = rng.choice(KINDS), rng.choice(self._world.nodes)
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
            node.network.is_cut = node.is_unreachable = False
            node.resume()
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
        run = self._world.database.damage(self._rng, lambda run: any(node.remembers(run) for node in nodes))
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

    async def _cut(self, node: Node) -> None:
        if node.network.is_cut:
            return
        self._trace.fault(node.process.name, "cut")
        node.network.is_cut = True
        await asyncio.sleep(self._rng.choice((0.05, 0.4, 1.6 * self._world.ttl_s)))
        node.network.is_cut = False

    async def _reset(self, node: Node) -> None:
        """Its connections break. Its lock is free for a moment, which alone is no witness of a death: its address still
        answers, so nobody ends it before its lease is over."""
        if node.is_dead or not node.is_up:
            return
        self._trace.fault(node.process.name, "reset")
        node.network.drop()

    async def _unreachable(self, node: Node) -> None:
        """Clients do not reach it; it reaches the database."""
        if node.is_unreachable:
            return
        self._trace.fault(node.process.name, "unreachable")
        node.is_unreachable = True
        await asyncio.sleep(self._rng.choice((0.1, 0.4, 1.0)))
        node.is_unreachable = False

    async def _down(self, node: Node) -> None:
        """The database answers nobody for a while."""
        del node
        if self._is_database_hurt:
            return
        self._trace.fault("database", "down")
        self._faults.is_down = True
        await asyncio.sleep(self._rng.choice((0.05, 0.3, 1.3 * self._world.ttl_s)))
        self._faults.is_down = False

    async def _restart(self, node: Node) -> None:
        """The database restarts: every connection breaks at once, and whoever lives still answers (see `_reset`)."""
        del node
        if self._is_database_hurt:
            return
        self._trace.fault("database", "restart")
        self._faults.is_down = True
        for each in self._world.nodes:
            each.network.drop()
        await asyncio.sleep(self._rng.choice((0.05, 0.3, 1.3 * self._world.ttl_s)))
        self._faults.is_down = False

    async def _failover(self, node: Node) -> None:
        """The standby falls behind, the database crashes and comes back with what no standby has, and at last the
        standby takes its place: what was never acknowledged is gone."""
        del node
        if self._is_database_hurt:
            return
        self._trace.fault("database", "failover")
        standby = self._world.database.state()
        self._faults.is_stalled = True
        await asyncio.sleep(self._rng.uniform(0.02, 0.2))
        self._faults.is_stalled, self._faults.is_ahead = False, True
        for each in self._world.nodes:
            each.network.drop()
        await asyncio.sleep(self._rng.uniform(0.05, 0.4))
        self._trace.say("database", "the standby takes over")
        self._world.fail_over(standby)
        for each in self._world.nodes:
            each.network.drop()
        self._faults.is_ahead = False

    @property
    def _is_database_hurt(self) -> bool:
        return self._faults.is_hurt

    async def _weather(self, node: Node) -> None:
        """A while in which single statements go wrong, for everybody."""
        del node
        rng, faults = self._rng, self._faults
        faults.lost, faults.lost_reply = rng.choice((0.0, 0.03, 0.1)), rng.choice((0.0, 0.05, 0.2))
        faults.late, faults.slow = rng.choice((0.0, 0.03, 0.1)), rng.choice((0.0, 0.05, 0.3))
        faults.lost_hint = rng.choice((0.0, 0.5, 1.0))
        faults.late_hint, faults.double_hint = rng.choice((0.0, 0.3)), rng.choice((0.0, 0.3))
        shown = f"lost {faults.lost}, reply {faults.lost_reply}, late {faults.late}, slow {faults.slow}"
        self._trace.say("network", f"weather: {shown}")
        await asyncio.sleep(self._rng.uniform(0.3, 1.0))
