"""Workers: processes that come to the coordinators for the calls of agents, and bring the results.

Each coordinator keeps the calls of the runs that it owns, so a worker has one request for calls (a *poll*) waiting at
every coordinator. A poll says what the worker holds; that is also how a coordinator knows that it lives.

Errors of its own:

    PointsmanError (kernel)
    ├── StalePoll
    └── OtherCoordinator
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from pointsman.kernel.errors import PointsmanError
from pointsman.kernel.events import Emission
from pointsman.ports.agents import CallAddress

CONCURRENCY_MAX = 10_000
"""Attempts at the same time on one worker."""
AGENTS_MAX = 1_000
"""Agents of one worker."""


class StalePoll(PointsmanError):
    """A later poll of this worker has come already; two processes must not use one worker's id."""

    code = "stale_poll"
    status = 409


class OtherCoordinator(PointsmanError):
    """This request is for another coordinator; ask that one at its address, or through a router."""

    code = "other_coordinator"
    status = 421


class HeldCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One attempt, as a worker names it. `key`: the idempotency key."""

    key: str
    attempt: Annotated[int, Meta(ge=1, le=2**31 - 1)]


class Poll(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a worker says when it asks for calls.

    Attributes:
        number: rises with each poll of this worker; a later one ends those before it.
        agents: whose calls it takes just now.
        free: how many more it can take; 0: none, it only says that it lives.
        holding: all that it is at, or has a result of that nobody has taken yet, whichever coordinator it is from.
    """

    number: Annotated[int, Meta(ge=1, le=2**53)]
    agents: Annotated[tuple[str, ...], Meta(max_length=AGENTS_MAX)]
    free: Annotated[int, Meta(ge=0, le=CONCURRENCY_MAX)]
    holding: Annotated[tuple[HeldCall, ...], Meta(max_length=2 * CONCURRENCY_MAX)] = ()


class HandedCall(msgspec.Struct, frozen=True):
    """One attempt that a worker is to make. `deadline_ms`: until nobody waits for it any more. `input`: as recorded."""

    agent: str
    run: str
    call: str
    key: str
    attempt: int
    epoch: int
    tenant: str
    deadline_ms: int
    traceparent: str
    input: msgspec.Raw


class Handed(msgspec.Struct, frozen=True):
    """What a poll is answered. `over`: of what the worker holds, that for which nobody waits any more."""

    calls: tuple[HandedCall, ...] = ()
    over: tuple[HeldCall, ...] = ()


class WorkerFailure(msgspec.Struct, frozen=True):
    """How an attempt failed on a worker. `retryable` None: what the agent's card says of the kind."""

    kind: str
    message: str = ""
    retryable: bool | None = None
    retry_after_s: float | None = None


class AttemptResult(msgspec.Struct, frozen=True):
    """What a worker brings: an output (JSON) or a failure, and what the attempt used up in all; None: it did not say.

    `failure` None: it is the output that counts. `emitted`: what the agent said has happened (`ctx.emit`).
    """

    output: bytes = b"null"
    failure: WorkerFailure | None = None
    usd: float | None = None
    tokens: int | None = None
    emitted: tuple[Emission, ...] = ()


class WorkerView(msgspec.Struct, frozen=True):
    """A worker as a coordinator sees it. `holding`: the attempts from here that it is at."""

    id: str
    agents: tuple[str, ...]
    free: int
    holding: int
    is_polling: bool


class CoordinatorAddress(msgspec.Struct, frozen=True):
    """A living coordinator, where its API is."""

    name: str
    address: str
    incarnation: int


class Desk(Protocol):
    """Where one coordinator's calls wait for workers; in its memory, and nowhere else.

    Attributes:
        lost: workers that died or fell silent, so far.
    """

    lost: int

    async def poll(self, worker: str, poll: Poll, wait_s: float) -> Handed:
        """Returns at once when there is something to say, else after `wait_s`. Cancelled: what was to be handed over
        waits again.

        Raises: StalePoll.
        """
        ...

    def leave(self, worker: str) -> bool:
        """The worker goes. What it holds from here waits again, unless it must not be repeated: then it is lost. False:
        the worker was not known."""
        ...

    def settle(self, key: str, attempt: int, result: AttemptResult) -> bool:
        """The attempt is over. False: it is not under way here."""
        ...

    def workers(self) -> Sequence[WorkerView]: ...

    def waiting(self) -> Mapping[str, int]:
        """How many calls wait for a worker, by agent."""
        ...

    def connected(self) -> Mapping[str, int]:
        """How many workers there are, by agent."""
        ...


class Workers(Protocol):
    """What a coordinator offers to workers. Every method may raise `StoreUnavailable`."""

    @property
    def address(self) -> str:
        """Of this coordinator; a request that names another is not for it."""
        ...

    async def coordinators(self) -> Sequence[CoordinatorAddress]:
        """All that live: each of them is to be polled."""
        ...

    async def poll(self, worker: str, poll: Poll, wait_s: float) -> Handed:
        """See `Desk`."""
        ...

    def leave(self, worker: str) -> bool:
        """See `Desk`."""
        ...

    def workers(self) -> Sequence[WorkerView]:
        """Those that this coordinator knows."""
        ...

    async def finish(self, call: CallAddress, attempt: int, result: AttemptResult) -> None:
        """The attempt is over, with this; whichever coordinator owns the run, it is told. Once it has returned, the
        owner has the result, and records it unless it dies first.

        Raises: AttemptOver, RunEnded, UnknownRun. StoreUnavailable also while the run changes its owner: ask again.
        """
        ...
