"""A worker: the agents of an app in a process that needs no open port. It fetches calls from every coordinator, makes
the attempts, and brings the results; all it knows of a run is the call that it is at.

Must not know command lines or signals.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import re
import secrets
import socket
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

import msgspec

from pointsman.agents.agent import Agent
from pointsman.agents.card import PULL, Card, Health
from pointsman.app import App
from pointsman.kernel.errors import PointsmanError
from pointsman.kernel.values import faithful
from pointsman.ports.workers import HandedCall, HeldCall, WorkerView
from pointsman.serving import registration
from pointsman.serving.cluster import Cluster, Coordinator
from pointsman.serving.job import Job
from pointsman.serving.lines import Lines, Offer
from pointsman.serving.registration import TTL_S, registered_cards
from pointsman.transports.local import LocalTransport

CONCURRENCY = 1
WAIT_S = 5.0
DRAIN_S = 30.0
STOP_S = 2.0
"""For agents to end once they were cancelled."""

logger = logging.getLogger("pointsman.serving")


class _Workers(msgspec.Struct):
    workers: list[WorkerView]


def agents_of(app: App) -> Sequence[Agent]:
    """What a worker of this app does: the agents that the app says workers do (transport="pull"); all of an app that
    says it of none."""
    agents = [agent for agent in app.directory.agents() if agent.function is not None]
    return [agent for agent in agents if agent.transport == PULL] or agents


def pull_card(agent: Agent) -> Card:
    """Its card, as the cluster needs it."""
    return msgspec.structs.replace(agent.card, transport=PULL, url=None, health=None)


class Worker:
    """A service: `start`, `stop`. Implements `serving.lines.Side`.

    Args:
        url: base URL of a router or coordinator. token: what the cluster wants to hear.
        concurrency: attempts at the same time.
        ttl_s: seconds after which the cluster forgets the agents when all their workers have died.
        drain_s: seconds that attempts under way may take once it stops; the rest goes to other workers.
        wait_s: how long one poll waits for calls.

    Raises:
        ValueError: the app has no agents that are functions, or a number makes no sense.
    """

    def __init__(
        self, app: App, *, url: str, token: str | None = None, concurrency: int = CONCURRENCY, ttl_s: float = TTL_S,
        drain_s: float = DRAIN_S, wait_s: float = WAIT_S,
    ) -> None:  # fmt: skip
        self.agents = {agent.name: agent for agent in agents_of(app)}
        if not self.agents:
            raise ValueError(f"app {app.name}: it has no agents that are functions, so there is nothing to do")
        if concurrency < 1 or not wait_s > 0 or drain_s < 0:
            raise ValueError(f"concurrency={concurrency}, wait_s={wait_s}, drain_s={drain_s}: at least 1, > 0, >= 0")
        self.id = _new_id()
        self._cluster = Cluster(url, token=token)
        self._concurrency = concurrency
        self._ttl_s = ttl_s
        self._drain_s = drain_s
        self._lines = Lines(self.id, self._cluster, self, wait_s=wait_s)
        self._transport = LocalTransport(threads_max=concurrency)
        self._jobs: dict[HeldCall, Job] = {}
        self._tasks: dict[asyncio.Task[None], Job] = {}
        self._unwell: set[str] = set()
        self._checks: list[asyncio.Task[None]] = []
        self._registration = AsyncExitStack()
        self._is_draining = False
        self._hurry = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Returns when the agents are registered, or the cluster can't be reached yet and is asked on.

        Raises:
            ClusterRefused: a card or the token; nothing that a retry would change.
        """
        cards = [pull_card(agent) for agent in self.agents.values()]
        try:
            await self._registration.enter_async_context(
                registered_cards(cards, self._cluster, ttl_s=self._ttl_s, leave=self._leave)
            )
        except BaseException:
            await self._cluster.close()
            raise
        for agent in self.agents.values():
            if agent.health_check is not None:
                self._checks.append(asyncio.create_task(self._check_forever(agent), name=f"health of {agent.name}"))
        self._lines.start()

    def hurry(self) -> None:
        """What is under way gets no more time."""
        self._hurry.set()

    async def stop(self) -> None:
        """Take no more calls, finish those under way or leave them to other workers, and go. Idempotent."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name="worker stop")
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        self._is_draining = True
        self._lines.tell()
        for check in self._checks:
            check.cancel()
        if self._tasks:
            hurried = asyncio.create_task(self._hurry.wait())
            finished = asyncio.create_task(asyncio.wait(list(self._tasks)))
            await asyncio.wait([hurried, finished], timeout=self._drain_s, return_when=asyncio.FIRST_COMPLETED)
            hurried.cancel()
            finished.cancel()
        left = list(self._tasks.items())
        for _, job in left:
            logger.info("attempt %s is left to another worker", job.name.key)
            job.drop()
        await self._lines.stop()
        await self._registration.aclose()
        if left:
            await asyncio.wait([task for task, _ in left], timeout=STOP_S)
        await self._transport.close()
        await self._cluster.close()

    async def _leave(self, cluster: Cluster, card: Card) -> None:
        """The registration is that of all the agent's workers: the last one ends it."""
        try:
            answer = await cluster.ask("GET", "/v1/workers", until=time.monotonic() + STOP_S)
            others = msgspec.json.decode(answer, type=_Workers).workers
        except (PointsmanError, msgspec.MsgspecError) as error:
            logger.warning("agent %s could not leave (its registration lapses by itself): %s", card.name, error)
            return
        if not any(card.name in other.agents for other in others if other.id != self.id):
            await registration.leave(cluster, card)

    # -- what its lines ask -------------------------------------------------------------------------------------------

    def offer(self) -> Offer:
        """See `serving.lines.Side`."""
        working = sum(job.is_working for job in self._tasks.values())
        free = 0 if self._is_draining else max(self._concurrency - working, 0)
        agents = tuple(name for name in self.agents if name not in self._unwell)
        return Offer(agents, free, tuple(self._jobs))

    def handed(self, call: HandedCall, coordinator: Coordinator) -> None:
        """See `serving.lines.Side`. Several coordinators may hand over at once what there is one place for."""
        agent = self.agents.get(call.agent)
        name = HeldCall(call.key, call.attempt)
        if agent is None or name in self._jobs or self.offer().free == 0:
            return
        job = self._jobs[name] = Job(self._cluster, coordinator, call, agent, self._lines.changed)
        task = asyncio.create_task(job.run(self._transport), name=call.key)
        self._tasks[task] = job
        task.add_done_callback(self._ended)

    def over(self, name: HeldCall) -> None:
        """See `serving.lines.Side`."""
        job = self._jobs.get(name)
        if job is not None:
            logger.info("attempt %s is given up: nobody waits for it any more", name.key)
            job.drop()

    def _ended(self, task: asyncio.Task[None]) -> None:
        job = self._tasks[task]
        if self._jobs.get(job.name) is job:
            del self._jobs[job.name]
        if not task.cancelled() and task.exception() is not None:
            logger.error("attempt %s", job.name.key, exc_info=task.exception())
        if job.is_working:  # in a thread, which keeps its place until it returns
            job.when_idle(lambda: self._tasks.pop(task, None))
        else:
            del self._tasks[task]

    # -- health -------------------------------------------------------------------------------------------------------

    async def _check_forever(self, agent: Agent) -> None:
        """While the agent is not well, its calls go to other workers."""
        policy = agent.described.health or Health()
        misses = successes = 0
        while True:
            reason = await _ask_health(agent, policy.timeout)
            misses, successes = (0, successes + 1) if reason is None else (misses + 1, 0)
            if misses >= policy.misses and agent.name not in self._unwell:
                logger.warning("agent %s is not well, and gets no calls here: %s", agent.name, reason)
                self._unwell.add(agent.name)
                self._lines.changed()
            elif successes >= policy.successes and agent.name in self._unwell:
                logger.info("agent %s is well again", agent.name)
                self._unwell.discard(agent.name)
                self._lines.changed()
            await asyncio.sleep(policy.every)


async def _ask_health(agent: Agent, timeout_s: float) -> str | None:
    """None: it is well."""
    check = agent.health_check
    assert check is not None
    try:
        async with asyncio.timeout(timeout_s):
            said = check() if inspect.iscoroutinefunction(check) else await asyncio.to_thread(check)
            if inspect.isawaitable(said):
                await said
    except Exception as error:  # noqa: BLE001  a check says by any exception that it is not well
        return f"{type(error).__name__}: {faithful(error)}"
    return None


def _new_id() -> str:
    """Another one for each process: what an earlier one held is not this one's."""
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:64].lstrip("-.") or "worker"
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"
