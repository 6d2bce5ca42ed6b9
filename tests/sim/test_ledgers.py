"""The count of shared budgets can fail: a sound pair of logs by hand, and for each rule a pair that breaks it."""

from __future__ import annotations

import msgspec
import pytest

from pointsman.coordinator.budgets.recovery import Recovery
from pointsman.kernel import events as ev
from pointsman.kernel.policy.amounts import Amount, Budget
from pointsman.kernel.policy.budget import BudgetSet, TrancheGranted, TrancheReduced, TrancheSettled
from pointsman.testing.sim.ledgers import budget_violations
from pointsman.testing.sim.world import World, simulate

ONE = Amount(10, 0, 1)
SET = BudgetSet(Budget(usd=0.00002), "x", 0)
GRANTED = TrancheGranted("1-1", 1, Amount(20), 0)
SETTLED = TrancheSettled("1-1", Amount(15, 0, 2))
LEDGER = (SET, GRANTED, SETTLED)
RESERVED = ev.CallReserved(call="a", attempt=1, amount=ONE, tranches=("1-1",))
COMPLETED = ev.CallCompleted(call="a", output=msgspec.Raw(b"1"), spent=Amount(5))
AGAIN = ev.CallReserved(call="b", attempt=1, amount=ONE, tranches=("1-1",))
FAILED = ev.CallFailed(call="b", failure=ev.Failure("timeout"))
RUN = (RESERVED, COMPLETED, AGAIN, FAILED)


def rows(events):
    return [ev.Recorded(n, n, type(e).__name__, 1, msgspec.json.encode(e)) for n, e in enumerate(events, 1)]


def violations(run=RUN, ledger=LEDGER):
    return list(budget_violations({"r": rows(run)}, {"budget/agent/x": rows(ledger)}, is_over=True))


def test_a_sound_pair_passes():
    assert violations() == []
    assert violations(ledger=(SET, GRANTED, TrancheReduced("1-1", Amount(16)), SETTLED)) == []


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({"ledger": (SET, GRANTED, TrancheGranted("1-2", 1, Amount(1), 0), SETTLED)}, "is out in window 0"),
        ({"ledger": (SET, GRANTED, SETTLED, TrancheGranted("1-2", 1, Amount(6), 0))}, "is out in window 0"),
        ({"ledger": (SET, GRANTED, SETTLED, GRANTED)}, "was granted twice"),
        ({"ledger": (SET, GRANTED, SETTLED, SETTLED)}, "was settled twice"),
        ({"ledger": (SET, GRANTED)}, "never came back"),
        ({"ledger": (SET, TrancheSettled("1-2", Amount(1)))}, "and never granted"),
        ({"ledger": (SET, GRANTED, TrancheSettled("1-1", Amount(5, 0, 2)))}, "the logs say"),
        ({"run": (*RUN, RESERVED, COMPLETED)}, "the logs say"),
        ({"run": (RESERVED, COMPLETED, AGAIN)}, "and b has no end"),
        ({"run": (*RUN, ev.CallReserved("c", 1, ONE, ("1-9",)), ev.RunCompleted())}, "which no budget granted"),
        ({"run": (*RUN, AGAIN, RESERVED, ev.RunCompleted())}, "was used in window 0"),
    ],
)
def test_each_rule_can_be_broken(broken, says):
    assert any(says in what for what in violations(**broken)), violations(**broken)


@pytest.mark.parametrize(
    "end",
    [
        ev.CallReserved(call="b", attempt=1, amount=ONE),
        ev.CallSkipped(call="b", output=msgspec.Raw(b"1"), failure=ev.Failure("timeout")),
        ev.CallCancelled(call="b"),
        ev.AttemptFailed(call="b", attempt=1, failure=ev.Failure("timeout")),
        ev.RunCompleted(),
    ],
)
def test_an_end_that_says_nothing_counts_in_full(end):
    assert violations(run=(RESERVED, COMPLETED, AGAIN, end)) == []


def test_an_agent_that_overspends_breaks_its_own_word_and_not_the_budget():
    spent = ev.CallCompleted(call="b", output=msgspec.Raw(b"1"), spent=Amount(90))
    ledger = (SET, GRANTED, TrancheSettled("1-1", Amount(95, 0, 2)))
    assert violations(run=(RESERVED, COMPLETED, AGAIN, spent), ledger=ledger) == []


def test_the_workload_exceeds_its_budgets_and_leaves_tranches_of_the_dead(monkeypatch):
    """Else a pass would say nothing of either."""
    recovered, exceeded = [], []
    settle, evidence = Recovery._settle, World.evidence

    async def counted(self, scope, tranche):
        recovered.append(tranche)
        await settle(self, scope, tranche)

    def read(self):
        found = evidence(self)
        for run in found.streams:
            failures = [getattr(event, "failure", None) for event in found.events(run)]
            exceeded.extend(failure for failure in failures if failure and failure.kind == "budget_exceeded")
        return found

    monkeypatch.setattr(Recovery, "_settle", counted)
    monkeypatch.setattr(World, "evidence", read)
    for seed in range(30):
        simulate(seed)
    assert len(exceeded) >= 12
    assert len(recovered) >= 12
