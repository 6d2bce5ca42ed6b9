"""Folding a run's events into spans and marks, and drawing them."""

from __future__ import annotations

from typing import Any

from pointsman.cli.output import readable
from pointsman.cli.runs import drawing, folding


def event(sequence: int, ms: int, type_: str, epoch: int | None = None, **data: Any) -> dict[str, Any]:
    at = f"2026-01-01T00:00:{ms // 1000:02}.{ms % 1000:03}Z"
    out = {"sequence": sequence, "at": at, "type": type_, "version": 1, "data": data}
    return out if epoch is None else {**out, "epoch": epoch}


RETRIED = [
    event(1, 0, "RunStarted", workflow="w", input={"q": 1}),
    event(2, 0, "CallRequested", call="a#1", target="a", input="in"),
    event(3, 100, "AttemptFailed", call="a#1", attempt=1, failure={"kind": "timeout"}, retry_at=0),
    event(4, 300, "CallRetried", call="a#1", attempt=2),
    event(5, 400, "CallCompleted", call="a#1", output="out", attempt=2),
    event(6, 400, "RunCompleted", output="out"),
]


def test_attempts_and_the_wait_between_them() -> None:
    story = folding.build(RETRIED)
    (span,) = story.spans
    assert [(a.start - story.start, (a.end or 0) - story.start) for a in span.attempts] == [
        (0, 100),
        (300, 400),
    ]
    assert (span.outcome, span.output, span.input) == ("completed", "out", "in")
    bar = drawing.bar(span, story.start, story.last, width=8).plain
    assert bar == "▒▒····██"


def test_a_prefix_of_the_log_leaves_spans_open() -> None:
    for length in range(len(RETRIED) + 1):
        story = folding.build(RETRIED[:length])
        assert drawing.rows(story).row_count == len(story.rows())
    story = folding.build(RETRIED[:2])
    assert story.spans[0].outcome == "pending"
    assert drawing.bar(story.spans[0], story.start, story.last, width=4).plain[-1] == "▸"


def test_a_change_of_epoch_is_a_mark() -> None:
    story = folding.build([event(1, 0, "RunStarted", 1), event(2, 5, "CallCompleted", 3, call="x", output=1)])
    assert [(mark.kind, mark.text) for mark in story.marks] == [
        ("epoch", "claimed anew, by a coordinator: epoch 1 → 3")
    ]


def test_signals_go_to_who_waits_else_to_who_asks_next() -> None:
    story = folding.build(
        [
            event(1, 0, "SignalReceived", name="go", key="1", mail=1, payload=1),
            event(2, 10, "SignalAwaited", call="s#1", name="go"),
            event(3, 20, "SignalAwaited", call="s#2", name="go"),
            event(4, 30, "SignalReceived", name="go", key="2", mail=2, payload=2),
        ]
    )
    assert [(s.call, s.outcome, (s.end or 0) - story.start) for s in story.spans] == [
        ("s#1", "received", 10), ("s#2", "received", 30)
    ]  # fmt: skip


def test_children_timers_reroutes_and_refusals() -> None:
    story = folding.build(
        [
            event(1, 0, "ChildStarted", call="c#1", run="r2", workflow="other", input=1),
            event(2, 0, "TimerSet", call="t#1", due=9),
            event(3, 0, "AgentRerouted", call="x#1", asked="x", agent="any", reason="no such agent"),
            event(4, 0, "CallRequested", call="x#1", target="any", input=1),
            event(5, 9, "TimerFired", call="t#1"),
            event(6, 9, "CallRefused", call="y#1", asked="y", failure={"kind": "unknown_agent"}),
            event(7, 9, "CallCancelled", call="x#1"),
            event(8, 9, "ChildEnded", call="c#1", mail=1, status="failed", failure={"kind": "boom"}),
        ]
    )
    assert {s.call: s.outcome for s in story.spans} == {
        "c#1": "failed", "t#1": "fired", "x#1": "given up", "y#1": "failed"
    }  # fmt: skip
    assert story.spans[2].notes == ["x does not exist: no such agent"]


def test_an_event_from_the_future_is_shown_not_refused() -> None:
    story = folding.build([event(1, 0, "SomethingNew", a=1)])
    assert [mark.text for mark in story.marks] == ["SomethingNew"]


def test_an_event_line_says_what_failed() -> None:
    line = drawing.event_line(RETRIED[2], 100).plain
    assert line.split() == ["+100", "ms", "3", "AttemptFailed", "a#1", "timeout"]


def test_readable_keeps_the_lines_of_prompts() -> None:
    assert readable({"prompt": "one\ntwo", "n": 1, "list": [True, {"a": None}]}) == [
        "", "prompt: |", "  one", "  two", "n: 1", "list:", "  - true", "  -", "    a: null"
    ]  # fmt: skip
