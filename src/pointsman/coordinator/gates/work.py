"""What a gate appends to its agent's stream: one task, while there is something to append.

It asks the pure `traffic.decide` first, on what is known of the stream, so that a wish that can't be granted costs no
statement.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from pointsman.agents import traffic
from pointsman.agents.record import AgentRecord
from pointsman.agents.traffic import Limits, TrafficState, Wants, decide
from pointsman.coordinator.gates.counts import GateSettings
from pointsman.kernel.errors import StoreUnavailable
from pointsman.kernel.events import Event, Failure
from pointsman.observe.stats import GateStats
from pointsman.ports.clock import Clock

logger = logging.getLogger("pointsman.gates")

STORE_RETRY_S = 0.1


class AgentLog(Protocol):
    """Who appends to the agents' streams (`agents.AgentKeeper`)."""

    async def append(self, name: str, decide: Callable[[AgentRecord], Sequence[Event]]) -> AgentRecord:
        """What `decide` says, at the sequence that it was decided on; again when another was first. Raises
        StoreUnavailable."""
        ...


class SharedByGates(Protocol):
    """What all gates of a coordinator share."""

    incarnation: int
    settings: GateSettings
    stats: GateStats
    agents: AgentLog
    clock: Clock
    dead: frozenset[int]

    def traffic(self, name: str) -> TrafficState:
        """As the stream was last seen. Not to be changed."""
        ...

    def problem(self, name: str, now: int) -> Failure | None:
        """Why the agent takes no calls: unhealthy, disabled, departed."""
        ...

    def may_suspect(self, now: int) -> bool:
        """Is it time to ask again who is alive?"""
        ...

    async def look_for_dead(self, suspects: Sequence[int]) -> None:
        """Raises StoreUnavailable."""
        ...


class WorkGate(Protocol):
    """What the work needs of the gate that it is for."""

    limits: Limits
    traffic: TrafficState

    def wants(self, now: int) -> Wants: ...

    def suspects(self) -> list[int]:
        """Holders of all the slots that calls wait for here: they may be dead."""
        ...

    def committing(self, permits: int | None) -> None:
        """An append is under way that may leave this coordinator with so many slots."""
        ...

    def settled(self) -> None:
        """What is known of the stream is what it says."""
        ...


class GateWork:
    """Makes the appends of one gate."""

    def __init__(self, shared: SharedByGates, name: str, gate: WorkGate) -> None:
        self._shared = shared
        self._name = name
        self._gate = gate
        self._task: asyncio.Task[None] | None = None

    def poke(self, now: int) -> bool:
        """If there is something to append, or to find out, see to it. False: there is not."""
        if self._task is not None and not self._task.done():
            return True
        if not self._may_suspect(now) and not self._decide(self._gate.traffic, self._gate.wants(now), now):
            return False
        self._task = asyncio.create_task(self._run(), name=f"gate of {self._name}")
        return True

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def give_up(self, wants: Wants) -> None:
        """The last append. Raises StoreUnavailable."""
        if self._decide(self._gate.traffic, wants, self._shared.clock.now()):
            await self._append(wants)

    def _may_suspect(self, now: int) -> list[int]:
        return self._gate.suspects() if self._shared.may_suspect(now) else []

    def _decide(self, state: TrafficState, wants: Wants, now: int) -> list[Event]:
        return decide(state, self._gate.limits, self._shared.incarnation, wants, now)

    async def _run(self) -> None:
        """Append as long as there is something to be had."""
        shared, gate = self._shared, self._gate
        while True:
            try:
                suspects = self._may_suspect(shared.clock.now())
                if suspects:
                    await shared.look_for_dead(suspects)
            except StoreUnavailable as error:
                await self._pause(error)
            now = shared.clock.now()
            wants = gate.wants(now)
            if not self._decide(gate.traffic, wants, now):
                return  # nothing awaited since it was asked: a poke can't have been missed
            gate.committing(wants.permits)
            self._account(await self._append_surely(wants))
            gate.settled()

    async def _append_surely(self, wants: Wants) -> Sequence[Event]:
        """The same again until there is an answer. An append whose reply was lost may have happened, or happen yet; the
        next one at its sequence settles that, and since wants say how it should be in the end, twice is once. What is
        to be given back is not used until then."""
        while True:
            try:
                return await self._append(wants)
            except StoreUnavailable as error:
                await self._pause(error)

    async def _append(self, wants: Wants) -> Sequence[Event]:
        """What was appended; empty: nothing could be had."""
        events: Sequence[Event] = ()

        def decided(record: AgentRecord) -> Sequence[Event]:
            nonlocal events
            events = self._decide(record.traffic, wants, self._shared.clock.now())
            return events

        await self._shared.agents.append(self._name, decided)
        return events

    async def _pause(self, error: StoreUnavailable) -> None:
        self._shared.stats.store_errors += 1
        logger.info("gate of agent %s: %s; trying again", self._name, error)
        await asyncio.sleep(STORE_RETRY_S)

    def _account(self, events: Sequence[Event]) -> None:
        stats, own = self._shared.stats, self._shared.incarnation
        stats.appends += bool(events)
        for event in events:
            match event:
                case traffic.BreakerOpened():
                    stats.breakers_opened += 1
                case traffic.BreakerHalfOpened():
                    stats.breakers_half_opened += 1
                case traffic.BreakerClosed():
                    stats.breakers_closed += 1
                case traffic.ProbeGranted():
                    stats.probes_granted += 1
                case traffic.ProbeEnded(ok=False):
                    stats.probes_failed += 1
                case traffic.PermitsGranted():
                    stats.permits_granted += event.count
                    stats.permits_handed += event.count if event.incarnation != own else 0
