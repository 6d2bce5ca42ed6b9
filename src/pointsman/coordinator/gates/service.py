"""Gates decide whether an attempt of an agent may be made now, by its breaker, concurrency, rate and retry budget, on
which all coordinators agree.

An attempt never waits for the store here. What must hold in the whole cluster (one breaker, the sums of slots) is
decided by appends to `agent/X`, ahead of need where possible; the counts of each coordinator go over the board.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from pointsman.agents.agent import Agent
from pointsman.agents.directory import AgentDirectory
from pointsman.agents.traffic import TrafficState
from pointsman.coordinator.gates.agent import Gate
from pointsman.coordinator.gates.counts import AgentSums, GateSettings
from pointsman.coordinator.gates.permit import Permit
from pointsman.coordinator.gates.queue import Waiter
from pointsman.coordinator.gates.work import AgentLog
from pointsman.kernel.errors import StoreUnavailable
from pointsman.kernel.events import Failure
from pointsman.kernel.policy.breaker import Sums
from pointsman.observe.stats import GateStats
from pointsman.ports.store import Store

__all__ = ["GateSettings", "GateStats", "Gates", "Permit", "Waiter"]

SECTION = "traffic"

NO_TRAFFIC = TrafficState()

logger = logging.getLogger("pointsman.gates")


class Gates:
    """A service of one incarnation: `start` once, `stop` any number of times.

    Args:
        agents: appends to the agents' streams (`AgentKeeper`, started), keeps `directory` up to date, and says so at
            once (`changed`): on the way of an attempt nobody is asked how its agent is.

    Attributes:
        sections: what else goes on the board, by name: each is called before every publication, and gives JSON.
        heard: what the other living coordinators said last, by incarnation and section.
        dead: incarnations that are known to have ended.
    """

    def __init__(
        self, incarnation: int, store: Store, agents: AgentLog, directory: AgentDirectory, *,
        settings: GateSettings | None = None, stats: GateStats | None = None,
    ) -> None:  # fmt: skip
        self.incarnation = incarnation
        self.settings = settings or GateSettings()
        self.stats = stats or GateStats()
        self.clock = store.clock
        self.agents = agents
        self.dead: frozenset[int] = frozenset()
        self.sections: dict[str, Callable[[], object]] = {}
        self.heard: dict[int, dict[str, Any]] = {}
        self._store = store
        self._directory = directory
        self._gates: dict[str, Gate] = {}
        self._suspected_at = 0
        self._task: asyncio.Task[None] | None = None

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start. The directory must be up to date, so that no attempt passes an open breaker."""
        self._task = asyncio.create_task(self._run(), name="gates")

    async def stop(self) -> None:
        """Stop, and give back what is not in use. Waiting calls are not told."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        gates, self._gates = self._gates, {}
        for outcome in await asyncio.gather(*(gate.stop() for gate in gates.values()), return_exceptions=True):
            if isinstance(outcome, StoreUnavailable):
                logger.info("%s: what these gates hold is free when incarnation %d ends", outcome, self.incarnation)
            elif outcome is not None:
                raise outcome

    # -- what drivers ask ---------------------------------------------------------------------------------------------

    def enter(self, agent: Agent, waiter: Waiter) -> Permit | Failure:
        """Return a permit, or why there is none now (busy, breaker_open, unhealthy, disabled, departed). In the latter
        case the waiter is queued and `admitted` later, unless it leaves.

        busy means that it will be its turn as soon as there is room. All other kinds may last: another agent may do
        better.
        """
        gate = self._gates.get(agent.name)
        if gate is None or gate.agent is not agent:
            gate = self._gate_of(agent)
        return gate.free or gate.enter(waiter, self.clock.now())

    def leave(self, agent: Agent, waiter: Waiter) -> None:
        """Remove a waiter that wants no attempt any more. Does nothing if it was admitted."""
        gate = self._gates.get(agent.name)
        if gate is not None:
            gate.leave(waiter)

    def has_retries(self, agent: Agent) -> bool:
        """Whether the retry budget of this agent allows another retry in the cluster, as far as is known here."""
        return (self._gates.get(agent.name) or self._gate_of(agent)).retries.allows(self.clock.now() // 1000)

    def may_retry(self, agent: Agent) -> bool:
        """Take one retry from the budget if it allows one. It is counted when it is granted, not when it is made, so
        that calls that fail together see each other.
        """
        allows = self.has_retries(agent)
        if allows:
            self._gates[agent.name].retries.retries += 1
        else:
            self.stats.retries_refused += 1
        return allows

    # -- what happens elsewhere ---------------------------------------------------------------------------------------

    def changed(self, name: str) -> None:
        """Note that this agent's stream changed (`AgentKeeper.on_change`), so that waiters need not wait for the next
        poll.
        """
        gate = self._gates.get(name)
        if gate is not None:
            gate.changed(self.clock.now())

    def sums(self, name: str) -> Sums:
        """What all coordinators counted of this agent within its breaker's window, as far as is known here."""
        gate = self._gates.get(name)
        return gate.breaker.all_sums(self.clock.now(), gate.others.values()) if gate is not None else Sums()

    def queues(self) -> dict[str, Gate]:
        """The gates before which calls wait only because the agent has so many, by agent."""
        return {name: gate for name, gate in self._gates.items() if gate.is_busy}

    # -- what gates ask -----------------------------------------------------------------------------------------------

    def traffic(self, name: str) -> TrafficState:
        """See `SharedByGates`."""
        record = self._directory.record(name)
        return record.traffic if record is not None else NO_TRAFFIC

    def problem(self, name: str, now: int) -> Failure | None:
        """See `SharedByGates`. The breaker is judged here, by the stream itself."""
        failure = self._directory.problem(name, now)
        return failure if failure is not None and failure.kind != "breaker_open" else None

    def may_suspect(self, now: int) -> bool:
        """See `SharedByGates`."""
        return now - self._suspected_at >= self.settings.members_ms

    async def look_for_dead(self, suspects: Sequence[int]) -> None:
        """See `SharedByGates`. They were seen in a stream before: one that is no member now has ended for good."""
        self._suspected_at = self.clock.now()
        living = {member.incarnation for member in await self._store.liveness.members()}
        self.dead |= set(suspects) - living

    # -- the board ----------------------------------------------------------------------------------------------------

    def _gate_of(self, agent: Agent) -> Gate:
        gate = self._gates.get(agent.name)
        if gate is None:
            gate = self._gates[agent.name] = Gate(self, agent)
        elif gate.agent is not agent:
            gate.adopt(agent)
        return gate

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self.settings.board_ms / 1000)
            try:
                await self._exchange()
            except StoreUnavailable as error:
                self.stats.store_errors += 1
                self._hear({})  # what was said too long ago is worse than nothing
                logger.info("gates: %s", error)

    async def _exchange(self) -> None:
        """Publish what was counted here, and read what the others counted."""
        now = self.clock.now()
        sums = {name: sums for name, gate in self._gates.items() if not (sums := gate.tick(now)).is_empty}
        body: dict[str, object] = {name: section() for name, section in self.sections.items()}
        body[SECTION] = sums
        self._hear(await self._store.board.publish(self.incarnation, msgspec.json.encode(body)))

    def _hear(self, bodies: Mapping[int, bytes]) -> None:
        self.heard = {}
        by_agent: dict[str, dict[int, AgentSums]] = {}
        for incarnation, body in bodies.items():
            try:
                said = self.heard[incarnation] = msgspec.json.decode(body, type=dict[str, Any])
                sums = msgspec.convert(said.get(SECTION, {}), dict[str, AgentSums])
            except msgspec.MsgspecError:
                self.stats.stray_bodies += 1  # of another release; while both run, each counts for itself
                continue
            for name, agent_sums in sums.items():
                by_agent.setdefault(name, {})[incarnation] = agent_sums
        now = self.clock.now()
        for name, gate in self._gates.items():
            gate.hear(by_agent.get(name, {}), now)
