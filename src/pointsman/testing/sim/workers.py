"""Workers under simulation: production's own, each in a process that is killed, stopped, cut off, or drained.

Each fetches calls from every coordinator over a network that loses requests and answers. One that was stopped goes on
with what it was at, and brings results that nobody waits for any more.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

from pointsman.agents.agent import Agent
from pointsman.agents.card import PULL
from pointsman.app import App
from pointsman.serving.lines import Lines
from pointsman.serving.worker import Worker
from pointsman.testing.sim.clocks import ProcessClocks
from pointsman.testing.sim.faulty import Trace
from pointsman.testing.sim.journal import Journal
from pointsman.testing.sim.loop import PROCESS, Process, SimLoop
from pointsman.testing.sim.node import Node
from pointsman.testing.sim.transport import SimBench
from pointsman.testing.sim.wire import Link, SimCluster

WAIT_S = 0.7
"""Of one poll. Coordinators of a schedule take a worker for lost after a second of silence (`Shape.settings`)."""
DRAIN_S = 0.3
WORKERS_MAX = 3
KINDS = ("worker_crash", "worker_crash", "worker_stop", "worker_drain", "worker_cut", "bad_http", "bad_http")


class Surroundings(Protocol):
    """What workers find around them."""

    @property
    def app(self) -> App: ...
    @property
    def loop(self) -> SimLoop: ...
    @property
    def trace(self) -> Trace: ...
    @property
    def journal(self) -> Journal: ...
    @property
    def nodes(self) -> list[Node]: ...


def fetched(app: App) -> list[Agent]:
    """The agents of an app whose calls workers fetch."""
    return [agent for agent in app.directory.agents() if agent.transport == PULL]


class SimWorker(Worker):
    """As in production, but for its connections, its id, and how it reaches its functions.

    Args:
        agents: what it does, of the app's.
    """

    def __init__(
        self, app: App, name: str, agents: list[str], cluster: SimCluster, journal: Journal, *, concurrency: int
    ) -> None:
        super().__init__(app, url=cluster.url, concurrency=concurrency, drain_s=DRAIN_S)
        self.id = name
        self.agents = {agent: self.agents[agent] for agent in agents}
        self._cluster = cluster
        self._lines = Lines(name, cluster, self, wait_s=WAIT_S)
        self._transport = SimBench(journal)

    def left_over(self) -> list[str]:
        """What it is at."""
        return [f"{name.key}, attempt {name.attempt}" for name in self._jobs]


class WorkerProcess:
    """A process with a worker in it: killed, stopped, continued, drained. Started once."""

    def __init__(self, name: str, rng: random.Random, around: Surroundings) -> None:
        self.process = Process(name)
        self.process.clocks = ProcessClocks(around.loop, rng)
        self.link = Link()
        self._loop = around.loop
        self._journal = around.journal
        self._cluster = SimCluster(around, name, self.link, rng, around.trace, has_router=rng.random() < 0.5)
        self._context = contextvars.copy_context()
        self._context.run(PROCESS.set, self.process)
        agents = [agent.name for agent in fetched(around.app) if "nobody" not in agent.described.capabilities]
        self.worker = SimWorker(
            around.app, name, agents, self._cluster, around.journal, concurrency=rng.choice((1, 2, 3))
        )
        self._starting = self.spawn(self.worker.start)

    def spawn(self, operation: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Run something inside this process."""
        return self._loop.create_task(_awaited(operation), context=self._context)

    def stop(self) -> None:
        """SIGSTOP."""
        self._loop.hold(self.process)

    def resume(self) -> None:
        """SIGCONT."""
        if not self.process.is_dead:
            self._loop.release(self.process)

    def crash(self) -> None:
        """SIGKILL."""
        self.process.is_dead = True
        self._loop.hold(self.process)
        self._cluster.die()
        for shift in self._journal.shifts:
            if shift.made.node == self.process.name:
                shift.end(self._loop.time())

    async def drain(self) -> None:
        """SIGTERM: it finishes what it can, and leaves the rest to others."""
        await asyncio.wait((self.spawn(self.worker.stop),), timeout=8.0)
        self.crash()


class Workforce:
    """The workers of a schedule, and what befalls them until `heal`."""

    def __init__(self, around: Surroundings, rng: random.Random) -> None:
        self._around = around
        self._rng = rng
        self._trace = around.trace
        self._workers: list[WorkerProcess] = []
        self.past: list[WorkerProcess] = []
        self._pending: list[asyncio.Task[None]] = []

    async def work(self, span_s: float) -> None:
        """Torment them for about `span_s` virtual seconds."""
        loop, rng = self._around.loop, self._rng
        for number in range(rng.randrange(1, WORKERS_MAX + 1)):
            await asyncio.sleep(rng.random() * 0.1)
            self._workers.append(self._begin(f"w{number}"))
        over = loop.time() + span_s * 1.5  # what they are at began later than the runs
        while loop.time() < over:
            await asyncio.sleep(span_s * (0.03 + rng.random() * 0.8))
            kind, worker = rng.choice(KINDS), rng.choice(self._workers)
            if not worker.process.is_dead and not worker.process.is_held:
                self._pending.append(loop.create_task(getattr(self, f"_{kind}")(worker)))

    async def heal(self) -> None:
        """Wait until what has begun is over; then each works, and reaches everybody."""
        await asyncio.gather(*self._pending)
        for worker in self._workers:
            worker.link.heal()
            worker.resume()

    def left_over(self) -> list[str]:
        """What they are at."""
        return [f"{one.process.name}: {what}" for one in self._workers for what in one.worker.left_over()]

    def end(self) -> None:
        """The schedule is over: let every task of theirs leave."""
        for worker in [*self.past, *self._workers]:
            self._around.loop.release(worker.process)

    def _begin(self, name: str) -> WorkerProcess:
        life = sum(1 for worker in self.past if worker.process.name.startswith(f"{name}.")) + 1
        return WorkerProcess(f"{name}.{life}", random.Random(self._rng.getrandbits(64)), self._around)

    async def _replace(self, worker: WorkerProcess) -> None:
        await asyncio.sleep(self._rng.choice((0.02, 0.3, 1.2)))
        if worker not in self._workers:  # it was killed while it drained, and another is there already
            return
        self.past.append(worker)
        self._workers[self._workers.index(worker)] = self._begin(worker.process.name.partition(".")[0])

    # -- kinds of faults ------

    async def _worker_crash(self, worker: WorkerProcess) -> None:
        self._trace.fault(worker.process.name, "worker_crash")
        worker.crash()
        await self._replace(worker)

    async def _worker_drain(self, worker: WorkerProcess) -> None:
        self._trace.fault(worker.process.name, "worker_drain")
        await worker.drain()
        await self._replace(worker)

    async def _worker_stop(self, worker: WorkerProcess) -> None:
        """It comes back, long after its coordinators gave it up or before, with the results of what it was at."""
        seconds = self._rng.choice((0.2, 0.6, 1.6))
        self._trace.fault(worker.process.name, "worker_stop", f"for {seconds} s")
        worker.stop()
        await asyncio.sleep(seconds)
        worker.resume()

    async def _worker_cut(self, worker: WorkerProcess) -> None:
        self._trace.fault(worker.process.name, "worker_cut")
        worker.link.is_cut = True
        await asyncio.sleep(self._rng.choice((0.1, 0.5, 1.3)))
        worker.link.is_cut = False

    async def _bad_http(self, worker: WorkerProcess) -> None:
        """A while in which single requests and answers go wrong."""
        link, rng = worker.link, self._rng
        link.lost, link.lost_answer = rng.choice((0.0, 0.1, 0.3)), rng.choice((0.0, 0.1, 0.3))
        link.slow = rng.choice((0.0, 0.2, 0.5))
        await asyncio.sleep(rng.uniform(0.3, 1.0))
        link.heal()


async def _awaited(operation: Callable[[], Awaitable[None]]) -> None:
    await operation()
