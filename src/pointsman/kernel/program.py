"""What the kernel must be told to drive a run: the code as data. Implemented by `agents/` and `app.py`."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from pointsman.kernel.events import Failure
from pointsman.kernel.policy.amounts import Amount, Budget
from pointsman.kernel.policy.retry import Retry

if TYPE_CHECKING:
    from pointsman.kernel.run import Run


class Signature(Protocol):
    """How a function's arguments and result become JSON and back; the signature is the schema."""

    def encode_input(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        """Canonical JSON. Raises InvalidInput, InvalidValue."""
        ...

    def same_input(self, recorded: bytes, produced: bytes) -> bool:
        """Are two inputs equal by value, once read through today's schema?"""
        ...

    def decode_output(self, data: bytes) -> Any: ...

    def encode_output(self, value: Any) -> bytes:
        """Canonical JSON of a value that stands in for a result. Raises InvalidInput, InvalidValue."""
        ...


class AgentSpec(Protocol):
    """An agent as the kernel sees it."""

    @property
    def name(self) -> str: ...
    @property
    def signature(self) -> Signature: ...
    @property
    def retry(self) -> Retry: ...
    @property
    def most(self) -> Amount | None:
        """The most that an attempt uses up, by its own word; None: it said nothing."""
        ...

    @property
    def idempotent(self) -> bool:
        """False: an attempt whose end is unknown is never repeated, here or elsewhere."""
        ...


class StateSchema(Protocol):
    """What the typed state of a workflow's runs looks like, and how older versions of it are read."""

    @property
    def version(self) -> int:
        """Of what `encode` gives, from 1."""
        ...

    def encode(self, value: Any) -> bytes:
        """Canonical JSON of a value, as it is read back. Raises InvalidState, InvalidValue."""
        ...

    def changed(self, before: Any, changes: Mapping[str, Any]) -> bytes:
        """The same of `before` (None: there is none) with these fields changed. Raises InvalidState, InvalidValue."""
        ...

    def dump(self, value: Any) -> bytes:
        """JSON of what `decode` gave, as it is now, unchecked."""
        ...

    def decode(self, data: bytes, version: int) -> Any:
        """Raises InvalidState: not of this version, or no upcaster reads it. StateFromFuture: of a newer one."""
        ...


class WorkflowSpec(Protocol):
    """A workflow as the kernel sees it."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def signature(self) -> Signature: ...
    @property
    def budget(self) -> Budget | None:
        """Of a run that is started without one."""
        ...

    @property
    def turns_max(self) -> int | None:
        """Calls of agents in one run."""
        ...

    @property
    def repeats_max(self) -> int | None:
        """Calls of one agent with one input in one run."""
        ...

    @property
    def state(self) -> StateSchema | None:
        """Of the typed state of its runs; None: they have none."""
        ...

    @property
    def build(self) -> str:
        """Digest of the code."""
        ...

    def body(self, run: Run, data: bytes) -> Coroutine[Any, Any, Any]:
        """The body's coroutine, its input read from JSON. Raises InvalidInput."""
        ...

    def encode_output(self, value: Any) -> bytes:
        """Raises InvalidValue."""
        ...


class Shape(Protocol):
    """What a person's answer must be."""

    @property
    def schema(self) -> bytes:
        """JSON Schema, in canonical JSON; empty: any JSON."""
        ...

    def encode_output(self, value: Any) -> bytes:
        """Canonical JSON of a value that is proposed. Raises InvalidInput, InvalidValue."""
        ...

    def decode_output(self, data: bytes) -> Any:
        """Raises InvalidInput."""
        ...


class Selection(msgspec.Struct, frozen=True):
    agent: str
    reason: str


class Directory(Protocol):
    """Which agents and workflows there are, and how the agents are. Read once per question; the answer is recorded."""

    @property
    def mode(self) -> str:
        """The cluster's mode now, one of `policy.modes.MODES`."""
        ...

    def agent(self, name: str, /) -> AgentSpec | None:
        """Also one that has left or whose registration lapsed: runs that called it must still replay."""
        ...

    def problem(self, name: str, now: int) -> Failure | None:
        """Why this agent can't be given a call at `now` (ms, the database's clock); None: it can.

        Kinds: unknown_agent, disabled, departed, unhealthy, breaker_open. Asked at every dispatch, so it must be cheap.
        """
        ...

    def fits(self, name: str, data: bytes) -> bool:
        """Would this agent take this input, by its schema? False for one that does not exist."""
        ...

    def chain(self, name: str) -> tuple[str, ...]:
        """To whom a call of this agent goes when it fails, in order: what its card says, else the generalist, if
        that is another. Names that nobody has yet are among them: agents come and go."""
        ...

    def workflow(self, name: str, version: int | None = None) -> WorkflowSpec | None:
        """The newest version without `version`."""
        ...

    def select(self, needs: Sequence[str]) -> Selection | None:
        """The most specialised agent with all capabilities in `needs` and without a problem, else the generalist if it
        has none, else None. The reason names who was passed over, for people."""
        ...

    def generalist(self) -> str | None: ...

    def subscribers(self, event: str, now: int) -> tuple[str, ...]:
        """The agents whose card names this event, but for those that have left."""
        ...

    def shape(self, expected: Any) -> Shape:
        """Of a type, a JSON Schema, or None for any JSON. Raises InvalidValue: nothing that a schema can describe."""
        ...

    def decode_as(self, expected: Any, data: bytes) -> Any:
        """Read JSON as a type that an author names. Raises InvalidInput."""
        ...
