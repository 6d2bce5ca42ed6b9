"""One simulated process with one coordinator in it: started, asked, stopped, continued, killed."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from typing import Any, Protocol, TypeVar

from pointsman.agents.addresses import AgentAddresses
from pointsman.agents.card import PULL
from pointsman.agents.directory import AgentDirectory
from pointsman.agents.transport import Transport
from pointsman.api.app import Api
from pointsman.api.settings import ApiSettings
from pointsman.app import App
from pointsman.coordinator.service import Coordinator
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.coordinator.verbs.budgets import CoordinatorBudgets
from pointsman.coordinator.verbs.inbox import CoordinatorInbox
from pointsman.coordinator.verbs.reports import CoordinatorAttempts
from pointsman.coordinator.verbs.runs import CoordinatorRuns
from pointsman.coordinator.verbs.workers import CoordinatorWorkers
from pointsman.kernel.errors import CoordinatorExists, StoreUnavailable
from pointsman.ports.telling import Teller
from pointsman.testing.sim.clocks import ProcessClocks
from pointsman.testing.sim.databases import Seat, SimDatabase, Surroundings
from pointsman.testing.sim.faulty import Faults, Trace
from pointsman.testing.sim.journal import Journal
from pointsman.testing.sim.loop import PROCESS, Process, SimLoop
from pointsman.testing.sim.transport import SimDesk

T = TypeVar("T")

ADDRESSES = AgentAddresses(allow=("127.0.0.1",))
API = ApiSettings()


class Connection(Protocol):
    """A request that this node is at."""

    def break_off(self) -> None: ...


class SimIds:
    """Ids, nonces and seeds from a process's own chance."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def run_id(self) -> str:
        return f"{self._rng.getrandbits(64):016x}"

    def nonce(self) -> bytes:
        return self._rng.getrandbits(64).to_bytes(8, "big")

    def seed(self) -> str:
        return f"{self._rng.getrandbits(88):022x}"


class Around(Protocol):
    """What a process finds around it."""

    @property
    def app(self) -> App: ...
    @property
    def loop(self) -> SimLoop: ...
    @property
    def database(self) -> SimDatabase: ...
    @property
    def faults(self) -> Faults: ...
    @property
    def trace(self) -> Trace: ...
    @property
    def transports(self) -> Mapping[str, Transport]: ...
    @property
    def journal(self) -> Journal: ...
    def new_directory(self) -> AgentDirectory: ...
    def teller(self, process: Process) -> Teller | None: ...
    async def forward(self, address: str, path: str, body: Mapping[str, Any]) -> None: ...


class Node:
    """A process is started once; after `crash` or `drain` a new one takes its name."""

    def __init__(self, settings: CoordinatorSettings, life: int, rng: random.Random, around: Around) -> None:
        self.name = settings.name
        self.loop = loop = around.loop
        self.process = Process(f"{settings.name}.{life}")
        clocks = self.process.clocks = ProcessClocks(loop, rng)
        surroundings = Surroundings(loop, rng, self.process, clocks, around.faults, around.trace)
        self.seat: Seat = around.database.join(surroundings)
        self.clock = self.seat.clock
        self.store = self.seat.store
        app = around.app
        self.desk = SimDesk(around.journal, settings)
        self.coordinator = Coordinator(
            settings, self.store, around.new_directory(), SimIds(rng), {**around.transports, PULL: self.desk},
            app.tenant_budgets, ADDRESSES, desk=self.desk, teller=around.teller(self.process),
        )  # fmt: skip
        self.runs = CoordinatorRuns(self.coordinator)
        self.inbox = CoordinatorInbox(self.coordinator)
        self.reports = CoordinatorAttempts(self.coordinator, around.forward)
        self.workers = CoordinatorWorkers(self.coordinator, self.desk, around.forward)
        self.exchanges: dict[Connection, None] = {}
        """Requests that came over HTTP, and are not answered yet."""
        self.budgets = CoordinatorBudgets(self.store.system, self.clock)
        self.is_up = False
        self.is_leaving = False
        self.is_unreachable = False
        """Clients do not reach it."""
        self._trace = around.trace
        self._context = contextvars.copy_context()
        self._context.run(PROCESS.set, self.process)
        self._starting: asyncio.Task[None] | None = None

    @property
    def is_dead(self) -> bool:
        return self.process.is_dead

    @property
    def is_reachable(self) -> bool:
        """Does it take requests?"""
        return self.is_up and not self.is_dead and not self.is_unreachable

    @cached_property
    def api(self) -> Api:
        """What it serves over HTTP."""
        api = Api(
            self.runs, self.coordinator, API, agents=self.coordinator.agents, attempts=self.reports,
            workers=self.workers,
        )  # fmt: skip
        api.routes.reverse()  # routes are tried in their order, and those of workers come last
        return api

    def start(self) -> None:
        """Start, and go on trying while the store can't be reached, or still knows a former life of it."""
        self._starting = self.spawn(self._start)

    async def _start(self) -> None:
        while True:
            try:
                await self.coordinator.start()
                break
            except (StoreUnavailable, CoordinatorExists) as error:
                self._trace.say(self.process.name, f"can't start: {error.code}")
                await asyncio.sleep(0.1)
        self.is_up = True
        self._trace.say(self.process.name, f"is up as incarnation {self.coordinator.incarnation}")

    def spawn(self, operation: Callable[[], Awaitable[T]]) -> asyncio.Task[T]:
        """Run something inside this process."""
        return self.loop.create_task(_awaited(operation), context=self._context)

    def run_soon(self, callback: Callable[[], None]) -> None:
        """Have something happen inside this process."""
        self.loop.call_soon(callback, context=self._context)

    async def ask(self, operation: Callable[[Node], Awaitable[T]], *, timeout_s: float, hangs_up: bool) -> T:
        """A request from outside, as over HTTP. Raises StoreUnavailable (nobody answers) and TimeoutError.

        Args:
            hangs_up: after the timeout the request is cancelled within the process; else it goes on unheard.
        """
        if not self.is_reachable:
            raise StoreUnavailable("connection refused")
        answer: asyncio.Future[T] = self.loop.create_future()
        task = self.spawn(lambda: operation(self))
        task.add_done_callback(lambda done: _pass_on(done, answer))
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        finally:
            if hangs_up and not task.done() and not self.process.is_held:
                task.cancel()

    @property
    def is_creating(self) -> bool:
        """Is a run on its way to be started here, whoever still waits for that?"""
        drivers = () if self.is_dead else self.coordinator.roster._drivers.values()
        return any(driver.created is not None and not driver.created.done() for driver in drivers)

    def remembers(self, run: str) -> bool:
        """Could it drive this run without reading its log?"""
        roster = self.coordinator.roster
        return not self.is_dead and (run in roster._cache._kept or roster.is_busy_with(run))

    # -- what befalls it ------

    def stop(self) -> None:
        """SIGSTOP."""
        self.loop.hold(self.process)

    def resume(self) -> None:
        """SIGCONT."""
        if not self.is_dead:
            self.loop.release(self.process)

    def crash(self) -> None:
        """SIGKILL: nothing of it runs again; what it had sent takes effect."""
        self.process.is_dead = True
        self.is_up = False
        self.loop.hold(self.process)
        self.seat.crash()
        for exchange in list(self.exchanges):
            exchange.break_off()

    def heal(self) -> None:
        """It reaches everybody and is reached, and goes on if it was stopped."""
        self.seat.heal()
        self.is_unreachable = False
        self.resume()

    def bury(self) -> None:
        """Close the bodies that its memory still held; a kill would not have run their `finally` either."""
        for driver in self.coordinator.roster._drivers.values():
            driver.execution.close()
        self.coordinator.roster._cache.clear()

    async def drain(self) -> None:
        """SIGTERM: it hands over and leaves, or is killed when it takes too long."""
        self.is_leaving = True
        task = self.spawn(self.coordinator.stop)
        await asyncio.wait((task,), timeout=8.0)
        self.crash()


async def _awaited(operation: Callable[[], Awaitable[T]]) -> T:
    return await operation()


def _pass_on(done: asyncio.Task[T], answer: asyncio.Future[T]) -> None:
    if done.cancelled():
        if not answer.done():
            answer.set_exception(StoreUnavailable("connection reset"))
        return
    error = done.exception()
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(done.result())
