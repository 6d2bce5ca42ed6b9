"""How simulated coordinators reach agents: functions of the app in virtual time, and services behind a URL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from pointsman.agents.agent import Agent, AgentError
from pointsman.agents.context import Context
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.testing.sim.journal import Journal
from pointsman.transports.local import LocalTransport
from pointsman.transports.pull import PullTransport

Service = Callable[[Context], Awaitable[bytes]]


class SimLocal(LocalTransport):
    """As in production, but that sync agents run at once instead of in a thread, and every attempt is noted.

    Args:
        delay_s: an attempt takes up to so long before the agent begins, and again before its result is back.
    """

    def __init__(self, journal: Journal, *, delay_s: float) -> None:
        super().__init__(threads_max=1)
        self._journal = journal
        self._delay_s = delay_s

    async def call(self, agent: Agent, context: Context, data: bytes) -> bytes:
        """See `agents.transport.Transport`."""
        self._journal.begins(context, agent.name, data)
        await self._pause()
        result = await super().call(agent, context, data)
        await self._pause()
        return result

    async def _pause(self) -> None:
        if self._delay_s:
            await asyncio.sleep(self._journal.rng.random() * self._delay_s)

    async def _in_thread(self, agent: Agent, arguments: dict[str, Any]) -> Any:
        return agent(**arguments)


class SimDesk(PullTransport):
    """As in production, but that every attempt is noted that is laid out for workers."""

    def __init__(self, journal: Journal, settings: CoordinatorSettings) -> None:
        super().__init__(
            silence_s=settings.worker_silence_ms / 1000, queue_max=settings.worker_queue_max,
            misses_max=settings.worker_misses_max,
        )  # fmt: skip
        self._journal = journal

    async def call(self, agent: Agent, context: Context, data: bytes) -> bytes:
        """See `agents.transport.Transport`."""
        self._journal.lays_out(context, agent.name, data)
        return await super().call(agent, context, data)

    def left_over(self) -> list[str]:
        """What is laid out here."""
        return [f"{name.key}, attempt {name.attempt}" for name in self._calls]


class SimBench(LocalTransport):
    """A worker's: each attempt is noted from its begin to its end."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(threads_max=1)
        self._journal = journal

    async def call(self, agent: Agent, context: Context, data: bytes) -> bytes:
        """See `agents.transport.Transport`."""
        shift = self._journal.begins_at_worker(context, agent.name, data)
        try:
            shift.output = await super().call(agent, context, data)
            return shift.output
        finally:
            shift.end(asyncio.get_running_loop().time())

    async def _in_thread(self, agent: Agent, arguments: dict[str, Any]) -> Any:
        return agent(**arguments)


class SimHttp:
    """Services behind URLs: `service` is all of them. A request or its answer may be lost on the way."""

    def __init__(self, journal: Journal, service: Service) -> None:
        self._journal = journal
        self._service = service

    async def close(self) -> None:
        """Nothing is held."""

    async def call(self, agent: Agent, context: Context, data: bytes) -> bytes:
        """See `agents.transport.Transport`."""
        self._journal.begins(context, agent.name, data)
        draw = self._journal.rng.random()
        if draw < 0.1:
            raise AgentError("no connection", kind="unreachable")
        result = await self._service(context)
        if draw < 0.2:
            raise AgentError("the answer was lost", kind="connection_lost")
        return result
