"""The verbs on agents, and on the attempts that agents behind HTTP are at: what a coordinator offers to its HTTP API.

Errors of its own:

    PointsmanError (kernel)
    ├── AgentNotFound
    ├── InvalidCard
    ├── AgentDeclared
    └── AttemptOver
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import msgspec

from pointsman.kernel.errors import InvalidValue, PointsmanError
from pointsman.kernel.policy.amounts import Amount

TTL_S_MIN, TTL_S_MAX = 1.0, 86_400.0

KEY_PATTERN = r"([A-Za-z0-9][A-Za-z0-9._:~@-]{0,127})/([1-9][0-9]{0,15})(?:r([1-9][0-9]{0,15}))?/(.+)"
"""The idempotency key of a call's attempts."""

_KEY = re.compile(KEY_PATTERN, re.DOTALL)


class AgentNotFound(PointsmanError):
    """No agent of this name is declared or registered; see GET /v1/agents, or register it (again)."""

    code = "agent_not_found"
    status = 404


class InvalidCard(PointsmanError):
    """The agent card can't be used; the detail says what is wrong with it."""

    code = "invalid_card"
    status = 422


class AgentDeclared(PointsmanError):
    """The app itself declares an agent of this name, and that one stands; register yours under another name."""

    code = "agent_declared"
    status = 409


class AttemptOver(PointsmanError):
    """Nobody waits for this attempt any more (it timed out, was given up, or its run went on): stop working on it."""

    code = "attempt_over"
    status = 409


class AgentView(msgspec.Struct, frozen=True):
    """An agent as people and programs outside see it.

    Attributes:
        card: its agent card, JSON.
        registered: True: a service that registered itself; False: a function of the app.
        enabled: False: an operator has switched it off.
        health: `unknown` (no check, or none yet), `healthy`, `unhealthy`.
        breaker: `closed`, `open`, `half-open`.
        problem: the kind of failure (`kernel/policy/failures.py`) for which it gets no call just now; None: it gets
            calls.
        expires_at: when its registration ends unless it is renewed, ms by the database's clock; None for the app's own.
        workers: how many are there to fetch its calls; None: it has none by its nature.
    """

    name: str
    card: msgspec.Raw
    registered: bool = False
    enabled: bool = True
    health: str = "unknown"
    breaker: str = "closed"
    problem: str | None = None
    expires_at: int | None = None
    workers: int | None = None


class BreakerView(msgspec.Struct, frozen=True):
    """The circuit breaker of an agent.

    Attributes:
        state: `closed`, `open`, `half-open`. pinned: what an operator holds it at; None: it decides itself.
        reason: of the last transition, for people. since: of it, ms by the database's clock; None: there was none.
        calls, failures, slow: of all coordinators, in the window that is looked back upon.
    """

    agent: str
    state: str
    pinned: str | None = None
    reason: str = ""
    since: int | None = None
    calls: int = 0
    failures: int = 0
    slow: int = 0


class Registered(msgspec.Struct, frozen=True):
    """`created`: there was no such registration before."""

    view: AgentView
    created: bool


class Agents(Protocol):
    """Every method raises `StoreUnavailable` when the store can't be reached. Asking twice is asking once."""

    async def list(self) -> Sequence[AgentView]:
        """All that are declared, registered or were switched off, by name."""
        ...

    async def get(self, name: str) -> AgentView:
        """Raises: AgentNotFound."""
        ...

    async def register(self, card: bytes, *, ttl_s: float) -> Registered:
        """Make an agent known, durably and to all coordinators, for `ttl_s` seconds; or renew it, with this card.

        Args:
            card: an agent card (`agents/card.py`) as JSON, with a `url`; checked already but for its addresses.

        Raises:
            InvalidCard: its URL leads where agents may not be, or its schemas can't be used.
            AgentDeclared.
        """
        ...

    async def renew(self, name: str, *, ttl_s: float) -> AgentView:
        """Its registration ends `ttl_s` seconds from now. Raises: AgentNotFound: it has ended; register again."""
        ...

    async def leave(self, name: str) -> bool:
        """End a registration. False: there was none."""
        ...

    async def enable(self, name: str) -> AgentView:
        """Raises: AgentNotFound."""
        ...

    async def disable(self, name: str, *, reason: str = "") -> AgentView:
        """No new attempts from now on; those under way go on. Raises: AgentNotFound."""
        ...

    async def breakers(self) -> Sequence[BreakerView]:
        """One for each agent, by its name."""
        ...

    async def pin_breaker(self, name: str, state: str) -> BreakerView:
        """Hold it at `open` or `closed`, whatever happens. Raises: AgentNotFound."""
        ...

    async def unpin_breaker(self, name: str) -> BreakerView:
        """Let it decide itself again. Raises: AgentNotFound."""
        ...


class CallAddress(msgspec.Struct, frozen=True):
    """Which call of which run. Its generation is part of it: an attempt that outlived a `run.restart` must not leave an
    effect to the call that has its id now. So are the redrives before it was asked for."""

    run: str
    generation: int
    call: str
    redrives: int = 0

    @property
    def key(self) -> str:
        """The idempotency key of its attempts."""
        again = f"r{self.redrives}" if self.redrives else ""
        return f"{self.run}/{self.generation}{again}/{self.call}"

    @staticmethod
    def parse(key: str) -> CallAddress:
        """The call that has this `key`. Raises: InvalidValue."""
        found = _KEY.fullmatch(key)
        if found is None:
            raise InvalidValue("an attempt's key is run/generation/call, as its Idempotency-Key header has it")
        return CallAddress(found[1], int(found[2]), found[4], int(found[3] or 0))


class Effect(msgspec.Struct, frozen=True):
    """`value`: what stands, JSON. `created`: it was recorded just now."""

    value: msgspec.Raw
    created: bool


class Attempts(Protocol):
    """What an agent behind HTTP says of the attempt that it is at. Any coordinator may be asked, not only the run's
    owner. Every method raises `UnknownRun` and `StoreUnavailable`."""

    async def find_effect(self, call: CallAddress, name: str) -> bytes | None:
        """The value recorded under this name for this call, by any attempt; None: none."""
        ...

    async def record_effect(self, call: CallAddress, name: str, value: bytes) -> Effect:
        """Record it, durably; the first wins.

        Raises: RunEnded; AttemptOver: the call is of a generation that is over; InvalidValue, ValueTooLarge.
        """
        ...

    async def heartbeat(self, call: CallAddress, attempt: int) -> None:
        """The attempt is alive. Raises: AttemptOver, RunEnded."""
        ...

    async def spend(self, call: CallAddress, attempt: int, so_far: Amount) -> None:
        """The attempt used up `so_far` in all. A total, not an addition, so that a report that comes twice or late
        counts once: the largest stands, the one that comes with the agent's answer among them.

        Raises: AttemptOver, RunEnded.
        """
        ...
