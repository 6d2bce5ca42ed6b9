"""The verbs on runs: what a coordinator offers to its HTTP API, and an app to the process that it lives in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from pointsman.kernel.events import Failure
from pointsman.kernel.policy.amounts import Budget
from pointsman.ports.event_log import Head, RunFilter


class StartRun(msgspec.Struct, frozen=True):
    """A wish to start a run.

    Attributes:
        id: the run's id; starting it again with the same workflow and input is the same run.
        input: JSON as it came from outside (not yet checked).
        version: None for the newest version registered.
        budget: what the run and its children may use up; None: what the workflow says.
    """

    workflow: str
    input: bytes
    id: str | None = None
    version: int | None = None
    tenant: str = "default"
    attributes: Mapping[str, Any] = {}
    budget: Budget | None = None


class RunView(msgspec.Struct, frozen=True):
    """A run as people and programs outside see it. `output` or `failure` is there once it has ended.

    Attributes:
        stranded: no living coordinator has its workflow version; what to do, in a sentence. Empty: it goes on.
    """

    head: Head
    output: msgspec.Raw | None = None
    failure: Failure | None = None
    stranded: str = ""


class StateView(msgspec.Struct, frozen=True):
    """The typed state of a run: `value` of that `version` of its workflow's schema, set by event `sequence`. All null:
    none was set."""

    run: str
    version: int | None = None
    value: msgspec.Raw | None = None
    sequence: int | None = None


class Started(msgspec.Struct, frozen=True):
    view: RunView
    created: bool


class EventView(msgspec.Struct, frozen=True):
    """An event for outside: `data` is its JSON; inputs held as pieces are rebuilt only when asked for.
    `epoch`: the owner number of whoever appended it. `damage`: what is wrong with it; then nothing else of it is
    certain."""

    sequence: int
    at: int
    type: str
    version: int
    data: msgspec.Raw
    epoch: int = 0
    damage: str = ""


class Accepted(msgspec.Struct, frozen=True):
    """A signal or cancel that is durable in the run's mailbox. `repeated`: this key had been accepted before, with the
    same content."""

    run: str
    key: str
    repeated: bool = False


class Redrive(msgspec.Struct, frozen=True):
    """A wish that a failed run goes on.

    Attributes:
        sequence: at which the caller saw it fail; then a repetition of the wish is no second redrive.
        by, reason: for whoever reads the run later.
        has_fresh_key: the failed call gets another idempotency key: for agents that answer a known key with the failure
            that they gave before. Whatever it did under the old one may then be done twice.
    """

    run: str
    sequence: int | None = None
    by: str = ""
    reason: str = ""
    has_fresh_key: bool = False


class Redriven(msgspec.Struct, frozen=True):
    """What a redrive did, or would do.

    Attributes:
        number: of the run's redrives, from 1.
        after: what came after this event counts no longer.
        calls: get fresh attempts; empty: the run failed by its own code, and goes on with the code that there is now.
        failure: of the call that ended the run.
        repeated: this failure had been redriven before, by `by`.
    """

    run: str
    number: int
    after: int
    calls: tuple[str, ...]
    failure: Failure | None = None
    repeated: bool = False
    by: str = ""


class Runs(Protocol):
    """Errors are those of `kernel/errors.py`; each has a stable code and an HTTP status."""

    async def start(self, request: StartRun) -> Started:
        """Start a run, durably, or find the one that was started with the same id.

        Raises: UnknownWorkflow, InvalidInput, InvalidValue, ValueTooLarge, RunConflict, Draining, StoreUnavailable.
        """
        ...

    async def get(self, run: str) -> RunView:
        """Raises: UnknownRun, StoreUnavailable."""
        ...

    async def state(self, run: str) -> StateView:
        """Its typed state (`run.state`), as its last durable step left it. Raises: UnknownRun, StoreUnavailable."""
        ...

    async def wait(self, run: str, *, timeout_s: float) -> RunView:
        """The run once it has ended, or as it is when `timeout_s` is over."""
        ...

    async def list(
        self, where: RunFilter, *, limit: int, cursor: str | None = None
    ) -> tuple[Sequence[Head], str | None]: ...

    async def events(
        self, run: str, *, after: int = 0, limit: int = 1000, inputs: bool = False, bytes_max: int | None = None
    ) -> Sequence[EventView]:
        """Those after a sequence, at most `limit`. The one with which their data has `bytes_max` bytes is the last, so
        that a page does not fill the memory.

        Raises: UnknownRun, NoSuchSequence (it ended before `after`), CorruptLog, StoreUnavailable.
        """
        ...

    def follow(self, run: str, *, after: int = 0) -> AsyncIterator[Sequence[EventView]]:
        """The run's events from `after` on, as they come, until it has ended. An empty batch now and then says: still
        there. Raises as `events`, and Draining."""
        ...

    async def signal(self, run: str, name: str, payload: bytes, *, key: str) -> Accepted:
        """Raises: UnknownRun, RunEnded, DuplicateMail (same key, other content), InvalidValue, ValueTooLarge."""
        ...

    async def redrive(self, wish: Redrive) -> Redriven:
        """Let a failed run go on from the call that failed; what completed is not repeated.

        Raises: UnknownRun, NotRedrivable, CorruptLog, Draining, StoreUnavailable.
        """
        ...

    async def redrive_plan(self, run: str) -> Redriven:
        """What a redrive would do. Raises as `redrive`."""
        ...

    async def cancel(self, run: str, *, reason: str = "") -> Accepted:
        """Ask a run to stop. Asking twice is once. Raises: UnknownRun, RunEnded."""
        ...

    async def release(self, run: str) -> RunView:
        """Let a quarantined run go on. Raises: UnknownRun, NotQuarantined."""
        ...


class Status(Protocol):
    """What a coordinator says of itself."""

    def is_ready(self) -> tuple[bool, str]:
        """Can it take work? And a sentence that says why or why not."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Name, incarnation, versions, effective limits: plain data."""
        ...

    def metrics(self) -> str:
        """Prometheus text."""
        ...
