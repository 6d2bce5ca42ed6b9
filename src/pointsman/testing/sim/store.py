"""A memory store behind a faulty network: the ports of one simulated process, and its hold on the database."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from pointsman.kernel.events import Recorded
from pointsman.ports.board import Board
from pointsman.ports.event_log import (
    Append,
    AppendResult,
    EventLog,
    FeedEvent,
    Head,
    NewEvent,
    Resolution,
    RunFilter,
)
from pointsman.ports.human_tasks import HumanTask, HumanTasks, TaskFilter
from pointsman.ports.inspection import Inspection
from pointsman.ports.liveness import Liveness
from pointsman.ports.mailbox import Mail, Mailbox
from pointsman.ports.notices import Notices
from pointsman.ports.ownership import Ownership
from pointsman.ports.reservations import Reservation, Reservations
from pointsman.ports.retention import Retention
from pointsman.ports.states import States
from pointsman.ports.system_log import SystemHead, SystemLog
from pointsman.ports.wakeup import Wakeup
from pointsman.stores.memory import MemoryDatabase, MemoryStore
from pointsman.testing.sim.clocks import EstimatedClock, SimClock
from pointsman.testing.sim.databases import Surroundings
from pointsman.testing.sim.faulty import Network
from pointsman.testing.sim.leases import FaultySession, SimLiveness


class FaultyEventLog:
    def __init__(self, inner: EventLog, network: Network) -> None:
        self._inner = inner
        self._network = network

    async def append(self, batch: Sequence[Append], *, lane: int = 0) -> list[AppendResult]:
        about = " ".join(f"{a.run}@{a.epoch}:{a.expected}+{len(a.events)}={a.status}" for a in batch)
        return await self._network.call(
            "append", lambda: _listed(self._inner.append(batch, lane=lane)), about=about, appends=batch
        )

    async def resolve(self, append: Append) -> Resolution:
        """What is found is believed only behind a barrier: a commit that waits for the standby."""

        async def find() -> Resolution:
            found = await self._inner.resolve(append)
            if found is Resolution.OURS:
                self._network.barrier()
            return found

        return await self._network.resolve(append, find)

    async def read(
        self, run: str, *, after: int = 0, limit: int = 1000, bytes_max: int | None = None
    ) -> list[Recorded]:
        return await self._network.call(
            "read", lambda: _same(self._inner.read(run, after=after, limit=limit, bytes_max=bytes_max))
        )

    async def read_many(
        self, after: Mapping[str, int], *, limit: int, bytes_max: int | None = None
    ) -> dict[str, list[Recorded]]:
        return await self._network.call(
            "read_many", lambda: _same(self._inner.read_many(after, limit=limit, bytes_max=bytes_max))
        )

    async def heads(self, runs: Sequence[str]) -> dict[str, Head]:
        return await self._network.call("heads", lambda: _same(self._inner.heads(runs)))

    async def list_runs(
        self, where: RunFilter, *, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[Head], str | None]:
        return await self._network.call(
            "list_runs", lambda: _same(self._inner.list_runs(where, limit=limit, cursor=cursor))
        )

    async def feed(self, *, cursor: str | None = None, limit: int = 1000) -> tuple[list[FeedEvent], str]:
        return await self._network.call("feed", lambda: _same(self._inner.feed(cursor=cursor, limit=limit)))


class FaultyMailbox:
    def __init__(self, inner: Mailbox, network: Network) -> None:
        self._inner = inner
        self._network = network

    async def post(self, run: str, key: str, kind: str, body: bytes) -> int:
        return await self._network.call(
            "post", lambda: _same(self._inner.post(run, key, kind, body)), about=f"{run} {key}"
        )

    async def read(self, run: str, *, after: int) -> list[Mail]:
        return await self._network.call("mail", lambda: _same(self._inner.read(run, after=after)))

    async def find(self, run: str, key: str) -> Mail | None:
        return await self._network.call("find", lambda: _same(self._inner.find(run, key)))

    async def unread(self, owner: int) -> Mapping[str, int]:
        return await self._network.call("unread", lambda: _same(self._inner.unread(owner)))


class FaultySystemLog:
    """An append whose reply is lost says StoreUnavailable, and may have moved the stream."""

    def __init__(self, inner: SystemLog, network: Network) -> None:
        self._inner = inner
        self._network = network

    async def append(self, stream: str, expected: int, events: Sequence[NewEvent], state: bytes) -> SystemHead:
        return await self._network.call(
            "system_append",
            lambda: _same(self._inner.append(stream, expected, events, state)),
            about=f"{stream}:{expected}+{len(events)}",
        )

    async def head(self, stream: str) -> SystemHead | None:
        return await self._network.call("system_head", lambda: _same(self._inner.head(stream)))

    async def heads(self, prefix: str, *, after: str = "", limit: int = 1000) -> list[SystemHead]:
        return await self._network.call(
            "system_heads", lambda: _same(self._inner.heads(prefix, after=after, limit=limit))
        )

    async def changes(self, prefix: str, *, cursor: str | None = None) -> tuple[list[SystemHead], str]:
        return await self._network.call("system_changes", lambda: _same(self._inner.changes(prefix, cursor=cursor)))

    async def read(self, stream: str, *, after: int = 0, limit: int = 1000) -> list[Recorded]:
        return await self._network.call(
            "system_read", lambda: _same(self._inner.read(stream, after=after, limit=limit))
        )


class FaultyBoard:
    def __init__(self, inner: Board, network: Network) -> None:
        self._inner = inner
        self._network = network

    async def publish(self, incarnation: int, body: bytes) -> Mapping[int, bytes]:
        return await self._network.call("publish", lambda: _same(self._inner.publish(incarnation, body)))


class FaultyHumanTasks:
    def __init__(self, inner: HumanTasks, network: Network) -> None:
        self._inner = inner
        self._network = network

    async def get(self, task: str) -> HumanTask | None:
        return await self._network.call("task", lambda: _same(self._inner.get(task)))

    async def list(
        self, where: TaskFilter, *, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[HumanTask], str | None]:
        return await self._network.call("tasks", lambda: _same(self._inner.list(where, limit=limit, cursor=cursor)))


class FaultyReservations:
    def __init__(self, inner: Reservations, network: Network) -> None:
        self._inner = inner
        self._network = network

    async def of(self, tranche: str, *, limit: int = 10_000) -> list[Reservation]:
        return await self._network.call("reserved", lambda: _same(self._inner.of(tranche, limit=limit)))

    async def forget(self, tranche: str) -> None:
        await self._network.call("forget", lambda: _same(self._inner.forget(tranche)), about=tranche)


class FaultyPort:
    """Every method of the port goes through the network, whatever methods it has."""

    def __init__(self, inner: Ownership | Retention | Inspection | Notices | States, network: Network) -> None:
        self._inner = inner
        self._network = network

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self._network.call(name, lambda: _same(method(*args, **kwargs)))

        return call


class FaultyWakeup:
    def __init__(self, inner: Wakeup, network: Network) -> None:
        self._inner = inner
        self._network = network

    def hint(self, runs: Sequence[str]) -> None:
        self._network.send_hint(lambda: self._inner.hint(runs))

    async def next_hints(self) -> list[str]:
        return await self._inner.next_hints()


class SimStore(MemoryStore):
    """`Store` of one process; `crash` is what the end of the process is to the database."""

    def __init__(self, database: MemoryDatabase, clock: EstimatedClock, network: Network) -> None:
        super().__init__(database, clock=clock)
        self.network = network
        self._sim_session = FaultySession(database, network)
        self._liveness = self.sim_liveness = SimLiveness(self._sim_session, clock, network)
        self.log = FaultyEventLog(self.log, network)
        self.mailbox = FaultyMailbox(self.mailbox, network)
        self.ownership: Ownership = FaultyPort(self.ownership, network)
        self.liveness: Liveness = self.sim_liveness
        self.wakeup = FaultyWakeup(self.wakeup, network)
        self.system = FaultySystemLog(self.system, network)
        self.board = FaultyBoard(self.board, network)
        self.human_tasks = FaultyHumanTasks(self.human_tasks, network)
        self.notices: Notices = FaultyPort(self.notices, network)
        self.reservations = FaultyReservations(self.reservations, network)
        self.states: States = FaultyPort(self.states, network)
        self.retention: Retention = FaultyPort(self.retention, network)
        self.inspection: Inspection = FaultyPort(self.inspection, network)

    async def open(self) -> None:
        await super().open()
        self._sim_session.is_open = True

    async def close(self) -> None:
        self._sim_session.is_open = False
        await super().close()

    def crash(self) -> None:
        self.network.is_severed = True
        if self._inbound in self.database.inbound:
            self.database.inbound.remove(self._inbound)
        self.sever()

    def sever(self) -> None:
        """Its session lock is free; where it lives, its next renewal takes it again."""
        for incarnation in self.sim_liveness.registered:
            self.database.sever(incarnation)


class NetworkSeat:
    """A `Seat` at a database that is reached over a network."""

    def __init__(self, database: MemoryDatabase, true_clock: SimClock, around: Surroundings) -> None:
        self.network = Network(around.loop, around.rng, around.process, around.faults, around.trace)
        self.clock = EstimatedClock(true_clock, around.clocks)
        self.store = SimStore(database, self.clock, self.network)

    @property
    def is_busy(self) -> bool:
        return self.network.is_busy

    def heal(self) -> None:
        self.network.is_cut = False

    def crash(self) -> None:
        self.store.crash()


async def _same(operation: Coroutine[Any, Any, Any]) -> Any:
    return await operation


async def _listed(operation: Coroutine[Any, Any, list[AppendResult]]) -> list[AppendResult]:
    return await operation
