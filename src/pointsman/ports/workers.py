"""Workers: processes that fetch the calls of agents from the coordinators and bring back the results.

Each coordinator keeps the calls of the runs that it owns, so a worker has one request for calls (a *poll*) waiting at
every coordinator. A poll says what the worker holds, and is also how a coordinator knows that the worker is alive.

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
    """An attempt, as a worker names it. `key`: the idempotency key."""

    key: str
    attempt: Annotated[int, Meta(ge=1, le=2**31 - 1)]


class Poll(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A worker's request for calls.

    Attributes:
        number: rises with each poll of this worker; a later poll ends the earlier ones.
        agents: the agents whose calls the worker takes now.
        free: how many more calls it can take; 0: none, it only reports that it is alive.
        holding: all attempts that it works on, or has an undelivered result of, whichever coordinator they are from.
    """

    number: Annotated[int, Meta(ge=1, le=2**53)]
    agents: Annotated[tuple[str, ...], Meta(max_length=AGENTS_MAX)]
    free: Annotated[int, Meta(ge=0, le=CONCURRENCY_MAX)]
    holding: Annotated[tuple[HeldCall, ...], Meta(max_length=2 * CONCURRENCY_MAX)] = ()


class HandedCall(msgspec.Struct, frozen=True):
    """An attempt that a worker is to make. `deadline_ms`: time left until nobody waits for it any more. `input`: as
    recorded.
    """

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
    """The answer to a poll. `over`: those of the worker's attempts that nobody waits for any more."""

    calls: tuple[HandedCall, ...] = ()
    over: tuple[HeldCall, ...] = ()


class WorkerFailure(msgspec.Struct, frozen=True):
    """How an attempt failed on a worker. `retryable` None: what the agent's card says of this kind."""

    kind: str
    message: str = ""
    retryable: bool | None = None
    retry_after_s: float | None = None


class AttemptResult(msgspec.Struct, frozen=True):
    """The result of an attempt on a worker: an output (JSON) or a failure, and what the attempt used up in all (None:
    not known).

    If `failure` is None, the output counts. `emitted`: the events that the agent emitted (`ctx.emit`).
    """

    output: bytes = b"null"
    failure: WorkerFailure | None = None
    usd: float | None = None
    tokens: int | None = None
    emitted: tuple[Emission, ...] = ()


class WorkerView(msgspec.Struct, frozen=True):
    """A worker as a coordinator sees it. `holding`: the attempts of this coordinator that it works on."""

    id: str
    agents: tuple[str, ...]
    free: int
    holding: int
    is_polling: bool


class CoordinatorAddress(msgspec.Struct, frozen=True):
    """A living coordinator, with the address of its API."""

    name: str
    address: str
    incarnation: int


class Desk(Protocol):
    """The place where the calls of one coordinator wait for workers. It exists only in that coordinator's memory.

    Attributes:
        lost: how many workers have died or fallen silent so far.
    """

    lost: int

    async def poll(self, worker: str, poll: Poll, wait_s: float) -> Handed:
        """Answer a poll, at once if there is anything to say, else after `wait_s`. If it is cancelled, calls that were
        about to be handed over wait again.

        Raises: StalePoll.
        """
        ...

    def leave(self, worker: str) -> bool:
        """Remove a worker. Its attempts from here wait again, except those that must not be repeated: they are lost.
        Returns False if the worker was not known.
        """
        ...

    def settle(self, key: str, attempt: int, result: AttemptResult) -> bool:
        """Mark the attempt as over. Returns False if it is not under way here."""
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
        """The address of this coordinator; a request that names another address is not for it."""
        ...

    async def coordinators(self) -> Sequence[CoordinatorAddress]:
        """All living coordinators; a worker polls each of them."""
        ...

    async def poll(self, worker: str, poll: Poll, wait_s: float) -> Handed:
        """See `Desk`."""
        ...

    def leave(self, worker: str) -> bool:
        """See `Desk`."""
        ...

    def workers(self) -> Sequence[WorkerView]:
        """The workers that this coordinator knows."""
        ...

    async def finish(self, call: CallAddress, attempt: int, result: AttemptResult) -> None:
        """Report that the attempt is over, with its result, to whichever coordinator owns the run. Once this has
        returned, the owner has the result, and records it unless it dies first.

        Raises: AttemptOver, RunEnded, UnknownRun. StoreUnavailable also while the run changes its owner: ask again.
        """
        ...
