"""The figures of a system, and the bars."""

from __future__ import annotations

import pytest

from benchmarks.triage.data import Ticket
from benchmarks.triage.figures import Outcome, bars, orphans, summary

EVEN, ODD = Ticket(2, "", "cash"), Ticket(3, "", "cash")


def answered(latency_s: float = 1.0, *, ticket: Ticket = EVEN, saved_by: str = "", orphan: bool = False) -> Outcome:
    return Outcome(
        ticket, "answered", saved_by, latency_s=latency_s, agent_s=0.5, waits_s=0.25, named=ticket.specialist,
        is_orphan=orphan,
    )  # fmt: skip


def test_each_ticket_is_counted_once() -> None:
    outcomes = [
        answered(), answered(saved_by="retry"), answered(saved_by="fallback"), Outcome(EVEN, "static"),
        Outcome(EVEN, "with_person", "person"), Outcome(EVEN, "failed"), Outcome(EVEN, "lost"),
    ]  # fmt: skip
    said = summary(outcomes, 30.0)
    ends = ("answered", "static", "with_person", "failed", "lost")
    assert {name: said[name] for name in ends} == {
        "answered": 3, "static": 1, "with_person": 1, "failed": 1, "lost": 1,
    }  # fmt: skip
    assert said["tickets"] == 7
    assert said["tickets_per_min"] == 12  # six came to an end in half a minute
    assert said["saved_by"] == {"retry": 1, "fallback": 1, "person": 1}


def test_overhead_is_latency_less_agent_time_less_waits() -> None:
    said = summary([answered(1.0)] * 99 + [answered(3.0)], 30.0)
    assert said["latency_s"] == {"p50": 1.0, "p99": 3.0}
    assert said["overhead_ms"] == {"p50": 250.0, "p99": 2250.0}


def test_orphans_overhead_stands_apart() -> None:
    outcomes = [answered(1.0)] * 5 + [answered(9.0, orphan=True)] * 5
    assert summary(outcomes, 1.0)["overhead_ms"] == {"p50": 250.0, "p99": 250.0}
    assert orphans(outcomes) == {"tickets": 5, "answered": 5, "overhead_ms": {"p50": 8250.0, "p99": 8250.0}}
    assert orphans([answered()])["overhead_ms"] == {"p50": None, "p99": None}


def test_selection_is_scored_on_odd_rows_that_came_to_an_end() -> None:
    wrong, unnamed = Outcome(ODD, "answered", named="access"), Outcome(ODD, "failed")
    outcomes = [answered(ticket=ODD), wrong, unnamed, Outcome(ODD, "lost"), Outcome(EVEN, "answered", named="access")]
    assert summary(outcomes, 1.0)["selection_accuracy"] == pytest.approx(1 / 3, abs=1e-4)
    assert summary([Outcome(EVEN, "failed")], 1.0)["selection_accuracy"] is None


def good(**other: object) -> dict[str, object]:
    return {
        "tickets": 10_000, "answered": 9_900, "static": 0, "with_person": 100, "failed": 0, "lost": 0,
        "tickets_per_min": 20_000, "overhead_ms": {"p50": 1.0, "p99": 250.0},
        "saved_by": {"retry": 1, "fallback": 1, "person": 1}, "selection_accuracy": 0.8, **other,
    }  # fmt: skip


ORPHANS = {"overhead_ms": {"p50": 1.0, "p99": 1000.0}}


def test_all_bars_hold_at_their_limits() -> None:
    assert all(bar["holds"] for bar in bars(good(), ORPHANS).values())


@pytest.mark.parametrize(
    ("other", "broken"),
    [
        ({"answered": 9_799, "with_person": 201}, "answered_share"),
        ({"with_person": 90}, "answered_or_with_person_share"),
        ({"lost": 1}, "lost"),
        ({"tickets_per_min": 19_999}, "tickets_per_min"),
        ({"overhead_ms": {"p99": 250.1}}, "overhead_ms_p99"),
        ({"selection_accuracy": 0.79}, "selection_accuracy"),
        ({"selection_accuracy": None}, "selection_accuracy"),
        ({"saved_by": {"retry": 0, "fallback": 1, "person": 1}}, "saved_by_retry"),
        ({"saved_by": {"retry": 1, "fallback": 0, "person": 1}}, "saved_by_fallback"),
        ({"saved_by": {"retry": 1, "fallback": 1, "person": 0}}, "saved_by_person"),
    ],
)
def test_each_bar_can_break_alone(other: dict[str, object], broken: str) -> None:
    said = bars(good(**other), ORPHANS)
    assert [name for name, bar in said.items() if not bar["holds"]] == [broken]


@pytest.mark.parametrize("p99", [1000.1, None])
def test_the_orphans_have_a_bar_of_their_own(p99: float | None) -> None:
    said = bars(good(), {"overhead_ms": {"p50": 1.0, "p99": p99}})
    assert [name for name, bar in said.items() if not bar["holds"]] == ["orphans_overhead_ms_p99"]
