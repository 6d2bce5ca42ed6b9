"""An agent: something that does one step. It is a function of the app, or a service that registered itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import msgspec

from pointsman.agents.card import HTTP, LOCAL, Card
from pointsman.agents.context import Context
from pointsman.agents.signature import Signature
from pointsman.kernel.errors import PointsmanError
from pointsman.kernel.policy.amounts import Amount
from pointsman.kernel.policy.failures import FAILURE_KINDS
from pointsman.kernel.policy.retry import Retry

ONE_CALL = Amount(calls=1)
"""Of an attempt without a price."""


class AgentError(PointsmanError):
    """Raised by an agent to say more than "it failed".

    Args:
        kind: a stable name of the failure: one of `kernel/policy/failures.py`, or the agent's own.
        retryable: whether the same call may succeed later. None: what the agent's card, or the kind's default, says.
        retry_after: seconds to wait before a retry.
    """

    code = "agent_error"

    def __init__(
        self,
        message: str,
        *,
        kind: str = "agent_error",
        retryable: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        said: tuple[tuple[str, object, Any], ...] = (
            ("kind", kind, str),
            ("retryable", retryable, bool | None),
            ("retry_after", retry_after, float | int | None),
        )  # fmt: skip
        for name, value, wanted in said:
            if not isinstance(value, wanted):
                raise TypeError(f"AgentError({name}={value!r}): {wanted}")  # what can't be recorded is refused here
        super().__init__(message)
        self.kind = kind
        self.is_retryable = retryable
        self.retry_after = retry_after


class AgentRefused(AgentError):
    """The agent declines to do it: another agent or a person may."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or "the agent declined", kind="refused")


class ContextOverflow(AgentError):
    """The input is more than the agent's context can hold: an agent with a larger one may."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or "the input does not fit the agent's context", kind="context_overflow")


class RateLimited(AgentError):
    """The agent asks for fewer calls. Args: retry_after: seconds."""

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message or "too many calls", kind="rate_limited", retry_after=retry_after)


class AgentSignature(Protocol):
    """An agent's schema at work: the kernel's part, and the checks at both ends of an attempt."""

    def encode_input(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes: ...

    def same_input(self, recorded: bytes, produced: bytes) -> bool: ...

    def encode_output(self, value: Any) -> bytes: ...

    def decode_output(self, data: bytes) -> Any:
        """A recorded result. Raises InvalidInput: today's code can't read it."""
        ...

    def check_output(self, data: bytes) -> None:
        """Raises InvalidInput: the result is none that the agent may give."""
        ...

    def check_input(self, data: bytes) -> None:
        """Raises InvalidInput."""
        ...

    def schemas(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """JSON Schema of the input and of the output."""
        ...


@dataclass(frozen=True)
class Agent:
    """Something that does one step: a function of the app, or a registered service.

    Calling a declared agent calls its function, for example in a unit test.

    Attributes:
        described: its card, without the schemas where they follow from `signature` (see `card`).
        function: None for an agent that is reached by its URL.
        health_check: a function (sync or async) that returns, or raises when the agent is not well.
    """

    described: Card
    signature: AgentSignature
    function: Callable[..., Any] | None = None
    health_check: Callable[[], Any] | None = None
    is_async: bool = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.function is None:
            where = self.described.url or "its workers"
            raise TypeError(f"agent {self.name} is no function: it is reached at {where}")
        return self.function(*args, **kwargs)

    @cached_property
    def name(self) -> str:
        return self.described.name

    @cached_property
    def transport(self) -> str:
        """LOCAL, HTTP or PULL (`agents.card`)."""
        return self.described.transport or (LOCAL if self.function is not None else HTTP)

    @property
    def can_be_stopped(self) -> bool:
        """An attempt in a thread of this process goes on until it returns."""
        return self.is_async or self.transport != LOCAL

    @cached_property
    def timeout(self) -> float:
        """Seconds that one attempt may take."""
        return self.described.timeout

    @property
    def capabilities(self) -> tuple[str, ...]:
        return self.described.capabilities

    @property
    def retry(self) -> Retry:
        return self.described.retry

    @property
    def fallback(self) -> tuple[str, ...] | None:
        return self.described.fallback

    @cached_property
    def most(self) -> Amount | None:
        """The most that an attempt uses up, by its card."""
        return None if self.described.cost is None else self.described.cost.most

    @cached_property
    def expected(self) -> Amount:
        """What an attempt that says nothing of it is taken to use up."""
        return ONE_CALL if self.described.cost is None else self.described.cost.expected

    @property
    def idempotent(self) -> bool:
        return self.described.idempotent

    @property
    def card(self) -> Card:
        """Its card, complete."""
        if self.function is None:
            return self.described
        takes, gives = self.signature.schemas()
        return msgspec.structs.replace(self.described, input_schema=takes, output_schema=gives)

    def subscribed(self, events: Sequence[str]) -> Agent:
        """The same agent, triggered by these events too. Raises ValueError: a name that no event can have."""
        card = msgspec.structs.replace(self.described, on=tuple(dict.fromkeys((*self.described.on, *events))))
        card.check()
        return replace(self, described=card)

    def is_retryable(self, error: AgentError) -> bool:
        """What the error says; else what the card says of its kind; else what the kind's default is."""
        if error.is_retryable is not None:
            return error.is_retryable
        known = FAILURE_KINDS.get(error.kind)
        return self.described.failures.get(error.kind, known.retryable if known is not None else True)


def define_agent(
    function: Callable[..., Any], card: Card, *, health_check: Callable[[], Any] | None, bytes_max: int
) -> Agent:
    """Raises TypeError or ValueError with what to change."""
    if not card.name:
        card = msgspec.structs.replace(card, name=str(getattr(function, "__name__", "")))
    card.check()
    if not card.description:
        card = msgspec.structs.replace(card, description=(inspect.getdoc(function) or "").partition("\n\n")[0])
    signature = Signature(function, given=Context, bytes_max=bytes_max)
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
    return Agent(card, signature, function, health_check, is_async)
