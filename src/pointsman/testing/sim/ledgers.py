"""Shared budgets, counted again: from the runs' logs, and from the budgets' streams, without the code that keeps them.

In the streams: at every grant, what is settled and out in its window is within the limit; a tranche is granted once and
settled once. In the logs: what the attempts of a window used up, in full where their end is unknown, is within the
limit. Between the two: a settled tranche counts exactly the attempts that name it, and no other may name it later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from pointsman.kernel import events as ev
from pointsman.kernel.policy import budget as ledgers
from pointsman.kernel.policy.amounts import NOTHING, Amount, Budget
from pointsman.kernel.upcast import read_event

GRANT_NEEDED = (ledgers.TrancheReduced, ledgers.TrancheSettled)
PAST = -1
"""A window that ended before the length of windows was changed."""

Rows = Mapping[str, Sequence[ev.Recorded]]


class Use(msgspec.Struct):
    """One attempt's reservation. `spent`: None while its end is not known."""

    run: str
    call: str
    amount: Amount
    spent: Amount | None = None


class Account(msgspec.Struct):
    """One tranche, as its stream has it. `window`: in which it counts by now; `granted`: the budget and the window
    under which it was granted."""

    scope: str
    amount: Amount
    window: int
    granted: tuple[int, int]
    settled: Amount | None = None


def budget_violations(streams: Rows, budgets: Rows, *, is_over: bool = False) -> Iterator[str]:
    """Args: streams: of runs, by id. budgets: the streams of budgets, whole, by name. is_over: everything has
    ended, and every tranche should have come back."""
    uses: dict[str, list[Use]] = defaultdict(list)
    for run, rows in streams.items():
        for tranche, use in uses_of(run, rows):
            uses[tranche].append(use)
    known: set[str] = set()
    for scope, rows in budgets.items():
        accounts: dict[str, Account] = {}
        limits: list[Budget] = []
        yield from _read_stream(scope, rows, accounts, limits)
        known |= accounts.keys()
        yield from _counted_once(accounts, uses)
        yield from _within_limit(scope, accounts, uses, limits)
        if is_over:
            yield from (f"{scope}: tranche {name} never came back" for name, a in accounts.items() if a.settled is None)
    for tranche in sorted(uses.keys() - known):
        yield f"{uses[tranche][0].run}: {uses[tranche][0].call} spends from tranche {tranche}, which no budget granted"


def uses_of(run: str, rows: Sequence[ev.Recorded]) -> Iterator[tuple[str, Use]]:
    """Each reservation in a run's log, once for each tranche that it names."""
    latest: dict[str, list[Use]] = {}
    for row in rows:
        event = read_event(row)
        if isinstance(event, ev.CallReserved):
            _close(latest.pop(event.call, ()), None)
            latest[event.call] = []
            for tranche in event.tranches:
                use = Use(run, event.call, _with_call(event.amount))
                latest[event.call].append(use)
                yield tranche, use
        elif isinstance(event, ev.CallCompleted | ev.CallFailed | ev.AttemptFailed):
            _close(latest.pop(event.call, ()), event.spent)
        elif isinstance(event, ev.CallSkipped | ev.CallCancelled | ev.HumanTaskAnswered | ev.HumanTaskExpired):
            _close(latest.pop(event.call, ()), None)
        elif isinstance(event, ev.TERMINAL):
            for open_uses in latest.values():
                _close(open_uses, None)
            latest.clear()


def _close(uses: Sequence[Use], spent: Amount | None) -> None:
    for use in uses:
        use.spent = use.amount if spent is None else _with_call(spent)


def _with_call(amount: Amount) -> Amount:
    return Amount(amount.usd_micros, amount.tokens, max(amount.calls, 1))


def _read_stream(
    scope: str, rows: Sequence[ev.Recorded], accounts: dict[str, Account], limits: list[Budget]
) -> Iterator[str]:
    """Fill in `accounts` and `limits` from a budget's stream."""
    for row in rows:
        event = ledgers.read_ledger_event(row)
        if isinstance(event, ledgers.BudgetSet):
            if limits and limits[-1].per != event.budget.per:
                latest = max((account.window for account in accounts.values()), default=0)
                for account in accounts.values():
                    is_counted = account.settled is None or account.window == latest
                    account.window = event.window if is_counted else PAST
            limits.append(event.budget)
        elif isinstance(event, ledgers.TrancheGranted):
            if event.tranche in accounts:
                yield f"{scope}: tranche {event.tranche} was granted twice"
            accounts[event.tranche] = Account(scope, event.amount, event.window, (len(limits), event.window))
            in_window = [account for account in accounts.values() if account.window == event.window]
            out = sum((a.amount if a.settled is None else a.settled for a in in_window), NOTHING)
            if not limits[-1].limited(out).fits(limits[-1].limit):
                yield f"{scope}: with tranche {event.tranche}, {out} is out in window {event.window}: {limits[-1]}"
        elif isinstance(event, GRANT_NEEDED) and event.tranche not in accounts:
            yield f"{scope}: tranche {event.tranche} was reduced or settled, and never granted"
        elif isinstance(event, ledgers.TrancheReduced):
            accounts[event.tranche].amount = event.amount
        elif isinstance(event, ledgers.TrancheSettled):
            if accounts[event.tranche].settled is not None:
                yield f"{scope}: tranche {event.tranche} was settled twice"
            accounts[event.tranche].settled = event.spent


def _counted_once(accounts: Mapping[str, Account], uses: Mapping[str, Sequence[Use]]) -> Iterator[str]:
    for tranche, account in accounts.items():
        named = uses.get(tranche, ())
        if account.settled is None:
            continue
        still_open = [use for use in named if use.spent is None]
        if still_open:
            yield f"{account.scope}: tranche {tranche} was settled, and {still_open[0].call} has no end"
        spent = sum((use.amount if use.spent is None else use.spent for use in named), NOTHING)
        if spent != account.settled:
            yield f"{account.scope}: tranche {tranche} was settled as {account.settled}; the logs say {spent}"


def _within_limit(
    scope: str, accounts: Mapping[str, Account], uses: Mapping[str, Sequence[Use]], limits: Sequence[Budget]
) -> Iterator[str]:
    """An agent that spends more than was reserved for it breaks its own word: it counts for what was reserved.

    What an operator carries over into windows of another length was used in two of the old ones, maybe: together that
    is above the limit of one. It counts where it was granted, and holds back what is granted next (`_read_stream`).
    """
    used: dict[tuple[int, int], Amount] = defaultdict(Amount)
    for tranche, account in accounts.items():
        for use in uses.get(tranche, ()):
            used[account.granted] += use.amount if use.spent is None else _smaller(use.spent, use.amount)
    for (_, window), amount in used.items():
        if not any(budget.limited(amount).fits(budget.limit) for budget in limits):
            yield f"{scope}: {amount} was used in window {window}, and the limit is {limits[-1:]}"


def _smaller(one: Amount, other: Amount) -> Amount:
    return Amount(min(one.usd_micros, other.usd_micros), min(one.tokens, other.tokens), min(one.calls, other.calls))
