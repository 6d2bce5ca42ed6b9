"""What the drill's figures are made of: each orphan is counted from its own signal, each fault has to have struck."""

from __future__ import annotations

import pytest

from pointsman.demo.counting import completed_calls_repeated, takeover_ms, went_well
from pointsman.demo.faults import Plan, Victim
from pointsman.demo.journal import Line


def started(run: str, *, epoch: int, pid: int, at_ms: float) -> Line:
    return Line("start", "a", run, "a#1", 1, f"{run}/1/a#1", epoch, pid, at_ms)


def test_a_run_that_was_orphaned_twice_is_counted_from_each_signal() -> None:
    first, second = Victim("c1", 11, 1_000.0, {"r": 1}), Victim("c2", 12, 5_000.0, {"r": 2})
    firsts = {("r", 1): 1_300.0, ("r", 2): 5_700.0}
    lines = [started("r", epoch=2, pid=12, at_ms=1_200.0), started("r", epoch=3, pid=13, at_ms=5_250.0)]
    assert takeover_ms([first], lines, firsts) == [200.0]
    assert takeover_ms([second], lines, firsts) == [250.0]


def test_what_the_victim_itself_still_starts_is_no_takeover() -> None:
    victim = Victim("c1", 11, 1_000.0, {"r": 1})
    lines = [started("r", epoch=2, pid=11, at_ms=1_010.0)]
    assert takeover_ms([victim], lines, {}) == []
    assert takeover_ms([victim], lines, {("r", 1): 1_400.0}) == [400.0]


def test_a_call_is_repeated_wrongly_only_after_its_outcome_was_committed() -> None:
    lines = [started("r", epoch=1, pid=11, at_ms=1.0), started("r", epoch=2, pid=12, at_ms=2.0)]
    assert completed_calls_repeated(lines, {"r/1/a#1": 2}) == set()
    assert completed_calls_repeated(lines, {"r/1/a#1": 1}) == {"r/1/a#1"}


WELL = {
    "tickets": 9, "completed": 9, "lost": 0, "completed_calls_repeated": 0, "kills": 2, "stops": 1,
    "database_restarts": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [("completed", 8), ("lost", 1), ("completed_calls_repeated", 1), ("kills", 1), ("stops", 0),
     ("database_restarts", 0)],
)  # fmt: skip
def test_it_went_well_only_if_all_is_well_and_every_fault_struck(name: str, value: int) -> None:
    plan = Plan(kills=2, stops=1, restarts=1)
    assert went_well(WELL, plan)
    assert not went_well({**WELL, name: value}, plan)
