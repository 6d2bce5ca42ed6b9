"""`runs redrive`, and how generations and redrives are drawn."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pointsman.cli.runs import drawing, folding
from pointsman.cli.runs.redrive import _what
from tests.unit.cli.test_timeline import event

FAILURE = {"kind": "refused", "message": "no"}
REDRIVEN = [
    event(1, 0, "RunStarted", workflow="w", input=1),
    event(2, 0, "CallRequested", call="a#1", target="a", input="in"),
    event(3, 0, "CallRequested", call="b#1", target="b", input="in"),
    event(4, 100, "CallFailed", call="a#1", attempt=1, failure=FAILURE),
    event(5, 100, "RunFailed", failure=FAILURE),
    event(6, 900, "RunRedriven", number=1, after=3, calls=["a#1"], by="ann", reason="fixed"),
    event(7, 950, "CallCompleted", call="a#1", output="out", attempt=2),
    event(8, 990, "CallCompleted", call="b#1", output="out"),
    event(9, 990, "RunCompleted", output="out"),
]


def test_a_redriven_call_is_one_span_with_two_tries() -> None:
    story = folding.build(REDRIVEN)
    first, second = story.spans
    assert (first.outcome, first.tries, first.failure) == ("completed", 2, None)
    assert (second.outcome, second.tries) == ("completed", 1)
    assert "redriven by ann, from a#1: fixed" in [mark.text for mark in story.marks]
    assert drawing.rows(story).row_count == len(story.rows())


@pytest.mark.parametrize("length", range(1, len(REDRIVEN) + 1))
def test_every_prefix_is_drawn(length: int) -> None:
    story = folding.build(REDRIVEN[:length])
    assert drawing.rows(story).row_count == len(story.rows())


def test_generations_are_marked_and_end_timers_but_no_children() -> None:
    story = folding.build([
        event(1, 0, "RunStarted", workflow="w", input=1),
        event(2, 0, "TimerSet", call="sleep#1", due=5),
        event(3, 0, "ChildStarted", call="workflow:c#1", workflow="c", run="r~1"),
        event(4, 10, "RunRestarted", generation=2, workflow="w", seed="s", started_at=0,
              signals=[{"name": "go", "payload": 1}]),
        event(5, 10, "SignalAwaited", call="signal:go#1@2", name="go"),
    ])  # fmt: skip
    assert [span.outcome for span in story.spans] == ["left open", "pending", "received"]
    assert "generation 2 begins" in [mark.text for mark in story.marks]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"calls": ["a#1", "b#1"], "repeated": False}, "from call a#1, b#1"),
        ({"calls": [], "repeated": False}, "by the code that there is now"),
        ({"calls": ["a#1"], "repeated": True, "by": "ann"}, "from call a#1, redriven before by ann"),
        ({"refused": {"code": "not_redrivable", "message": "it is running"}}, "refused: it is running"),
    ],
)
def test_what_became_of_it_is_said(answer: dict[str, Any], said: str) -> None:
    assert _what(json.loads(json.dumps(answer))) == said
