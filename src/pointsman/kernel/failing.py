"""What follows a failure of a call, as events in their order: a retry, the next agent, a person, the default, or the
end of the call. Pure: asked by `execution.py`, which records it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pointsman.kernel import chain, entropy
from pointsman.kernel import events as ev
from pointsman.kernel.policy.amounts import Amount
from pointsman.kernel.policy.failures import FAILURE_KINDS
from pointsman.kernel.policy.retry import next_delay_ms
from pointsman.kernel.program import AgentSpec, Directory
from pointsman.kernel.state import PendingCall


def after_attempt(
    pending: PendingCall, failure: ev.Failure, spent: Amount | None, directory: Directory, seed: str, now: int,
    may_retry: Callable[[], bool],
) -> tuple[ev.Event, ...]:  # fmt: skip
    """The attempt under way failed, having used up `spent`. `may_retry` is asked before a retry only."""
    call, attempt = pending.call, pending.attempt
    agent = directory.agent(pending.target)
    must_stop = _may_have_happened(agent, failure)
    delay: int | None = None
    step: ev.Note | None = None
    if agent is not None and not must_stop:
        noise = entropy.random_float(seed, f"retry/{call}/{attempt}")
        delay = next_delay_ms(agent.retry, attempt - pending.first_attempt + 1, failure, noise)
    if delay is not None and not may_retry():
        why = ev.Failure("retry_budget_spent", f"{failure.kind}: {failure.message}", retryable=False)
        step = chain.next_agent(pending, why, directory, attempt=attempt + 1, now=now)
    if delay is not None and step is None:  # without another agent it waits until the retry budget allows it
        return (ev.AttemptFailed(call=call, attempt=attempt, failure=failure, retry_at=now + delay, spent=spent),)
    if step is None and not must_stop:
        step = chain.next_agent(pending, failure, directory, attempt=attempt + 1, now=now)
    step = step or chain.ask_person(pending, failure)
    if step is None and not pending.options.default:
        return (ev.CallFailed(call=call, failure=failure, attempt=attempt, spent=spent),)
    failed = ev.AttemptFailed(call=call, attempt=attempt, failure=failure, spent=spent)
    return (failed, step if step is not None else _skipped(pending, failure))


def without_agent(pending: PendingCall, failure: ev.Failure) -> ev.Event:
    """No agent can take the call: a person, the default, or failure."""
    step = chain.ask_person(pending, failure)
    if step is not None:
        return step
    if pending.options.default:
        return _skipped(pending, failure)
    return ev.CallFailed(call=pending.call, failure=failure, attempt=pending.attempt)


def _skipped(pending: PendingCall, failure: ev.Failure) -> ev.CallSkipped:
    return ev.CallSkipped(call=pending.call, output=msgspec.Raw(pending.options.default), failure=failure)


def _may_have_happened(agent: AgentSpec | None, failure: ev.Failure) -> bool:
    """An attempt of an agent that is not safe to call twice, whose end is unknown."""
    kind = FAILURE_KINDS.get(failure.kind)
    return agent is not None and not agent.idempotent and kind is not None and kind.is_unknown
