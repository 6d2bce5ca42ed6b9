"""The headers of the protocol by which agents are reached over HTTP, for both of its ends.

Must not know connections. Ids may hold any text (a call's key is its author's), headers may not: what is not visible
ASCII, and the percent sign, is percent-encoded as UTF-8, so that ordinary ids go as they are.
"""

from __future__ import annotations

import hashlib
from urllib.parse import quote, unquote

from pointsman.agents.context import Context

IDEMPOTENCY_KEY = "Idempotency-Key"
RUN = "Pointsman-Run"
CALL = "Pointsman-Call"
ATTEMPT = "Pointsman-Attempt"
EPOCH = "Pointsman-Epoch"
TENANT = "Pointsman-Tenant"
DEADLINE = "Pointsman-Deadline"
CALLBACK = "Pointsman-Callback"
TRACEPARENT = "traceparent"
SPENT = "Pointsman-Spent"
RETRY_AFTER = "Retry-After"

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
OUTCOME_JSON = "application/vnd.pointsman.outcome.v1+json"
"""A result together with the events that the agent emitted."""

_VISIBLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")


def encoded(text: str) -> str:
    """An id as a header carries it."""
    return quote(text, safe=_VISIBLE)


def decoded(text: str) -> str:
    """The id that a header carries."""
    return unquote(text)


def request_headers(context: Context, *, left_ms: int, callback: str | None, token: str | None) -> dict[str, str]:
    """What an attempt says of itself. `left_ms`: until nobody waits for it any more; a duration, for no two
    clocks agree."""
    headers = {
        "Content-Type": JSON,
        "Accept": f"{JSON}, {OUTCOME_JSON}, {PROBLEM_JSON}",
        "Accept-Encoding": "identity",
        IDEMPOTENCY_KEY: encoded(context.idempotency_key),
        RUN: encoded(context.run),
        CALL: encoded(context.call),
        ATTEMPT: str(context.attempt),
        EPOCH: str(context.epoch),
        TENANT: encoded(context.tenant),
        DEADLINE: str(left_ms),
        TRACEPARENT: traceparent(context),
    }
    if callback is not None:
        headers[CALLBACK] = callback
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return headers


def traceparent(context: Context) -> str:
    """W3C trace context, level 1. The trace is the run's and the span the attempt's, both derived and not drawn: so the
    attempts that a second coordinator makes after a failover are in the trace of the first."""
    trace = hashlib.sha256(f"pointsman trace\0{context.run}".encode()).hexdigest()[:32]
    span = hashlib.sha256(f"pointsman span\0{context.idempotency_key}\0{context.attempt}".encode()).hexdigest()[:16]
    return f"00-{trace}-{span}-01"
