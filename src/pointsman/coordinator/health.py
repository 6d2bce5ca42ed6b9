"""Health checks: each agent that has one is checked by one coordinator at a time, whose turn is recorded in `agent/X`.

The others wait until the turn lapses, or until they find that the incarnation that has it is over. The turn only saves
requests; correctness does not depend on it. Verdicts are appended at the expected sequence, and the verdict of a
coordinator without the turn is ignored.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from pointsman.agents import record as rec
from pointsman.agents.agent import Agent
from pointsman.agents.card import PULL, Health
from pointsman.agents.directory import AgentDirectory
from pointsman.agents.record import AgentRecord
from pointsman.coordinator.agents import AgentKeeper
from pointsman.coordinator.duties import keep
from pointsman.kernel.errors import StoreUnavailable
from pointsman.kernel.events import Event
from pointsman.kernel.values import faithful
from pointsman.ports.clock import Clock
from pointsman.ports.liveness import Liveness

TURN_MS = 30_000
"""At least; three checks, where they are further apart."""
LOOK_S = 0.5
"""How often to look whether an agent with a check came or went."""
WAIT_S = 5.0
"""How often to look whether a turn of another is free."""
JITTER = 0.1

logger = logging.getLogger("pointsman.agents")

Probe = Callable[[str, float], Awaitable[None]]
"""(url, timeout in seconds): raises when the agent there is not well."""


class HealthWatch:
    """A service: `start`, `stop`.

    Args:
        incarnation: this coordinator's; 0 while it has none, and then no agent is checked.
        probe: performs a check by URL.
        jitter: in [0, 1), new each time: keeps coordinators and agents out of step.
    """

    def __init__(
        self, keeper: AgentKeeper, directory: AgentDirectory, clock: Clock, liveness: Liveness, *,
        incarnation: Callable[[], int], probe: Probe, jitter: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        self._keeper = keeper
        self._directory = directory
        self._clock = clock
        self._liveness = liveness
        self._incarnation = incarnation
        self._probe = probe
        self._jitter = jitter
        self._watches: dict[str, tuple[Agent, asyncio.Task[None]]] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(keep(self._look, LOOK_S), name="health")

    async def stop(self) -> None:
        """Stop, and give up all turns so that others take over at once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        names = list(self._watches)
        for name in names:
            await self._end(name)
        incarnation = self._incarnation()
        for name in names:
            record = self._directory.record(name)
            if record is None or not rec.give_up_health_turn(record, incarnation, self._clock.now()):
                continue
            try:
                await self._keeper.append(
                    name, lambda record: rec.give_up_health_turn(record, incarnation, self._clock.now())
                )
            except StoreUnavailable:
                return  # they lapse

    async def _look(self) -> None:
        """Keep one task for each agent that has a check; replace it when the agent is described anew."""
        while True:
            wanted = {agent.name: agent for agent in self._directory.agents() if self._is_asked(agent)}
            for name, (agent, _) in list(self._watches.items()):
                if wanted.get(name) is not agent:
                    await self._end(name)
            for name, agent in wanted.items():
                if name not in self._watches:
                    self._watches[name] = agent, asyncio.create_task(self._watch(agent), name=f"health of {name}")
            await asyncio.sleep(LOOK_S)

    async def _end(self, name: str) -> None:
        _, task = self._watches.pop(name)
        task.cancel()
        await asyncio.wait([task], timeout=1.0)  # a check may refuse to be cancelled

    def _is_asked(self, agent: Agent) -> bool:
        if agent.transport == PULL:  # its workers ask it themselves, and offer to do only what is well
            return False
        if agent.health_check is None and (agent.described.health is None or agent.described.health.url is None):
            return False
        if self._directory.is_own(agent.name):
            return True
        record = self._directory.record(agent.name)
        return record is not None and record.is_registered(self._clock.now())

    # -- one agent ----------------------------------------------------------------------------------------------------

    async def _watch(self, agent: Agent) -> None:
        policy = agent.described.health or Health()
        misses = successes = 0
        while True:
            pause_s = policy.every
            try:
                if await self._has_turn(agent.name, policy):
                    reason = await self._ask(agent, policy)
                    misses, successes = (0, successes + 1) if reason is None else (misses + 1, 0)
                    await self._report(agent.name, policy, misses, successes, reason or "")
                else:
                    misses = successes = 0
                    pause_s = self._wait_s(agent.name)
            except StoreUnavailable as error:
                logger.warning("health of %s: %s", agent.name, error)
            except Exception:
                logger.exception("health of %s; it goes on", agent.name)
            await asyncio.sleep(pause_s * (1 + JITTER * (2 * self._jitter() - 1)))

    def _wait_s(self, name: str) -> float:
        """Until another's turn may be free."""
        record = self._directory.record(name)
        left_ms = record.turn.until - self._clock.now() if record is not None and record.turn is not None else 0
        return min(max(left_ms / 1000, LOOK_S), WAIT_S)

    async def _has_turn(self, name: str, policy: Health) -> bool:
        """Whether it is this coordinator's turn. Takes the turn if it is free, and renews it when half of it is
        over.
        """
        own, now = self._incarnation(), self._clock.now()
        if own == 0:
            return False
        turn_ms = max(TURN_MS, round(3000 * (policy.every + policy.timeout)))
        record = self._directory.record(name) or AgentRecord()
        if record.turn is not None and record.turn.incarnation == own and record.turn.until - now > turn_ms / 2:
            return True
        living: frozenset[int] | None = None
        if not rec.is_turn_free(record, own, None, now):
            # Looked up after the turn was seen: one that was taken since is of a later record, and loses nothing.
            living = frozenset(member.incarnation for member in await self._liveness.members())
            if not rec.is_turn_free(record, own, living, now):
                return False
        seen = record.turn

        def decide(record: AgentRecord) -> list[Event]:
            still = living if record.turn == seen else None
            return rec.take_health_turn(record, own, turn_ms, self._clock.now(), still)

        turn = (await self._keeper.append(name, decide)).turn
        return turn is not None and turn.incarnation == own

    async def _report(self, name: str, policy: Health, misses: int, successes: int, reason: str) -> None:
        own = self._incarnation()

        def decide(record: AgentRecord) -> list[Event]:
            return rec.checked(record, policy, own, misses=misses, successes=successes, reason=reason)

        record = self._directory.record(name)
        if record is None or not decide(record):
            return  # no verdict changes: nothing is written
        health = (await self._keeper.append(name, decide)).health
        logger.log(
            logging.WARNING if health == "unhealthy" else logging.INFO, "agent %s is %s %s", name, health, reason
        )

    async def _ask(self, agent: Agent, policy: Health) -> str | None:
        """Check the agent. Returns None if it is well, else why it is not."""
        try:
            async with asyncio.timeout(policy.timeout):
                if policy.url is not None:
                    await self._probe(policy.url, policy.timeout)
                if agent.health_check is not None:
                    is_async = inspect.iscoroutinefunction(agent.health_check)
                    said = agent.health_check() if is_async else await self._in_thread(agent.name, agent.health_check)
                    if inspect.isawaitable(said):
                        await said
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return "the check cancelled itself"
        except TimeoutError as error:
            return faithful(error) or f"no answer within {policy.timeout:g} s"
        except (Exception, SystemExit) as error:  # noqa: BLE001  whatever a check raises is its answer
            return f"{type(error).__name__}: {faithful(error)}"
        return None

    def _in_thread(self, name: str, check: Callable[[], Any]) -> asyncio.Future[Any]:
        """Run a check in a thread of its own, never two for one agent. A check that hangs does not block the others,
        and a daemon thread does not keep the process from ending.

        Raises:
            TimeoutError: the previous check has not ended.
        """
        before = self._threads.get(name)
        if before is not None and before.is_alive():
            raise TimeoutError("the check before has not ended")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def settle(value: Any, error: BaseException | None) -> None:
            if not future.done():
                future.set_exception(error) if error is not None else future.set_result(value)

        def work() -> None:
            value: Any = None
            failed: BaseException | None = None
            try:
                value = check()
            except BaseException as error:  # noqa: BLE001  it is raised where the check is awaited
                failed = RuntimeError(faithful(error)) if isinstance(error, StopIteration) else error
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, value, failed)

        thread = self._threads[name] = threading.Thread(target=work, name=f"health of {name}", daemon=True)
        thread.start()
        return future
