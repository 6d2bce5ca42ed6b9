"""What an agent's HTTP response means: a result that fits its schema, or a failure of a named kind.

Must not know connections. The table is part of the protocol: `docs/howto/http-agents.md` has it for people.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import msgspec

from pointsman.agents.agent import AgentError, AgentSignature
from pointsman.agents.context import Context
from pointsman.kernel.errors import InvalidInput, InvalidValue, ValueTooLarge
from pointsman.kernel.events import Emission
from pointsman.kernel.policy.amounts import COUNT_MAX, MICROS
from pointsman.kernel.policy.failures import FAILURE_KINDS
from pointsman.kernel.policy.retry import SECONDS_MAX
from pointsman.kernel.values import decode, encode, faithful
from pointsman.transports import http_headers as names

PROBLEM_BYTES_MAX = 65_536
"""Of a failure's body so much is read."""
DETAIL_CHARS_MAX = 1_000
_API_PROBLEM = "urn:pointsman:problem:"
"""A problem of HTTP itself, as our own server states it before an agent is reached: its code is no kind of failure."""
_KIND = re.compile(r"[a-z][a-z0-9_]{0,63}")

KIND_OF_STATUS = {
    400: "invalid_input",
    408: "overloaded",
    413: "context_overflow",
    422: "invalid_input",
    425: "overloaded",
    429: "rate_limited",
    503: "overloaded",
}
"""Other statuses: 3xx and 4xx are `refused`, 5xx are `exception`."""

SAYABLE = frozenset(
    (
        "exception", "cancelled", "malformed_output", "invalid_output", "output_too_large", "invalid_input",
        "context_overflow", "refused", "rate_limited", "overloaded",
    )
)  # fmt: skip
"""Those of the runtime's kinds that an agent may claim. The others are the runtime's own findings: an agent that says
`budget_exceeded` would be taken for a budget."""

logger = logging.getLogger("pointsman.transports.http")


class _Problem(msgspec.Struct):
    """What is read of Problem Details (RFC 9457). Any member may be missing, or of any type."""

    type: Any = None
    code: Any = None
    detail: Any = None
    retryable: Any = None


class _Outcome(msgspec.Struct, forbid_unknown_fields=True):
    result: msgspec.Raw = msgspec.Raw(b"null")
    emitted: list[Emission] = []


class _Spent(msgspec.Struct, forbid_unknown_fields=True):
    usd: float = 0.0
    tokens: int = 0


_problem_decoder = msgspec.json.Decoder(_Problem)
_outcome_decoder = msgspec.json.Decoder(_Outcome)
_spent_decoder = msgspec.json.Decoder(_Spent)


def read_result(body: bytes, signature: AgentSignature, *, bytes_max: int) -> bytes:
    """The canonical JSON of a result.

    Raises:
        AgentError: malformed_output, invalid_output or output_too_large.
    """
    try:
        output = encode(decode(body, bytes_max=bytes_max), bytes_max=bytes_max)
        signature.check_output(output)
    except ValueTooLarge as error:
        raise AgentError(str(error), kind="output_too_large") from error
    except InvalidValue as error:
        # The cause is the parser's; a value that is JSON, but can't be stored faithfully, has none.
        is_json = error.__cause__ is None
        raise AgentError(faithful(error), kind="invalid_output" if is_json else "malformed_output") from error
    except InvalidInput as error:
        raise AgentError(faithful(error), kind="invalid_output") from error
    return output


def read_outcome(body: bytes, headers: Mapping[str, str], context: Context) -> bytes:
    """The result in a response's body, as it came; the events that it has beside it go to the context.

    Raises:
        AgentError: malformed_output or invalid_output.
    """
    if headers.get("Content-Type", "").partition(";")[0].strip().lower() != names.OUTCOME_JSON:
        return body
    try:
        outcome = _outcome_decoder.decode(body)
        for emission in outcome.emitted:
            context.emit(emission.event, decode(bytes(emission.data)))
    except (msgspec.MsgspecError, InvalidValue) as error:
        is_json = isinstance(error, msgspec.ValidationError | InvalidValue)
        kind = "invalid_output" if is_json else "malformed_output"
        raise AgentError(faithful(f"{names.OUTCOME_JSON}: {error}"), kind=kind) from error
    return bytes(outcome.result)


def failure_of(status: int, headers: Mapping[str, str], body: bytes) -> AgentError:
    """The failure that a response other than 2xx is."""
    problem = _read_problem(headers, body)
    kind = KIND_OF_STATUS.get(status, "exception" if status >= 500 else "refused")
    kind = kind_of(problem.code) or kind
    detail = problem.detail if isinstance(problem.detail, str) else ""
    text = f"HTTP {status} {_phrase(status)}".rstrip()
    return AgentError(
        f"{text}: {faithful(detail, DETAIL_CHARS_MAX)}" if detail else text,
        kind=kind,
        retryable=problem.retryable if isinstance(problem.retryable, bool) else None,
        retry_after=retry_after_s(headers),
    )


def kind_of(said: object) -> str | None:
    """The kind that an agent says, if it may say that."""
    if isinstance(said, str) and _KIND.fullmatch(said) and (said in SAYABLE or said not in FAILURE_KINDS):
        return said
    return None


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After, which is a number of them or a date; None: none that can be read.

    A date is measured by the agent's own clock, where it says what that shows.
    """
    text = headers.get(names.RETRY_AFTER, "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:18]), SECONDS_MAX)
    at = _http_date(text)
    if at is None:
        return None
    now = _http_date(headers.get("Date", ""))
    return min(max(at - (time.time() if now is None else now), 0.0), SECONDS_MAX)


def report_spending(headers: Mapping[str, str], context: Context) -> None:
    """Pass on what the response says was spent. What can't be read is logged and not counted: the card's cost is
    settled then; the result, which has been paid for, is not thrown away."""
    text = headers.get(names.SPENT)
    if text is None:
        return
    try:
        spent = _spent_decoder.decode(text)
        if not (0 <= spent.usd <= COUNT_MAX / MICROS and 0 <= spent.tokens <= COUNT_MAX):
            raise ValueError(f"usd={spent.usd}, tokens={spent.tokens}")
        context.spend(usd=spent.usd, tokens=spent.tokens)
    except (msgspec.MsgspecError, ValueError) as error:
        logger.warning("call %s: %s can't be read: %s", context.idempotency_key, names.SPENT, faithful(error))


def _read_problem(headers: Mapping[str, str], body: bytes) -> _Problem:
    """Only of a body that says it is one: many an API has a `code` of its own in its errors."""
    if headers.get("Content-Type", "").partition(";")[0].strip().lower() != names.PROBLEM_JSON:
        return _Problem()
    try:
        problem = _problem_decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _Problem()
    if isinstance(problem.type, str) and problem.type.startswith(_API_PROBLEM):
        problem.code = None
    return problem


def _http_date(text: str) -> float | None:
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
