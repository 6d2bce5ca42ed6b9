"""What the kernel must be told to drive a run: the code as data. Implemented by `agents/` and `app.py`."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

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


class AgentSpec(Protocol):
    """An agent as the kernel sees it."""

    @property
    def name(self) -> str: ...
    @property
    def signature(self) -> Signature: ...
    @property
    def retry(self) -> Retry: ...


class WorkflowSpec(Protocol):
    """A workflow as the kernel sees it."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def signature(self) -> Signature: ...
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


class Selection(msgspec.Struct, frozen=True):
    agent: str
    reason: str


class Directory(Protocol):
    """Which agents and workflows there are. Read once per question; the answer is recorded."""

    def agent(self, name: str) -> AgentSpec | None: ...

    def workflow(self, name: str, version: int | None = None) -> WorkflowSpec | None:
        """The newest version without `version`."""
        ...

    def select(self, needs: Sequence[str]) -> Selection | None:
        """An agent with all capabilities in `needs`, else the generalist, else None."""
        ...

    def generalist(self) -> str | None: ...

    def decode_as(self, expected: Any, data: bytes) -> Any:
        """Read JSON as a type that an author names. Raises InvalidInput."""
        ...
