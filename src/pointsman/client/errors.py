"""What goes wrong when the API is used: its problems by their codes, and what the client itself finds.

PointsmanError (kernel)
├── UnknownRun, RunConflict, RunEnded, …   what the API raised, again: the class that has the problem's code
└── ClientError
    ├── InvalidArgument      an address or a name that can't be used
    ├── Unreachable          nobody answered
    ├── DeadlinePassed       the run had not ended by then
    ├── RunNotCompleted      it failed or was cancelled: there is no result
    ├── RunHeldBack          nobody drives it until somebody does something about it
    └── Refused              a problem whose code this release has no class for
"""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from pointsman.agents import addresses, schema
from pointsman.api import errors as api_errors
from pointsman.kernel import errors as kernel_errors
from pointsman.kernel.errors import PointsmanError
from pointsman.kernel.events import Failure
from pointsman.ports import agents


class ClientError(PointsmanError):
    """The client can't do what was asked."""

    code = "client_error"


class InvalidArgument(ClientError):
    """An argument of the client can't be used; the message says which."""

    code = "invalid_argument"


class Unreachable(ClientError):
    """No answer: the API can't be reached, or the connection broke. What was asked may have been done."""

    code = "unreachable"
    status = 503
    retryable = True


class DeadlinePassed(ClientError):
    """The deadline passed first; the run goes on."""

    code = "timeout"
    status = 504
    retryable = True


class RunNotCompleted(ClientError):
    """The run has ended without a result.

    Attributes:
        run_status: `failed` or `cancelled`.
        failure: why it failed; None when it was cancelled.
    """

    def __init__(self, run: str, status: str, failure: Failure | None) -> None:
        why = "" if failure is None else f": {failure.kind}: {failure.message}"
        super().__init__(f"run {run} {'failed' if status == 'failed' else 'was ' + status}{why}")
        self.code = f"run_{status}"
        self.run_status = status
        self.failure = failure


class RunHeldBack(ClientError):
    """Nobody drives the run until somebody does something about it.

    Attributes:
        run_status: `stopped`: deploy code that fits its log. `quarantined`: mend what is wrong, and release it.
    """

    def __init__(self, run: str, status: str) -> None:
        what = "deploy code that fits its log" if status == "stopped" else "mend what is wrong, and release it"
        super().__init__(f"run {run} is {status}: {what}, and it goes on")
        self.code = f"run_{status}"
        self.run_status = status


class Refused(ClientError):
    """The API answered with a problem that this release has no name for; `code` and `status` are the problem's."""

    def __init__(self, message: str, *, code: str, status: int) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.retryable = status == 503


def _named() -> dict[str, type[PointsmanError]]:
    """The errors that an API raises, by code. Those that are more than a message have no place here."""
    found: dict[str, type[PointsmanError]] = {}
    for module in (api_errors, agents, addresses, schema, kernel_errors):
        for kind in vars(module).values():
            if inspect.isclass(kind) and issubclass(kind, PointsmanError) and kind.__init__ is PointsmanError.__init__:
                found[kind.code] = kind
    return found


NAMED = _named()


def from_answer(url: str, status: int, body: bytes) -> PointsmanError:
    """The error that an answer with this status stands for."""
    try:
        problem: Any = msgspec.json.decode(body)
    except msgspec.MsgspecError:
        problem = None
    if not isinstance(problem, dict) or not isinstance(problem.get("code"), str):
        message = f"{url} answered {status}, but not as Pointsman's API does: check the address"
        return Refused(message, code="not_pointsman", status=status)
    return from_problem(problem, status)


def from_problem(problem: dict[str, Any], status: int) -> PointsmanError:
    """The error with a problem's code and words."""
    message = str(problem.get("detail") or problem.get("title") or "")
    named = NAMED.get(problem["code"])
    if named is None or named.status != status:
        return Refused(message, code=problem["code"], status=status)
    return named(message)
