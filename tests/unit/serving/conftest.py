"""A served app whose agents do what their names say, called through the real transport; the cluster's API behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pointsman import App, Context
from pointsman.agents.agent import AgentError, AgentRefused, ContextOverflow, RateLimited
from pointsman.api import ApiServer
from pointsman.kernel.errors import StoreUnavailable
from pointsman.transports.http import HttpTransport
from tests.unit.api.memory_agents import MemoryAgents, MemoryAttempts
from tests.unit.api.memory_runs import MemoryRuns, served
from tests.unit.transports.support import HERE


class Desk:
    """An app, and what happened in it."""

    def __init__(self) -> None:
        self.app = App("desk", value_bytes_max=10_000)
        self.charges: list[str] = []
        self.contexts: list[Context] = []
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.told = asyncio.Event()
        self.unwell = False
        for agent in (
            self.echo, self.charge, self.spender, self.fails, self.waits, self.beats, self.works, self.wrong,
            self.large, self.teller,
        ):  # fmt: skip
            self.app.agent(health=self.check)(agent)

    def check(self) -> None:
        if self.unwell:
            raise RuntimeError("out of paper")

    async def echo(self, n: int, ctx: Context) -> int:
        self.contexts.append(ctx)
        return n

    async def charge(self, ctx: Context) -> str:
        async def effect() -> str:
            self.charges.append(ctx.idempotency_key)
            return f"charge {len(self.charges)}"

        return str(await ctx.once("charge", effect))

    def spender(self, ctx: Context) -> None:
        ctx.spend(usd=0.01, tokens=10)
        ctx.heartbeat()
        ctx.spend(tokens=2)

    async def teller(self, n: int, ctx: Context) -> int:
        ctx.emit("ticket.seen", {"n": n})
        ctx.emit("ticket.done")
        return n

    async def fails(self, kind: str, ctx: Context) -> None:
        ctx.spend(usd=0.5)
        errors: dict[str, Exception] = {
            "refused": AgentRefused("not mine"),
            "context_overflow": ContextOverflow(),
            "rate_limited": RateLimited(retry_after=2.5),
            "card_declined": AgentError("no funds", kind="card_declined", retryable=False),
            "overloaded": AgentError("later", kind="overloaded", retry_after=0),
            "timeout": AgentError("it says so itself", kind="timeout"),
            "crash": KeyError("secret\x00"),
            "impatient": TimeoutError(),
            "unrecorded": StoreUnavailable("nothing can be recorded now"),
        }
        raise errors[kind]

    async def waits(self) -> None:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def beats(self, ctx: Context) -> None:
        ctx.heartbeat()
        await self.waits()

    async def works(self, ctx: Context) -> None:
        ctx.spend(tokens=3)
        ctx.heartbeat()
        ctx.spend(tokens=4)
        await self.told.wait()

    async def wrong(self) -> int:
        return "x"  # type: ignore[return-value]

    async def large(self) -> str:
        return "x" * 20_000


@pytest.fixture
async def desk() -> Desk:
    return Desk()


@pytest.fixture
def attempts() -> MemoryAttempts:
    return MemoryAttempts()


@pytest.fixture
def agents() -> MemoryAgents:
    return MemoryAgents()


@pytest.fixture
async def api(attempts: MemoryAttempts, agents: MemoryAgents) -> AsyncIterator[ApiServer]:
    async with served(MemoryRuns(), agents=agents, attempts=attempts, token="cluster's") as api:
        yield api


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    transport = HttpTransport(HERE, token="agents'")
    yield transport
    await transport.close()


def pytest_asyncio_loop_factories() -> dict[str, Any]:
    import uvloop

    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
