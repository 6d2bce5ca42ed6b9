"""What goes wrong with a database behind a network: partitions, restarts, a standby that takes its place."""

from __future__ import annotations

import asyncio

from pointsman.testing.sim.database import Replica
from pointsman.testing.sim.faulty import Network
from pointsman.testing.sim.nemesis import Nemesis
from pointsman.testing.sim.node import Node
from pointsman.testing.sim.store import NetworkSeat


class NetworkNemesis(Nemesis):
    """See `Nemesis`; for a `Replica`."""

    kinds = (
        "crash", "crash", "stop", "stop", "short_stop", "cut", "reset", "down", "restart", "weather", "weather",
        "drain", "unreachable", "failover", "rot", "rot",
    )  # fmt: skip

    async def _cut(self, node: Node) -> None:
        network = network_of(node)
        if network.is_cut:
            return
        self._trace.fault(node.process.name, "cut")
        network.is_cut = True
        await asyncio.sleep(self._rng.choice((0.05, 0.4, 1.6 * self._world.ttl_s)))
        network.is_cut = False

    async def _reset(self, node: Node) -> None:
        """Its connections break. Its lock is free for a moment, which alone is no witness of a death: its address still
        answers, so nobody ends it before its lease is over."""
        if node.is_dead or not node.is_up:
            return
        self._trace.fault(node.process.name, "reset")
        network_of(node).drop()

    async def _down(self, node: Node) -> None:
        """The database answers nobody for a while."""
        del node
        if self._faults.is_hurt:
            return
        self._trace.fault("database", "down")
        self._faults.is_down = True
        await asyncio.sleep(self._rng.choice((0.05, 0.3, 1.3 * self._world.ttl_s)))
        self._faults.is_down = False

    async def _restart(self, node: Node) -> None:
        """The database restarts: every connection breaks at once, and whoever lives still answers (see `_reset`)."""
        del node
        if self._faults.is_hurt:
            return
        self._trace.fault("database", "restart")
        self._faults.is_down = True
        for each in self._world.nodes:
            network_of(each).drop()
        await asyncio.sleep(self._rng.choice((0.05, 0.3, 1.3 * self._world.ttl_s)))
        self._faults.is_down = False

    async def _failover(self, node: Node) -> None:
        """The standby falls behind, the database crashes and comes back with what no standby has, and at last the
        standby takes its place: what was never acknowledged is gone."""
        del node
        if self._faults.is_hurt:
            return
        database = self._world.database
        assert isinstance(database, Replica)
        self._trace.fault("database", "failover")
        standby = database.state()
        self._faults.is_stalled = True
        await asyncio.sleep(self._rng.uniform(0.02, 0.2))
        self._faults.is_stalled, self._faults.is_ahead = False, True
        for each in self._world.nodes:
            network_of(each).drop()
        await asyncio.sleep(self._rng.uniform(0.05, 0.4))
        self._trace.say("database", "the standby takes over")
        database.become(standby)
        self._world.forget(database.position)
        for each in self._world.nodes:
            network_of(each).drop()
        self._faults.is_ahead = False

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


def network_of(node: Node) -> Network:
    assert isinstance(node.seat, NetworkSeat)
    return node.seat.network
