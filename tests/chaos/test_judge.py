"""The judge can fail: each kind of fault, made by hand in what clients, agents and log say, is found; and a run that
goes well is let pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pointsman.testing.chaos.app import Work, expected
from pointsman.testing.chaos.judge import Verdict, Window, judge
from pointsman.testing.chaos.log import Head, Log, LoggedEvent
from pointsman.testing.chaos.records import Acknowledged, Invocation, RecordsDamaged, open_records, read, write

GIVES = expected(Work(steps=2), 10)
REQUEST, OUTCOME = "CallRequested", "CallCompleted"
EVENTS = ("RunStarted", REQUEST, OUTCOME, REQUEST, OUTCOME, "SignalReceived", "RunCompleted")
CALLS = (None, "step#1", "step#1", "step#2", "step#2", None, None)


def event(sequence: int, *, epoch: int = 1, **other: Any) -> LoggedEvent:
    kind = EVENTS[sequence - 1]
    key = "signal:s" if kind == "SignalReceived" else None
    output = str(GIVES) if kind == "RunCompleted" else None
    known = LoggedEvent("r-1", sequence, epoch, 0, kind, CALLS[sequence - 1], key, output)
    return msgspec.structs.replace(known, **other)


def invocation(
    event: Any, call: str, wall_ms: float, *, epoch: int = 1, attempt: int = 1, ok: bool = True
) -> Invocation:  # fmt: skip
    return Invocation(event, "step", "r-1", attempt, f"r-1/1/{call}", epoch, 1, wall_ms, ok)


@dataclass
class Story:
    """A run of two steps that goes well, and is under way at a fault."""

    acknowledged: list[Acknowledged] = field(
        default_factory=lambda: [
            Acknowledged("start", "r-1", 100, True),
            Acknowledged("signal", "r-1", 110, "s"),
            Acknowledged("result", "r-1", 900, GIVES),
        ]
    )
    invocations: list[Invocation] = field(
        default_factory=lambda: [
            invocation("start", "step#1", 120), invocation("end", "step#1", 220),
            invocation("start", "step#2", 700), invocation("end", "step#2", 800),
        ]
    )  # fmt: skip
    events: list[LoggedEvent] = field(default_factory=lambda: [event(number) for number in range(1, 8)])
    runs: dict[str, Head] = field(default_factory=lambda: {"r-1": Head("completed", 7)})

    def verdict(self) -> Verdict:
        return judge(self.acknowledged, self.invocations, Log(self.runs, self.events), [Window(200, 300)], result=GIVES)


def test_a_run_that_goes_well_is_let_pass() -> None:
    found = Story().verdict()
    assert (found.starts, found.signals, found.results, found.acknowledged, found.calls) == (1, 1, 1, 3, 2)
    assert (found.lost, found.committed_repeated, found.unsound) == ([], [], [])
    assert (found.ended_unrecorded_repeated, found.interrupted_repeated, found.stale_starts) == (0, 0, 0)
    assert (found.faults, found.under_way, found.recovered) == (1, 1, 1)
    assert (found.still_p50_ms, found.still_max_ms) == (500, 500), "from the fault to the second step"


LOST: dict[str, Callable[[Story], object]] = {
    "no such run": lambda story: story.runs.clear() or story.events.clear(),
    "it is running": lambda story: story.runs.update({"r-1": Head("running", 7)}),
    "signal s of r-1: not in the log": lambda story: story.events.__setitem__(5, event(6, type="TimerSet", key=None)),
    "the log has 14": lambda story: story.events.__setitem__(6, event(7, output="14")),
    "the log has None": lambda story: story.events.pop(),
}


@pytest.mark.parametrize("said", LOST)
def test_what_was_acknowledged_and_is_not_there_is_lost(said: str) -> None:
    story = Story()
    LOST[said](story)
    assert said in "; ".join(story.verdict().lost)


UNSOUND: dict[str, Callable[[Story], object]] = {
    "not 1, 2, 3": lambda story: story.events.pop(3),
    "an epoch goes back": lambda story: story.events.__setitem__(3, event(4, epoch=2)),
    "something comes after the end": lambda story: story.events.insert(0, event(7)),
    "outcome of step#1 twice": lambda story: story.events.__setitem__(4, event(5, call="step#1")),
    "signal signal:s twice": lambda story: story.events.append(event(6)),
    "gave": lambda story: story.events.__setitem__(6, event(7, output="14")),
    "a head without a stream": lambda story: story.events.clear(),
    "asked for, not in the log": lambda story: story.events.__setitem__(3, event(4, type="TimerSet")),
}


@pytest.mark.parametrize("said", UNSOUND)
def test_a_log_that_can_not_be_is_unsound(said: str) -> None:
    story = Story()
    UNSOUND[said](story)
    assert said in "; ".join(story.verdict().unsound)


def test_a_call_that_is_repeated_after_its_outcome_was_committed_is_a_fault() -> None:
    story = Story()
    story.invocations.append(invocation("start", "step#1", 850, epoch=2))
    assert story.verdict().committed_repeated == ["r-1/1/step#1"]


def test_an_attempt_that_is_made_twice_under_one_epoch_is_a_fault() -> None:
    story = Story()
    story.invocations.append(invocation("start", "step#1", 850))
    assert story.verdict().committed_repeated == ["r-1/1/step#1"]


def test_what_had_ended_unrecorded_and_what_was_interrupted_stand_apart() -> None:
    story = Story()
    story.events[2] = event(3, epoch=2)
    story.events[3:] = [event(number, epoch=3) for number in range(4, 8)]
    story.invocations = [
        invocation("start", "step#1", 120), invocation("end", "step#1", 220),
        invocation("start", "step#1", 400, epoch=2), invocation("end", "step#1", 500, epoch=2),
        invocation("start", "step#2", 600, epoch=2), invocation("start", "step#2", 700, epoch=3),
    ]  # fmt: skip
    found = story.verdict()
    assert (found.committed_repeated, found.ended_unrecorded_repeated, found.interrupted_repeated) == ([], 1, 1)


def test_a_retry_is_no_repetition() -> None:
    story = Story()
    story.invocations[0:2] = [
        invocation("start", "step#1", 120), invocation("end", "step#1", 130, ok=False),
        invocation("start", "step#1", 140, attempt=2), invocation("end", "step#1", 240, attempt=2),
    ]  # fmt: skip
    found = story.verdict()
    assert (found.committed_repeated, found.ended_unrecorded_repeated, found.interrupted_repeated) == ([], 0, 0)


def test_a_request_that_left_late_with_its_old_epoch_is_counted() -> None:
    story = Story()
    story.invocations += [invocation("start", "step#3", 850, epoch=2), invocation("start", "step#4", 860, epoch=1)]
    assert story.verdict().stale_starts == 1


def test_a_run_that_was_not_under_way_at_the_fault_does_not_count_as_recovered() -> None:
    story = Story()
    story.acknowledged[0] = Acknowledged("start", "r-1", 250, True)
    assert story.verdict().under_way == 0


def test_records_are_read_as_they_were_written_and_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "records"
    assert read(path, Invocation) == []
    line = invocation("start", "step#1", 1.5)
    write(open_records(path), line, durably=True)
    assert read(path, Invocation) == [line]
    path.write_bytes(path.read_bytes() + b"{\n")
    with pytest.raises(RecordsDamaged, match="line 2"):
        read(path, Invocation)
