"""A run's own budget: what it still allows, and what a child gets of it."""

from __future__ import annotations

from typing import TypeVar

from pointsman.kernel.errors import InvalidValue
from pointsman.kernel.events import Failure
from pointsman.kernel.policy.amounts import MICROS, Amount, Budget
from pointsman.kernel.state import RunState

Limit = TypeVar("Limit", int | None, float | None)


def refusal(state: RunState, amount: Amount, now: int) -> Failure | None:
    """Why the run's own budget does not allow an attempt that may use up `amount`; None: it does."""
    budget = state.budget
    if budget is None:
        return None
    if budget.seconds is not None and now - state.started_at >= budget.seconds * 1000:
        return _exceeded(f"the run's budget of {budget.seconds:g} s is over")
    free = state.free()
    for part, wanted, left, limit in (
        ("usd", amount.usd_micros / MICROS, free.usd_micros / MICROS, budget.usd),
        ("tokens", amount.tokens, free.tokens, budget.tokens),
        ("calls", amount.calls, free.calls, budget.calls),
    ):
        if limit is not None and wanted > left:
            return _exceeded(f"the attempt may use up {wanted:g} {part}; the run has {left:g} of {limit:g} left")
    return None


def _exceeded(message: str) -> Failure:
    return Failure("budget_exceeded", message, retryable=False)


def seconds_left(state: RunState, now: int) -> float | None:
    """Of the run's wall time; None: not limited."""
    if state.budget is None or state.budget.seconds is None:
        return None
    return state.budget.seconds - (now - state.started_at) / 1000


def allowance(state: RunState, asked: Budget | None, declared: Budget | None, given: Amount) -> Budget | None:
    """The budget of a child. It comes out of its parent's: what the body asked for, or half of what is left, so that
    the parent and other children can go on too. What the child does not use up comes back.

    Args:
        declared: what the child's workflow says; without `asked`, the child gets no more than that.
        given: what was given to children, and the state does not know of yet.

    Raises:
        InvalidValue: more than is left.
    """
    if asked is None and declared is not None:
        got = _part(state, None, given) or Budget()
        return Budget(
            usd=_least(got.usd, declared.usd), tokens=_least(got.tokens, declared.tokens),
            calls=_least(got.calls, declared.calls), seconds=_least(got.seconds, declared.seconds),
        )  # fmt: skip
    return _part(state, asked, given)


def _least(one: Limit, other: Limit) -> Limit:
    return other if one is None else one if other is None else min(one, other)


def _part(state: RunState, asked: Budget | None, given: Amount) -> Budget | None:
    budget = state.budget
    if asked is not None and asked.per is not None:
        raise InvalidValue("a run's budget has no window (per=)")
    if budget is None:
        return asked
    free, seconds = state.free() - given, seconds_left(state, state.last_at)
    if asked is None:
        return Budget(
            usd=None if budget.usd is None else free.usd_micros // 2 / MICROS,
            tokens=None if budget.tokens is None else free.tokens // 2,
            calls=None if budget.calls is None else free.calls // 2,
            seconds=None if seconds is None else max(seconds, 0.0),
        )
    bounded = Budget(
        usd=asked.usd if asked.usd is not None or budget.usd is None else free.usd_micros // 2 / MICROS,
        tokens=asked.tokens if asked.tokens is not None or budget.tokens is None else free.tokens // 2,
        calls=asked.calls if asked.calls is not None or budget.calls is None else free.calls // 2,
        seconds=asked.seconds if seconds is None else min(max(seconds, 0.0), asked.seconds or seconds),
    )
    if not budget.share(bounded).fits(free):
        raise InvalidValue(f"a child can't be given {asked}: its run has {free} left")
    return bounded
