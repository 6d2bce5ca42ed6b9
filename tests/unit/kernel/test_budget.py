"""The ledger of a shared budget: never above its limit, whatever is granted, given back, settled and set, in any
order."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.kernel.errors import UnknownEvent
from pointsman.kernel.events import Event, Recorded
from pointsman.kernel.policy import budget as ledgers
from pointsman.kernel.policy.amounts import NOTHING, Amount, Budget
from pointsman.kernel.policy.budget import BudgetSet, LedgerState, TrancheGranted, TrancheReduced, TrancheSettled

HOUR_MS = 3_600_000
NOW = 1_700_000_000_000


def state_with(*events: Event) -> LedgerState:
    state = LedgerState()
    for event in events:
        state = ledgers.evolve(state, event)
    return state


def usd(cents: int, calls: int = 0) -> Amount:
    return Amount(usd_micros=cents * 10_000, calls=calls)


def granted(state: LedgerState, tranche: str, least: Amount, wish: Amount = NOTHING, now: int = NOW) -> TrancheGranted:
    result = ledgers.grant(state, tranche, 1, least, wish, now)
    assert isinstance(result, TrancheGranted), result
    return result


amounts = st.builds(Amount, st.integers(0, 300_000), st.integers(0, 30), st.integers(0, 5))
budgets = st.builds(
    Budget,
    usd=st.none() | st.floats(0, 2), tokens=st.none() | st.integers(0, 100), calls=st.none() | st.integers(0, 20),
    per=st.sampled_from((None, 1.0, 60.0)),
)  # fmt: skip
steps = st.lists(
    st.tuples(
        st.sampled_from(("grant", "grant", "reduce", "settle", "set")), amounts, amounts, budgets,
        st.integers(0, 40_000), st.integers(0, 50),
    ),
    max_size=40,
)  # fmt: skip


@given(first=budgets, plan=steps)
def test_never_above_the_limit(first: Budget, plan: list[tuple[str, Amount, Amount, Budget, int, int]]) -> None:
    """Counted beside it, from the events alone: a window's settled and outstanding tranches fit at each grant."""
    now = NOW
    state = state_with(ledgers.set_budget(LedgerState(), first, "test", now))
    windows: dict[str, int] = {}
    counted: dict[str, Amount] = {}
    for number, (what, one, other, budget, passed, choice) in enumerate(plan):
        now += passed
        event: Event | None = None
        out = sorted(state.tranches)
        if what == "grant":
            result = ledgers.grant(state, f"t{number}", 1, one, other, now)
            event = result if isinstance(result, TrancheGranted) else None
        elif what == "set":
            event = ledgers.set_budget(state, budget, "test", now)
        elif out:
            tranche = out[choice % len(out)]
            kept = smaller(one, state.tranches[tranche].amount)
            event = ledgers.reduce(state, tranche, kept) if what == "reduce" else ledgers.settle(state, tranche, kept)
        if event is None:
            continue
        before, state = state, ledgers.evolve(state, event)
        match event:
            case TrancheGranted():
                windows[event.tranche], counted[event.tranche] = event.window, event.amount
                used = sum((counted[name] for name, at in windows.items() if at == event.window), NOTHING)
                assert state.budget.limited(used).fits(state.budget.limit)
                assert state.budget.limited(one).fits(event.amount)
            case TrancheReduced():
                counted[event.tranche] = event.amount
            case TrancheSettled():
                counted[event.tranche] = event.spent
            case BudgetSet() if event.budget.per != before.budget.per:
                # What is out, and what was spent in the window that ends here, counts in the new one.
                counting = {name for name, at in windows.items() if name in before.tranches or at == before.window}
                windows = dict.fromkeys(counting, event.window)
    assert msgspec.json.decode(msgspec.json.encode(state), type=LedgerState) == state


def smaller(one: Amount, other: Amount) -> Amount:
    return Amount(min(one.usd_micros, other.usd_micros), min(one.tokens, other.tokens), min(one.calls, other.calls))


def test_a_tranche_is_what_is_wished_while_much_is_free_and_what_is_needed_at_the_end() -> None:
    state = state_with(BudgetSet(Budget(usd=1.0), "x", 0))
    sizes = []
    for number in range(40):
        result = ledgers.grant(state, f"t{number}", 1, usd(2), usd(20), NOW)
        if isinstance(result, Amount):
            assert not usd(2).fits(result)
            break
        sizes.append(result.amount.usd_micros)
        state = ledgers.evolve(state, result)
    assert sizes[0] == usd(20).usd_micros
    assert sizes[-1] == usd(2).usd_micros
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) > usd(98).usd_micros


def test_only_what_is_limited_is_granted_and_asked_for() -> None:
    state = state_with(BudgetSet(Budget(calls=3), "x", 0))
    event = granted(state, "t", Amount(10**12, 10**12, 1))
    assert event.amount == Amount(calls=1)
    state = state_with(BudgetSet(Budget(calls=3), "x", 0), event, TrancheSettled("t", Amount(5, 6, 1)))
    assert state.settled == Amount(5, 6, 1), "what is not limited is counted all the same, for those who look"
    assert ledgers.grant(state, "u", 1, Amount(calls=3), NOTHING, NOW) == state.free_at(NOW)
    assert state.free_at(NOW).calls == 2


def test_a_window_is_whole_again_and_what_is_late_counts_in_its_own() -> None:
    budget = Budget(usd=1.0, per=3600)
    first = NOW // HOUR_MS
    state = state_with(BudgetSet(budget, "x", first), TrancheGranted("a", 1, usd(60), first))
    state = ledgers.evolve(state, TrancheGranted("b", 1, usd(40), first))
    state = ledgers.evolve(state, TrancheSettled("a", usd(50)))
    assert ledgers.grant(state, "c", 1, usd(11), NOTHING, NOW) == state.free_at(NOW)
    later = granted(state, "c", usd(100), now=NOW + HOUR_MS)
    assert later.window == first + 1
    state = ledgers.evolve(state, later)
    assert state.out_at(NOW + HOUR_MS) == usd(100)
    state = ledgers.evolve(state, TrancheSettled("b", usd(40)))
    assert state.settled == NOTHING, "b belongs to the window before"
    assert ledgers.window_end_ms(budget, first) == (first + 1) * HOUR_MS


def test_a_clock_that_goes_back_never_opens_an_old_window() -> None:
    window = NOW // HOUR_MS
    state = state_with(BudgetSet(Budget(usd=1.0, per=3600), "x", window), TrancheGranted("a", 1, usd(100), window))
    back = ledgers.grant(state, "b", 1, usd(1), NOTHING, NOW - HOUR_MS)
    assert back == state.free_at(NOW - HOUR_MS)
    assert state.free_at(NOW - HOUR_MS).usd_micros == 0


def test_a_limit_lowered_below_what_is_out_grants_nothing_until_it_fits() -> None:
    state = state_with(BudgetSet(Budget(usd=1.0), "x", 0), TrancheGranted("a", 1, usd(50), 0))
    state = ledgers.evolve(state, ledgers.set_budget(state, Budget(usd=0.2), "operator", NOW))
    assert isinstance(ledgers.grant(state, "b", 1, NOTHING, NOTHING, NOW), Amount)
    state = ledgers.evolve(state, TrancheSettled("a", usd(5)))
    assert granted(state, "b", usd(15)).amount == usd(15)


def test_another_window_length_takes_what_is_out_into_the_current_window() -> None:
    state = state_with(BudgetSet(Budget(usd=1.0), "x", 0), TrancheGranted("a", 1, usd(50), 0))
    state = ledgers.evolve(state, TrancheGranted("b", 1, usd(20), 0))
    state = ledgers.evolve(state, TrancheSettled("b", usd(20)))
    state = ledgers.evolve(state, ledgers.set_budget(state, Budget(usd=1.0, per=3600), "x", NOW))
    assert state.out_at(NOW) == usd(50)
    assert state.settled_at(NOW) == usd(20)
    assert isinstance(ledgers.grant(state, "c", 1, usd(31), NOTHING, NOW), Amount)


def test_settling_and_reducing_what_is_settled_is_nothing() -> None:
    state = state_with(BudgetSet(Budget(usd=1.0), "x", 0), TrancheGranted("a", 1, usd(50), 0))
    assert ledgers.reduce(state, "a", usd(60)) is None, "a tranche never grows"
    assert ledgers.reduce(state, "a", usd(50)) is None
    smaller_one = ledgers.reduce(state, "a", usd(10))
    assert smaller_one == TrancheReduced("a", usd(10))
    state = ledgers.evolve(state, smaller_one)
    assert state.free_at(NOW).usd_micros == usd(90).usd_micros
    state = ledgers.evolve(state, TrancheSettled("a", usd(10)))
    assert ledgers.settle(state, "a", usd(10)) is None
    assert ledgers.reduce(state, "a", usd(1)) is None


def test_an_agent_that_overspent_is_counted_for_what_it_spent() -> None:
    state = state_with(BudgetSet(Budget(usd=1.0), "x", 0), TrancheGranted("a", 1, usd(50), 0))
    state = ledgers.evolve(state, TrancheSettled("a", usd(120)))
    assert state.free_at(NOW).usd_micros == -usd(20).usd_micros
    assert isinstance(ledgers.grant(state, "b", 1, NOTHING, NOTHING, NOW), Amount)


def test_what_a_shared_budget_can_not_have_is_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match="per="):
        ledgers.set_budget(LedgerState(), Budget(seconds=5), "x", NOW)
    with pytest.raises(ValueError, match="at least 1 second"):
        ledgers.check_shared(Budget(usd=1, per=0.5))


def test_every_attempt_is_a_call() -> None:
    assert ledgers.attempt_of(Amount(5)) == Amount(5, 0, 1)
    assert ledgers.attempt_of(Amount(5, 1, 1)) == Amount(5, 1, 1)


def test_events_are_read_as_they_were_written_and_the_future_is_refused() -> None:
    for event in (
        BudgetSet(Budget(usd=1.5, per=60), "card", 7), TrancheGranted("1-1", 1, usd(3, 2), 7),
        TrancheReduced("1-1", usd(1)), TrancheSettled("1-1", usd(2, 1)),
    ):  # fmt: skip
        body = msgspec.json.encode(event)
        assert ledgers.read_ledger_event(Recorded(1, NOW, type(event).__name__, 1, body)) == event
    with pytest.raises(UnknownEvent, match="newer release"):
        ledgers.read_ledger_event(Recorded(1, NOW, "TrancheGranted", 2, b"{}"))
    with pytest.raises(UnknownEvent, match="is not a TrancheGranted"):
        ledgers.read_ledger_event(Recorded(1, NOW, "TrancheGranted", 1, b"{}"))
