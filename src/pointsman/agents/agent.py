"""An agent: a function, its schema, its capabilities, and the policies of its calls."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pointsman.agents.signature import Signature
from pointsman.kernel.errors import PointsmanError
from pointsman.kernel.policy.retry import Retry

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
RESERVED = frozenset({"sleep", "select", "random", "uuid"})


class Context(msgspec.Struct, frozen=True, gc=False):
    """What an agent may know of the attempt that it makes: nothing of the run but this.

    Attributes:
        idempotency_key: the same on every attempt and every coordinator; hand it to whatever has effects.
        epoch: the owner number of the run; an agent that keeps state may refuse a lower one than it has seen.
        deadline: `time.monotonic()` seconds of this process by which the attempt is given up.
    """

    run: str
    call: str
    attempt: int
    idempotency_key: str
    epoch: int
    deadline: float
    tenant: str = "default"


class AgentError(PointsmanError):
    """Raised by an agent to say more than "it failed".

    Args:
        kind: a stable name of the failure.
        retryable: would the same call later help?
        retry_after: seconds before which it would not.
    """

    code = "agent_error"

    def __init__(
        self, message: str, *, kind: str = "agent_error", retryable: bool = True, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.is_retryable = retryable
        self.retry_after = retry_after


@dataclass(frozen=True)
class Agent:
    """A declared agent. Calling it calls the function itself, as in a unit test."""

    name: str
    function: Callable[..., Any]
    signature: Signature
    capabilities: tuple[str, ...] = ()
    timeout: float = 30.0
    """Seconds that one attempt may take."""
    retry: Retry = field(default_factory=Retry)
    is_async: bool = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def define_agent(
    function: Callable[..., Any],
    *,
    name: str | None,
    capabilities: tuple[str, ...],
    timeout: float,
    retry: Retry,
    bytes_max: int,
) -> Agent:
    """Raises TypeError or ValueError with what to change."""
    chosen = name or str(getattr(function, "__name__", ""))
    if not NAME.fullmatch(chosen) or chosen in RESERVED:
        raise ValueError(
            f"{chosen!r} can't name an agent: 1–64 letters, digits, '_' or '-', a letter first, "
            f"and none of {sorted(RESERVED)}"
        )
    if not 0 < timeout < 1e7:
        raise ValueError(f"agent {chosen}: timeout={timeout}: seconds, more than 0")
    signature = Signature(function, given=Context, bytes_max=bytes_max)
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
    return Agent(chosen, function, signature, tuple(capabilities), timeout, retry, is_async)
