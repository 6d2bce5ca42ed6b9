"""The ledger of one budget that many runs share: its events, its state, and the decisions on it.

The invariant: in each window of time, settled amounts and outstanding tranches together never exceed the limit. A
tranche is what one coordinator may spend without asking again; it belongs to the window in which it was granted,
whenever it is settled. So one append serves many calls, and a coordinator that dies ties up at most its tranches, until
they are settled from the runs' logs.

Pure: `now_ms` is an argument (ms, the database's clock). If an agent spends more than was reserved for it, what it
spent counts, and nothing more is granted until that fits the limit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from pointsman.kernel.errors import UnknownEvent
from pointsman.kernel.events import Event, Recorded
from pointsman.kernel.policy.amounts import NOTHING, Amount, Budget

DECLARED = "declaration"
"""`by` of a budget that is declared in code (an agent's card, the settings), and not set by an operator."""
PART_OF_FREE = 4
"""A tranche takes at most one of this many parts of what is free, so that no coordinator gets the last of a budget."""


class BudgetSet(Event, frozen=True):
    """The limit from now on. `window`: the number of the window under this limit. If `per` changes, earlier numbers of
    windows lose their meaning, and outstanding tranches count in this one.
    """

    budget: Budget
    by: str
    window: int


class TrancheGranted(Event, frozen=True):
    """A tranche was granted. `amount` holds only what the budget limits."""

    tranche: str
    incarnation: int
    amount: Amount
    window: int


class TrancheReduced(Event, frozen=True):
    """The holder of a tranche gave back what it does not need; `amount` is what it keeps, spent or reserved."""

    tranche: str
    amount: Amount


class TrancheSettled(Event, frozen=True):
    """All reservations from a tranche have ended, and used up `spent`. The rest is free again."""

    tranche: str
    spent: Amount


LEDGER_EVENTS: dict[str, type[Event]] = {
    cls.__name__: cls for cls in (BudgetSet, TrancheGranted, TrancheReduced, TrancheSettled)
}


class Tranche(msgspec.Struct, frozen=True):
    incarnation: int
    amount: Amount
    window: int


class LedgerState(msgspec.Struct, frozen=True):
    """The state of a ledger.

    Attributes:
        by: who set the budget; empty: nobody has yet, and there is no limit.
        window: the latest window in which something was granted.
        settled: what was certainly spent in it.
        tranches: the outstanding tranches, of this window and of earlier ones.
    """

    budget: Budget = Budget()
    by: str = ""
    window: int = 0
    settled: Amount = NOTHING
    tranches: dict[str, Tranche] = {}

    def window_at(self, now_ms: int) -> int:
        """The window of `now_ms`; never an earlier one than before, whatever a coordinator's clock says."""
        return max(self.window, window_of(self.budget, now_ms))

    def settled_at(self, now_ms: int) -> Amount:
        return self.settled if self.window_at(now_ms) == self.window else NOTHING

    def out_at(self, now_ms: int) -> Amount:
        """The total of the outstanding tranches of the window of `now_ms`."""
        window, out = self.window_at(now_ms), NOTHING
        for tranche in self.tranches.values():
            if tranche.window == window:
                out += tranche.amount
        return out

    def free_at(self, now_ms: int) -> Amount:
        """What may still be granted; a part is negative if its limit was lowered or overspent."""
        return self.budget.limit - self.settled_at(now_ms) - self.out_at(now_ms)


def window_of(budget: Budget, now_ms: int) -> int:
    return 0 if budget.per is None else now_ms // _per_ms(budget.per)


def window_end_ms(budget: Budget, window: int) -> int | None:
    """The end of a window; None: it never ends."""
    return None if budget.per is None else (window + 1) * _per_ms(budget.per)


def is_limit(budget: Budget) -> bool:
    return budget.usd is not None or budget.tokens is not None or budget.calls is not None


def check_shared(budget: Budget) -> None:
    """Check a budget that many runs share. Raises ValueError: it has something that a shared budget can't have."""
    if budget.seconds is not None:
        raise ValueError("Budget(seconds=) is wall time of one run; a shared budget has a window: per=")
    if budget.per is not None and budget.per < 1:
        raise ValueError(f"Budget(per={budget.per}): a window of at least 1 second, or None for no window")


def attempt_of(amount: Amount) -> Amount:
    """What one attempt counts: at least one call, whatever else it used up."""
    return amount if amount.calls else Amount(amount.usd_micros, amount.tokens, 1)


# -- decisions -------------------------------------------------------------------------------------------------------


def set_budget(state: LedgerState, budget: Budget, by: str, now_ms: int) -> BudgetSet:
    """Set or change the budget. Raises ValueError: it can't be shared."""
    check_shared(budget)
    kept = state.window if budget.per == state.budget.per else 0
    return BudgetSet(budget, by, max(kept, window_of(budget, now_ms)))


def grant(
    state: LedgerState, tranche: str, incarnation: int, least: Amount, wish: Amount, now_ms: int
) -> TrancheGranted | Amount:
    """Grant a tranche: at least `least` and, while much is free, `wish`. If less than `least` is free, return what is
    free instead.
    """
    free, need = state.free_at(now_ms), state.budget.limited(least)
    if not need.fits(free):
        return free
    amount = state.budget.limited(
        Amount(
            max(need.usd_micros, min(wish.usd_micros, free.usd_micros // PART_OF_FREE)),
            max(need.tokens, min(wish.tokens, free.tokens // PART_OF_FREE)),
            max(need.calls, min(wish.calls, free.calls // PART_OF_FREE)),
        )
    )
    return TrancheGranted(tranche, incarnation, amount, state.window_at(now_ms))


def reduce(state: LedgerState, tranche: str, amount: Amount) -> TrancheReduced | None:
    """Reduce a tranche to `amount`. None: it is settled, or already no larger than that."""
    held = state.tranches.get(tranche)
    kept = state.budget.limited(amount)
    if held is None or kept == held.amount or not kept.fits(held.amount):
        return None
    return TrancheReduced(tranche, kept)


def settle(state: LedgerState, tranche: str, spent: Amount) -> TrancheSettled | None:
    """Settle a tranche. None: it is settled already; so a tranche counts once."""
    return TrancheSettled(tranche, spent) if tranche in state.tranches else None


# -- folding ---------------------------------------------------------------------------------------------------------


def evolve(state: LedgerState, event: Event) -> LedgerState:
    return _FOLDS[type(event)](state, event)


def _set(state: LedgerState, event: BudgetSet) -> LedgerState:
    if event.budget.per == state.budget.per:
        return msgspec.structs.replace(state, budget=event.budget, by=event.by)
    tranches = {name: msgspec.structs.replace(tranche, window=event.window) for name, tranche in state.tranches.items()}
    return LedgerState(event.budget, event.by, event.window, state.settled, tranches)


def _granted(state: LedgerState, event: TrancheGranted) -> LedgerState:
    tranches = state.tranches | {event.tranche: Tranche(event.incarnation, event.amount, event.window)}
    settled = state.settled if event.window == state.window else NOTHING
    return msgspec.structs.replace(state, window=event.window, settled=settled, tranches=tranches)


def _reduced(state: LedgerState, event: TrancheReduced) -> LedgerState:
    reduced = msgspec.structs.replace(state.tranches[event.tranche], amount=event.amount)
    return msgspec.structs.replace(state, tranches=state.tranches | {event.tranche: reduced})


def _settled(state: LedgerState, event: TrancheSettled) -> LedgerState:
    tranches = dict(state.tranches)
    over = tranches.pop(event.tranche)
    settled = state.settled + event.spent if over.window == state.window else state.settled
    return msgspec.structs.replace(state, settled=settled, tranches=tranches)


_FOLDS: dict[type[Event], Callable[[LedgerState, Any], LedgerState]] = {
    BudgetSet: _set,
    TrancheGranted: _granted,
    TrancheReduced: _reduced,
    TrancheSettled: _settled,
}


def read_ledger_event(recorded: Recorded) -> Event:
    """Decode an event of a ledger. Raises UnknownEvent: this release does not know the type or version, or the body
    does not fit it.
    """
    kind = LEDGER_EVENTS.get(recorded.type)
    if kind is None or recorded.version != kind.VERSION:
        raise UnknownEvent(
            f"event {recorded.sequence} of a budget is a {recorded.type} v{recorded.version}, which this release does "
            "not know: deploy a newer release of Pointsman"
        )
    try:
        return msgspec.json.decode(recorded.body, type=kind)
    except msgspec.MsgspecError as error:
        raise UnknownEvent(f"event {recorded.sequence} of a budget is not a {recorded.type}: {error}") from error


def _per_ms(per: float) -> int:
    return max(round(per * 1000), 1)
