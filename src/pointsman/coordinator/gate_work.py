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
from pointsman.agents.traffic import Limits, TrafficState, Wants, decide
from pointsman.coordinator.gate_counts import GateSettings, GateStats
from pointsman.coordinator.gate_streams import AgentStreams
from pointsman.kernel.errors import StoreUnavailable
from pointsman.kernel.events import Event, Failure
from pointsman.ports.clock import Clock

logger = logging.getLogger("pointsman.gates")

STORE_RETRY_S = 0.1


class House(Protocol):
    """What all gates of a coordinator share."""

    incarnation: int
    settings: GateSettings
    stats: GateStats
    streams: AgentStreams
    clock: Clock
    dead: frozenset[int]

    def trouble(self, name: str, now: int) -> Failure | None:
        """Why the agent takes no calls: unhealthy, disabled, departed."""
        ...

    def may_suspect(self, now: int) -> bool:
        """Is it time to ask again who is alive?"""
        ...

    async def look_for_dead(self, suspects: Sequence[int]) -> None:
        """Raises StoreUnavailable."""
        ...


class Work(Protocol):
    """What a gate tells its work, and hears of it."""

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
    """See the module."""

    def __init__(self, house: House, name: str, work: Work) -> None:
        self._house = house
        self._name = name
        self._work = work
        self._task: asyncio.Task[None] | None = None

    def poke(self, now: int) -> bool:
        """If there is something to append, or to find out, see to it. False: there is not."""
        if self._task is not None and not self._task.done():
            return True
        if not self._may_suspect(now) and not self._decide(self._work.wants(now))(self._work.traffic, now):
            return False
        self._task = asyncio.create_task(self._run(), name=f"gate of {self._name}")
        return True

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def give_up(self, wants: Wants) -> None:
        """The last append. Raises StoreUnavailable."""
        await self._house.streams.append(self._name, self._decide(wants))

    def _may_suspect(self, now: int) -> list[int]:
        return self._work.suspects() if self._house.may_suspect(now) else []

    def _decide(self, wants: Wants) -> Callable[[TrafficState, int], list[Event]]:
        return lambda state, now: decide(state, self._work.limits, self._house.incarnation, wants, now)

    async def _run(self) -> None:
        while True:
            try:
                if not await self._append():
                    return
            except StoreUnavailable as error:
                self._house.stats.store_errors += 1
                logger.info("gate of agent %s: %s; trying again", self._name, error)
                await self._recover()

    async def _append(self) -> bool:
        """One append, of all that can be had now. False: there is nothing to append."""
        house, work = self._house, self._work
        suspects = self._may_suspect(house.clock.now())
        if suspects:
            await house.look_for_dead(suspects)
        wants = work.wants(house.clock.now())
        work.committing(wants.permits)
        events = await house.streams.append(self._name, self._decide(wants))
        self._account(events)
        work.settled()
        return bool(events)

    async def _recover(self) -> None:
        """The append may have happened or not: what was to be given back is not used until that is known."""
        while True:
            await asyncio.sleep(STORE_RETRY_S)
            try:
                await self._house.streams.refresh(self._name)
            except StoreUnavailable:
                continue
            self._work.settled()
            return

    def _account(self, events: Sequence[Event]) -> None:
        stats, own = self._house.stats, self._house.incarnation
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
