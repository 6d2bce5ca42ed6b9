"""The kinds of failure that the runtime itself tells apart, each with its default policy.

An agent may name kinds of its own (`AgentError(kind=...)`, or `failures=` on its card); those say themselves whether
a retry would help, and count as the agent's own trouble for its breaker.
"""

from __future__ import annotations

import msgspec


class FailureKind(msgspec.Struct, frozen=True):
    """Attributes:
    retryable: would the same agent, called again with the same input, perhaps succeed?
    counts: does it speak against the agent's health (breaker)?
    is_unknown: may the attempt have had its effects all the same?
    """

    name: str
    meaning: str
    retryable: bool
    counts: bool
    is_unknown: bool = False


FAILURE_KINDS: dict[str, FailureKind] = {
    kind.name: kind
    for kind in (
        FailureKind("timeout", "no result within the agent's timeout", True, True, True),
        FailureKind("heartbeat_timeout", "no heartbeat within the agent's limit", True, True, True),
        FailureKind("exception", "the agent crashed", True, True),
        FailureKind("cancelled", "the agent cancelled itself", True, True),
        FailureKind("unreachable", "no connection to the agent", True, True),
        FailureKind("connection_lost", "the connection broke after the request was sent", True, True, True),
        FailureKind("malformed_output", "the result is not JSON", True, True),
        FailureKind("invalid_output", "the result does not fit the declared schema", True, True),
        FailureKind("output_too_large", "the result is over the size limit", False, False),
        FailureKind("invalid_input", "the input does not fit the agent's schema", False, False),
        FailureKind("context_overflow", "the input is more than the agent's context can hold", False, False),
        FailureKind("refused", "the agent declined to do it", False, False),
        FailureKind("rate_limited", "the agent asks for fewer calls; Retry-After is honoured", True, False),
        FailureKind("overloaded", "the agent has no room; Retry-After is honoured", True, True),
        FailureKind("worker_lost", "its worker died or fell silent", True, True, True),
        FailureKind("no_worker", "no worker took it in time", False, False),
        FailureKind("attempt_lost", "its coordinator died, and it must not be repeated", False, False, True),
        FailureKind("unknown_agent", "no agent has this name", False, False),
        # What is held back before an attempt; it consumes none.
        FailureKind("disabled", "an operator has switched the agent off", False, False),
        FailureKind("departed", "the agent has left, or did not renew its registration", False, False),
        FailureKind("unhealthy", "the agent fails its health check", False, False),
        FailureKind("breaker_open", "the agent's circuit breaker is open", False, False),
        FailureKind("busy", "the agent's concurrency or rate limit is reached", False, False),
        FailureKind("budget_exceeded", "a budget does not allow what the attempt may cost", False, False),
        FailureKind("retry_budget_spent", "too many retries of this agent already: no storm", False, False),
        FailureKind("not_answered", "the person who was asked refused", False, False),
        FailureKind("expired", "nobody answered within the time that the workflow gave", False, False),
    )
}  # fmt: skip


def counts_against(kind: str) -> bool:
    """Does a failure of this kind speak against the agent's health?"""
    known = FAILURE_KINDS.get(kind)
    return known is None or known.counts
