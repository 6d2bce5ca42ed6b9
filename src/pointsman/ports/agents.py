"""The operations on agents, and the reports of agents behind HTTP on their attempts: what a coordinator offers to its
HTTP API.

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
    """An agent as the API shows it.

    Attributes:
        card: its agent card, JSON.
        registered: True: a service that registered itself; False: a function of the app.
        enabled: False: an operator has switched it off.
        health: `unknown` (no check, or none yet), `healthy`, `unhealthy`.
        breaker: `closed`, `open`, `half-open`.
        problem: the kind of failure (`kernel/policy/failures.py`) because of which it gets no calls now; None: it gets
            calls.
        expires_at: when its registration ends unless it is renewed, ms by the database's clock; None for the app's own.
        workers: how many workers fetch its calls; None: its calls are not fetched by workers.
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
        state: `closed`, `open`, `half-open`. pinned: the state at which an operator holds it; None: it is not pinned.
        reason: of the last transition, for display. since: when that was, ms by the database's clock; None: there was
            none.
        calls, failures, slow: sums over all coordinators within the breaker's window.
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
    """The answer to a registration. `created`: there was no such registration before."""

    view: AgentView
    created: bool


class Agents(Protocol):
    """The operations on agents. All of them are idempotent, and all raise `StoreUnavailable` if the store can't be
    reached.
    """

    async def list(self) -> Sequence[AgentView]:
        """All agents that are declared, registered or switched off, by name."""
        ...

    async def get(self, name: str) -> AgentView:
        """One agent. Raises AgentNotFound."""
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
        """Extend a registration to `ttl_s` seconds from now. Raises AgentNotFound if it has ended; then register
        again.
        """
        ...

    async def leave(self, name: str) -> bool:
        """End a registration. Returns False if there was none."""
        ...

    async def enable(self, name: str) -> AgentView:
        """Let an agent have calls again. Raises AgentNotFound."""
        ...

    async def disable(self, name: str, *, reason: str = "") -> AgentView:
        """Start no new attempts of this agent; those under way go on. Raises AgentNotFound."""
        ...

    async def breakers(self) -> Sequence[BreakerView]:
        """The breakers of all agents, by the agent's name."""
        ...

    async def pin_breaker(self, name: str, state: str) -> BreakerView:
        """Hold the breaker at `open` or `closed`, whatever happens. Raises AgentNotFound."""
        ...

    async def unpin_breaker(self, name: str) -> BreakerView:
        """Let the breaker decide itself again. Raises AgentNotFound."""
        ...


class CallAddress(msgspec.Struct, frozen=True):
    """Identifies a call of a run.

    The generation is part of it: an attempt that outlived a `run.restart` must not record an effect for the later call
    that has the same id. So is the number of redrives before the call was made, for the same reason.
    """

    run: str
    generation: int
    call: str
    redrives: int = 0

    @property
    def key(self) -> str:
        """The idempotency key of the call's attempts."""
        again = f"r{self.redrives}" if self.redrives else ""
        return f"{self.run}/{self.generation}{again}/{self.call}"

    @staticmethod
    def parse(key: str) -> CallAddress:
        """The address of the call with this idempotency key. Raises InvalidValue."""
        found = _KEY.fullmatch(key)
        if found is None:
            raise InvalidValue("an attempt's key is run/generation/call, as its Idempotency-Key header has it")
        return CallAddress(found[1], int(found[2]), found[4], int(found[3] or 0))


class Effect(msgspec.Struct, frozen=True):
    """A recorded effect. `value`: the value that counts, JSON. `created`: this request recorded it."""

    value: msgspec.Raw
    created: bool


class Attempts(Protocol):
    """The reports of an agent behind HTTP on its attempt.

    Any coordinator may be asked, not only the run's owner. Every method raises `UnknownRun` and `StoreUnavailable`.
    """

    async def find_effect(self, call: CallAddress, name: str) -> bytes | None:
        """The value that any attempt of this call recorded under this name; None if there is none."""
        ...

    async def record_effect(self, call: CallAddress, name: str, value: bytes) -> Effect:
        """Record an effect durably; the first one counts.

        Raises: RunEnded; AttemptOver: the call is of an earlier generation; InvalidValue, ValueTooLarge.
        """
        ...

    async def heartbeat(self, call: CallAddress, attempt: int) -> None:
        """Report that the attempt is alive. Raises AttemptOver, RunEnded."""
        ...

    async def spend(self, call: CallAddress, attempt: int, so_far: Amount) -> None:
        """Report what the attempt has used up so far.

        This is a total, not an increment, so a report that arrives twice or late counts once: the largest total counts,
        the one in the agent's answer included.

        Raises: AttemptOver, RunEnded.
        """
        ...
