"""One simulated process with one coordinator in it: started, asked, stopped, continued, killed."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pointsman.coordinator.dispatcher import LOCAL
from pointsman.coordinator.runs import CoordinatorRuns
from pointsman.coordinator.service import Coordinator
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.kernel.errors import CoordinatorExists, StoreUnavailable
from pointsman.stores.memory import MemoryDatabase
from pointsman.testing.sim.faulty import Faults, Network, Trace
from pointsman.testing.sim.loop import PROCESS, Process, SimLoop
from pointsman.testing.sim.store import SimClock, SimStore
from pointsman.testing.sim.workload import app
from pointsman.transports.local import LocalTransport

T = TypeVar("T")

SKEW_MAX_S = 300.0


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


TRANSPORTS = {LOCAL: LocalTransport(threads_max=1)}
"""The agents of the workload are coroutines."""


class Node:
    """A process is started once; after `crash` or `drain` a new one takes its name."""

    def __init__(
        self, settings: CoordinatorSettings, life: int, loop: SimLoop, rng: random.Random, database: MemoryDatabase,
        faults: Faults, trace: Trace,
    ) -> None:  # fmt: skip
        self.name = settings.name
        self.loop = loop
        self.process = Process(f"{settings.name}.{life}")
        self.network = Network(loop, rng, self.process, faults, trace)
        clock = SimClock(loop, rng.uniform(-SKEW_MAX_S, SKEW_MAX_S))
        self.store = SimStore(database, clock, self.network)
        self.coordinator = Coordinator(
            settings, self.store, app.new_directory(), SimIds(rng), TRANSPORTS, app.tenant_budgets
        )  # fmt: skip
        self.runs = CoordinatorRuns(self.coordinator)
        self.is_up = False
        self.is_leaving = False
        self._trace = trace
        self._context = contextvars.copy_context()
        self._context.run(PROCESS.set, self.process)
        self._starting: asyncio.Task[None] | None = None

    @property
    def is_dead(self) -> bool:
        return self.process.is_dead

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

    async def ask(self, operation: Callable[[CoordinatorRuns], Awaitable[T]], *, timeout_s: float, hangs_up: bool) -> T:
        """A request from outside, as over HTTP. Raises StoreUnavailable (nobody answers) and TimeoutError.

        Args:
            hangs_up: after the timeout the request is cancelled within the process; else it goes on unheard.
        """
        if self.is_dead or not self.is_up:
            raise StoreUnavailable("connection refused")
        answer: asyncio.Future[T] = self.loop.create_future()
        task = self.spawn(lambda: operation(self.runs))
        task.add_done_callback(lambda done: _pass_on(done, answer))
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        finally:
            if hangs_up and not task.done() and not self.process.is_held:
                task.cancel()

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
        self.store.crash()

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
