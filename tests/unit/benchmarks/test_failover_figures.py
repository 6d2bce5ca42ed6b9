"""The figures of a kill, from journal lines and outcomes that are made up."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.failover.figures import CallOutcome, FiguresDoNotAddUp, Seen, bars, of_all, of_sample
from pointsman.demo.faults import Victim
from pointsman.demo.journal import Line

KILLED_MS = 1_000_000.0
DEAD, NEW = 11, 22
"""Pids of the killed coordinator and of the next owner."""


def line(event: str, run: str, ms: float, *, epoch: int = 1, pid: int = DEAD, call: str = "step#1") -> Line:
    return Line(event, "step", run, call, 1, f"{run}/1/{call}", epoch, pid, KILLED_MS + ms)  # type: ignore[arg-type]


def outcome(run: str, ms: int, *, epoch: int, call: str = "step#1") -> CallOutcome:
    return CallOutcome(run, call, epoch, int(KILLED_MS) + ms)


def seen(
    lines: list[Line], outcomes: list[CallOutcome], *, runs: int = 1, completed: int | None = None, steps: int = 1
) -> Seen:
    """All runs are orphans under epoch 1."""
    kill = Victim("coordinator-1", DEAD, KILLED_MS, {f"r{number}": 1 for number in range(runs)})
    return Seen(runs, steps, kill, {"completed": runs if completed is None else completed}, lines, outcomes)


def interrupted(run: str, ms: float) -> list[Line]:
    """A call that the kill cut off, and its next owner's."""
    return [
        line("start", run, -50),
        line("start", run, ms, epoch=2, pid=NEW),
        line("end", run, ms + 100, epoch=2, pid=NEW),
    ]


def test_an_orphan_waits_from_the_kill_to_its_next_start() -> None:
    waits = [200.0, 240.0, 300.0, 900.0]
    lines = [each for number, ms in enumerate(waits) for each in interrupted(f"r{number}", ms)]
    outcomes = [outcome(f"r{number}", 2_000, epoch=2) for number in range(4)]
    said = of_sample(seen(lines, outcomes, runs=4))
    assert (said["first_ms"], said["p50_ms"], said["p99_ms"], said["last_ms"]) == (200.0, 300.0, 900.0, 900.0)
    assert said["orphans"] == 4
    assert said["lost"] == said["never_resumed"] == 0
    assert (said["interrupted_repeated"], said["ended_unrecorded_repeated"], said["committed_calls_repeated"]) == (
        4, 0, 0,
    )  # fmt: skip


def test_an_outcome_by_the_next_owner_counts_as_its_first_sign() -> None:
    """The earliest of them; one that the dead coordinator committed says nothing of its successor."""
    calls = ("step#1", "step#2", "step#3")
    lines = [line("start", "r0", -90 + number, call=call) for number, call in enumerate(calls)]
    outcomes = [outcome("r0", -10, epoch=1, call=calls[0])]
    outcomes += [outcome("r0", ms, epoch=2, call=call) for ms, call in zip((180, 250), calls[1:], strict=True)]
    said = of_sample(seen(lines, outcomes, steps=3))
    assert said["first_ms"] == said["last_ms"] == 180.0


def test_an_outcome_that_was_committed_must_not_be_asked_for_again() -> None:
    lines = [line("start", "r0", -150), line("end", "r0", -50), line("start", "r0", 200, epoch=2, pid=NEW)]
    said = of_sample(seen(lines, [outcome("r0", -40, epoch=1)]))
    assert (said["committed_calls_repeated"], said["ended_unrecorded_repeated"]) == (1, 0)


def test_a_call_that_ended_and_was_not_recorded_stands_apart() -> None:
    lines = [line("start", "r0", -150), line("end", "r0", -1), line("start", "r0", 200, epoch=2, pid=NEW)]
    said = of_sample(seen(lines, [outcome("r0", 300, epoch=2)]))
    assert (said["committed_calls_repeated"], said["ended_unrecorded_repeated"], said["interrupted_repeated"]) == (
        0, 1, 0,
    )  # fmt: skip


def test_runs_that_did_not_complete_are_lost_and_no_one_resumed_them() -> None:
    said = of_sample(seen([line("start", "r0", -50)], [], completed=0))
    assert (said["lost"], said["never_resumed"]) == (1, 1)
    assert said["first_ms"] is said["p50_ms"] is said["p99_ms"] is said["last_ms"] is None


def test_a_start_by_the_dead_process_or_by_an_earlier_owner_is_no_takeover() -> None:
    """The dead one's not under a later epoch either: whoever resumes a run lives in another process."""
    own = [line("start", "r0", 5), line("start", "r0", 5, epoch=2)]
    earlier = line("start", "r0", -400, epoch=0, pid=NEW)  # by its owner before the dead one
    assert of_sample(seen([*own, earlier], [], completed=0))["never_resumed"] == 1


@pytest.mark.parametrize("key", ["step#2", "Step#1"])
def test_journal_and_event_log_must_tell_of_the_same_calls(key: str) -> None:
    with pytest.raises(FiguresDoNotAddUp, match="in one of both only: r0/1/"):
        of_sample(seen(interrupted("r0", 200.0), [outcome("r0", 300, epoch=2, call=key)]))


def test_calls_that_both_leave_out_are_missed() -> None:
    with pytest.raises(FiguresDoNotAddUp, match="2 calls expected, 1 in the journal"):
        of_sample(seen(interrupted("r0", 200.0), [outcome("r0", 300, epoch=2)], steps=2))


# -- all samples -------------------------------------------------------------------------------------------------------


def sample(p50_ms: Any = 200.0, **other: Any) -> dict[str, Any]:
    return {
        "orphans": 60, "first_ms": 170.0, "p50_ms": p50_ms, "p99_ms": 400.0, "last_ms": 500.0, "lost": 0,
        "never_resumed": 0, "committed_calls_repeated": 0, "ended_unrecorded_repeated": 1, "interrupted_repeated": 59,
        **other,
    }  # fmt: skip


def test_times_are_medians_and_counts_are_sums() -> None:
    said = of_all([sample(900.0, lost=1, orphans=90), sample(200.0), sample(240.0, orphans=70)], 200)
    assert said == {
        "runs": 200, "orphans": 70, "first_ms": 170.0, "p50_ms": 240.0, "p99_ms": 400.0, "last_ms": 500.0, "lost": 1,
        "never_resumed": 0, "committed_calls_repeated": 0, "ended_unrecorded_repeated": 3, "interrupted_repeated": 177,
    }  # fmt: skip


def test_a_sample_without_times_leaves_the_others_theirs() -> None:
    assert of_all([sample(None), sample(210.0)], 200)["p50_ms"] == 210.0
    assert of_all([sample(None)], 200)["p50_ms"] is None


def broken(runs: int, *samples: dict[str, Any]) -> list[str]:
    said = bars(of_all(samples, runs), samples)
    return [name for name, bar in said.items() if not bar["holds"]]


def test_all_bars_hold_just_within_their_limits() -> None:
    assert broken(200, sample(249.9, p99_ms=999.9, last_ms=9_999.0, orphans=50)) == []
    assert broken(2_000, sample(9_999.0, p99_ms=9_999.0, last_ms=2_999.9, orphans=500)) == []


@pytest.mark.parametrize(
    ("runs", "other", "name"),
    [
        (200, {"p50_ms": 250.0}, "p50_ms"),
        (200, {"p50_ms": None}, "p50_ms"),
        (200, {"p99_ms": 1_000.0}, "p99_ms"),
        (200, {"orphans": 49}, "orphans"),
        (200, {"lost": 1}, "lost"),
        (200, {"never_resumed": 1}, "never_resumed"),
        (200, {"committed_calls_repeated": 1}, "committed_calls_repeated"),
        (2_000, {"orphans": 500, "last_ms": 3_000.0}, "last_ms"),
        (2_000, {"orphans": 499}, "orphans"),
    ],
)
def test_each_bar_can_break_alone(runs: int, other: dict[str, Any], name: str) -> None:
    assert broken(runs, sample(**other)) == [name]


def test_one_sample_with_few_orphans_is_not_hidden_by_the_others() -> None:
    assert broken(200, sample(), sample(orphans=49), sample()) == ["orphans"]
