"""How an agent is reached. Implemented in `transports/`: in process, over HTTP."""

from __future__ import annotations

from typing import Protocol

from pointsman.agents.agent import Agent
from pointsman.agents.context import Context


class Transport(Protocol):
    async def call(self, agent: Agent, context: Context, data: bytes) -> bytes:
        """One attempt. `data` is the call's recorded input, byte for byte.

        Returns: the result, canonical JSON that fits the agent's schema.

        Raises:
            AgentError: of a kind in `kernel/policy/failures.py`, or one that the agent named itself.
            Anything else is a crash of the agent. Cancelled at the deadline; it must not swallow that.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and threads. Twice is once."""
        ...
