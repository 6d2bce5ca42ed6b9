"""The failure chain of a call, as a person reads it: each step changes the call's span, and says in a sentence what
happened, why, and who has the call next.

Pure. A step that is worth no row of its own says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pointsman.cli.runs.costs import amount_text
from pointsman.cli.runs.timeline import Attempt, Failure, Span, failure_text

Data = Mapping[str, Any]
Step = Callable[[Span, Data, int], tuple[str, str] | None]
"""(span, the event's data, ms) -> the kind of a mark and its text."""

BEFORE_AN_ATTEMPT = frozenset({"disabled", "departed", "unhealthy", "breaker_open", "busy", "budget_exceeded"})
"""Kinds of failure that hold a call back: no attempt was made."""


def drop_unmade(span: Span, failure: Failure) -> bool:
    """The attempt that was to be made next was not: it uses up none. False: it was made, or is over."""
    if span.attempts and span.attempts[-1].end is None and failure.get("kind") in BEFORE_AN_ATTEMPT:
        span.attempts.pop()
        return True
    return False


def _attempt_failed(span: Span, data: Data, at: int) -> None:
    span.account.settle(data.get("spent"))
    is_last = data.get("retry_at") is None
    for attempt in span.attempts[-1:]:
        attempt.end, attempt.failure, attempt.is_held, attempt.is_told = at, data["failure"], False, is_last
    if not is_last:
        span.outcome = "waits to try again"


def _retried(span: Span, _data: Data, at: int) -> None:
    span.outcome = "pending"
    span.attempts.append(Attempt(at))


def _reassigned(span: Span, data: Data, at: int) -> tuple[str, str]:
    before, failure = span.holder, data["failure"]
    verb = "can't take it" if drop_unmade(span, failure) else "failed"
    span.chain.append(data["agent"])
    span.attempts.append(Attempt(at))
    span.outcome = "pending"
    passed = "".join(f"; passed over {said}" for said in data.get("passed_over", ()))
    return "next", f"{data['agent']} gets it: {before} {verb}: {failure_text(failure)}{passed}"


def _held(span: Span, data: Data, _at: int) -> tuple[str, str]:
    for attempt in span.attempts[-1:]:
        attempt.is_held = True
    span.outcome = "held back"
    return "held", f"waits for {span.holder}, no try used up: {failure_text(data['failure'])}"


def _reserved(span: Span, data: Data, at: int) -> None:
    span.account.reserve(data["amount"])
    _admitted(span, data, at)


def _admitted(span: Span, _data: Data, at: int) -> None:
    """The last word before an attempt that waited is made."""
    for attempt in span.attempts[-1:]:
        if attempt.is_held:
            attempt.start, attempt.is_held, span.outcome = at, False, "pending"


def _overspent(_span: Span, data: Data, _at: int) -> tuple[str, str]:
    spent, most = amount_text(data["spent"]), amount_text(data["reserved"])
    return "overspent", f"{data['agent']} spent {spent}; the most that its card says is {most}"


def _person_asked(span: Span, data: Data, at: int) -> tuple[str, str]:
    before, failure = span.holder, data["failure"]
    verb = "can't take it" if drop_unmade(span, failure) else "failed"
    span.with_person, span.outcome = at, "with a person"
    why = f"{before} {verb}, and there is no other agent: {failure_text(failure)}"
    return "person", f"a person is asked “{data['question']}” (pointsman inbox show {data['task']}): {why}"


def _assigned(span: Span, data: Data, _at: int) -> tuple[str, str]:
    span.chain.append(data.get("assignee") or "anybody")
    return "person", f"{data['by']} gave the question to {span.holder}"


def _escalated(span: Span, data: Data, _at: int) -> tuple[str, str]:
    span.chain.append(data["assignee"])
    return "person", f"{data['before'] or 'nobody'} did not answer in time: {span.holder} is asked instead"


def _effect(_span: Span, data: Data, _at: int) -> tuple[str, str]:
    return "effect", f"“{data['name']}” is done and recorded: no retry repeats it"


STEPS: dict[str, Step] = {
    "AttemptFailed": _attempt_failed,
    "CallRetried": _retried,
    "CallReassigned": _reassigned,
    "CallHeld": _held,
    "CallAdmitted": _admitted,
    "CallReserved": _reserved,
    "CallOverspent": _overspent,
    "HumanTaskOpened": _person_asked,
    "HumanTaskAssigned": _assigned,
    "HumanTaskEscalated": _escalated,
    "EffectRecorded": _effect,
}
