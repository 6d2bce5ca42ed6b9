"""How an agent is reached. Implemented in `transports/`: in process, over HTTP, by workers that come for its calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pointsman.agents.agent import Agent
from pointsman.agents.context import Context
from pointsman.kernel.errors import ValueTooLarge
from pointsman.kernel.events import Emission


def check_emitted(output: bytes, emitted: Sequence[Emission], bytes_max: int) -> None:
    """Raises ValueTooLarge: the result of an attempt and the events that it emitted are over the limit together."""
    size = len(output) + sum(len(emission.event) + len(emission.data) for emission in emitted)
    if size > bytes_max:
        raise ValueTooLarge(f"{size} bytes of result and {len(emitted)} events; the limit is {bytes_max}")


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
        """Let go of connections and threads. Idempotent."""
        ...


class Pulled(Protocol):
    """What the transport of workers tells of an attempt that waits for one: the `runtime` of its context."""

    goes_on_elsewhere: bool
    """It was cancelled here, and may be under way for another owner of its run: a worker that is at it is to go on."""

    def taken(self) -> float:
        """A worker has it: its time begins. Returns the seconds that the worker has."""
        ...

    def given_back(self) -> None:
        """It waits again."""
        ...
