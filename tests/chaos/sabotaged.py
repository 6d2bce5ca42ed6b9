"""The app of the drills, in coordinators that are broken on purpose: each agent is asked a second time when it has
answered. A judge that does not find that finds nothing."""

from __future__ import annotations

from pointsman.agents.agent import Agent
from pointsman.agents.context import Context
from pointsman.testing.chaos.app import app
from pointsman.transports.local import LocalTransport

__all__ = ["app"]

call = LocalTransport.call


async def call_twice(self: LocalTransport, agent: Agent, context: Context, data: bytes) -> bytes:
    await call(self, agent, context, data)
    return await call(self, agent, context, data)


LocalTransport.call = call_twice  # type: ignore[method-assign]
