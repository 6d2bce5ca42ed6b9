"""Gates: may an attempt of this agent be made now? (Interim: the interface that the driver uses.)"""

from __future__ import annotations

from typing import Protocol

from pointsman.agents.agent import Agent
from pointsman.kernel.events import Failure


class Waiter(Protocol):
    priority: int
    is_continuing: bool

    def admitted(self, permit: Permit) -> None: ...


class Permit:
    """One attempt may be made."""

    def ended(self, kind: str | None, seconds: float) -> None:
        """Its outcome is known (None: completed), once; a timed-out one may still be running."""

    def release(self) -> None:
        """It is really over: its slot is free. Once, after `ended`, or alone when it was abandoned."""

    def give_back(self) -> None:
        """No attempt was made."""


class Gates:
    def enter(self, agent: Agent, waiter: Waiter) -> Permit | Failure:
        return _OPEN

    def leave(self, agent: Agent, waiter: Waiter) -> None: ...

    def may_retry(self, agent: Agent) -> bool:
        return True

    def tried(self, agent: Agent, is_retry: bool) -> None: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


_OPEN = Permit()
