"""Leases behind a faulty network, judged by a clock that is only as good as its last measurement."""

from __future__ import annotations

from collections.abc import Sequence

from pointsman.ports.liveness import Lease, Member
from pointsman.ports.ownership import Definition
from pointsman.stores.inprocess.lease import InProcessLease
from pointsman.stores.inprocess.liveness import InProcessLiveness
from pointsman.stores.memory import MemoryDatabase
from pointsman.stores.memory.session import Session
from pointsman.testing.sim.clocks import EstimatedClock
from pointsman.testing.sim.faulty import Network


class FaultySession(Session):
    """A long wait on the database notices that it is not reached."""

    def __init__(self, database: MemoryDatabase, network: Network) -> None:
        super().__init__(database)
        self._network = network

    async def enter(self) -> None:
        self._network.check()
        await super().enter()


class SimLiveness(InProcessLiveness):
    """The memory store's, whose renewals travel through the network too."""

    def __init__(self, session: Session, clock: EstimatedClock, network: Network) -> None:
        super().__init__(session, clock)
        self._network = network
        self._estimate = clock
        self.registered: list[int] = []

    async def register(self, name: str, address: str, definitions: Sequence[Definition], *, ttl_ms: int) -> Lease:
        made: list[Lease] = []
        is_unheard = False
        said: list[int] = []
        sent = self._estimate.monotonic()

        async def operation() -> Lease:
            """May be carried out when the one who asked has long given up."""
            said.append(self._database.clock.now())
            lease = await InProcessLiveness.register(self, name, address, definitions, ttl_ms=ttl_ms)
            made.append(lease)
            if is_unheard:
                _forget(lease)
            self.registered.append(lease.incarnation)
            if self._network.is_severed:
                self._database.sever(lease.incarnation)
            return lease

        try:
            lease = await self._network.call("register", operation, about=name)
            self._estimate.measured(said[0], sent, self._estimate.monotonic())
            return lease
        except BaseException:
            is_unheard = True
            for lease in made:
                _forget(lease)
            raise

    async def renew(self, incarnation: int) -> bool:
        said: list[int] = []
        sent = self._estimate.monotonic()

        async def operation() -> bool:
            said.append(self._database.clock.now())
            return await InProcessLiveness.renew(self, incarnation)

        is_alive = await self._network.call("renew", operation)
        self._estimate.measured(said[0], sent, self._estimate.monotonic())
        return is_alive

    async def members(self) -> list[Member]:
        return await self._network.call("members", lambda: InProcessLiveness.members(self))

    async def _end(self, incarnation: int) -> None:
        await self._network.call("end", lambda: InProcessLiveness._end(self, incarnation), about=str(incarnation))


def _forget(lease: Lease) -> None:
    """A registration whose reply was lost: its row is there, and nobody holds it."""
    assert isinstance(lease, InProcessLease)
    lease._task.cancel()
