"""The operations on runs: what a coordinator offers to its HTTP API, and an app to the process that it runs in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from pointsman.kernel.events import Failure
from pointsman.kernel.policy.amounts import Budget
from pointsman.ports.event_log import Head, RunFilter


class StartRun(msgspec.Struct, frozen=True):
    """A request to start a run.

    Attributes:
        id: the run's id; starting it again with the same workflow and input gives the same run.
        input: JSON as it came from outside, not checked yet.
        version: None for the newest registered version.
        budget: what the run and its children may use up; None: the workflow's own.
    """

    workflow: str
    input: bytes
    id: str | None = None
    version: int | None = None
    tenant: str = "default"
    attributes: Mapping[str, Any] = {}
    budget: Budget | None = None


class RunView(msgspec.Struct, frozen=True):
    """A run as the API shows it. `output` or `failure` is set once it has ended."""

    head: Head
    output: msgspec.Raw | None = None
    failure: Failure | None = None
    stranded: str = ""


class StateView(msgspec.Struct, frozen=True):
    """The typed state of a run: `value` fits `version` of its workflow's schema, and event `sequence` set it. All are
    null if no state was set.
    """

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
    """A signal or cancel that is durable in the run's mailbox. `repeated`: this key was accepted before, with the same
    content.
    """

    run: str
    key: str
    repeated: bool = False


class Redrive(msgspec.Struct, frozen=True):
    """A request to let a failed run go on.

    Attributes:
        sequence: the sequence at which the caller saw the run fail; a repeated request is then not a second redrive.
        by, reason: for whoever reads the run later.
        has_fresh_key: give the failed call another idempotency key, for agents that answer a known key with the same
            failure
            again. Whatever the call did under the old key may then be done twice.
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
    """The operations on runs. Errors are those of `kernel/errors.py`; each has a stable code and an HTTP status."""

    async def start(self, request: StartRun) -> Started:
        """Start a run durably, or find the one that was started with the same id.

        Raises: UnknownWorkflow, InvalidInput, InvalidValue, ValueTooLarge, RunConflict, Draining, StoreUnavailable.
        """
        ...

    async def get(self, run: str) -> RunView:
        """One run. Raises UnknownRun, StoreUnavailable."""
        ...

    async def state(self, run: str) -> StateView:
        """The run's typed state (`run.state`) as of its last durable step. Raises UnknownRun, StoreUnavailable."""
        ...

    async def wait(self, run: str, *, timeout_s: float) -> RunView:
        """Wait until the run has ended, for at most `timeout_s`, and return the run as it is then."""
        ...

    async def list(
        self, where: RunFilter, *, limit: int, cursor: str | None = None
    ) -> tuple[Sequence[Head], str | None]: ...

    async def events(
        self, run: str, *, after: int = 0, limit: int = 1000, inputs: bool = False, bytes_max: int | None = None
    ) -> Sequence[EventView]:
        """At most `limit` events after a sequence. The page ends early with the event at which their data reaches
        `bytes_max` bytes, so that it does not fill the memory.

        Raises: UnknownRun, NoSuchSequence (the run ended before `after`), CorruptLog, StoreUnavailable.
        """
        ...

    def follow(self, run: str, *, after: int = 0) -> AsyncIterator[Sequence[EventView]]:
        """Yield the run's events from `after` on as they come, until it has ended. An occasional empty batch shows that
        the stream is alive. Raises as `events`, and Draining.
        """
        ...

    async def signal(self, run: str, name: str, payload: bytes, *, key: str) -> Accepted:
        """Send a signal to a run. Raises UnknownRun, RunEnded, DuplicateMail (same key, other content), InvalidValue,
        ValueTooLarge.
        """
        ...

    async def redrive(self, wish: Redrive) -> Redriven:
        """Let a failed run go on from the call that failed. What completed is not repeated.

        Raises: UnknownRun, NotRedrivable, CorruptLog, Draining, StoreUnavailable.
        """
        ...

    async def redrive_plan(self, run: str) -> Redriven:
        """What a redrive would do. Raises as `redrive`."""
        ...

    async def cancel(self, run: str, *, reason: str = "") -> Accepted:
        """Ask a run to stop. Idempotent. Raises UnknownRun, RunEnded."""
        ...

    async def release(self, run: str) -> RunView:
        """Let a quarantined run go on. Raises: UnknownRun, NotQuarantined."""
        ...


class Status(Protocol):
    """What a coordinator reports about itself."""

    def is_ready(self) -> tuple[bool, str]:
        """Whether it can take work, with a sentence that says why or why not."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Name, incarnation, versions and effective limits, as plain data."""
        ...

    def metrics(self) -> str:
        """The metrics in Prometheus text format."""
        ...
