"""The plans of a run, as `runs show` draws them: from events alone."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from pointsman.cli.runs import folding, plans
from tests.unit.cli.test_timeline import event

TASKS = [
    {"name": "feast", "call": "plan/feast", "target": "cook", "after": ["roof", "garden"]},
    {"name": "ground", "call": "plan/ground", "target": "dig"},
    {"name": "roof", "call": "plan/roof", "target": "build", "after": ["ground"]},
    {"name": "garden", "call": "plan/garden", "target": "plant", "after": ["ground"], "if_failed": "skip"},
    {"name": "poem", "call": "plan/poem", "target": "write"},
]
BEGUN = [
    event(1, 0, "RunStarted", workflow="w"),
    event(2, 0, "PlanDeclared", call="plan:plan#1", tasks=TASKS),
    event(3, 0, "CallRequested", call="plan/ground", target="dig"),
]
HALF = [
    *BEGUN,
    event(4, 10, "CallCompleted", call="plan/ground", output=1),
    event(5, 10, "CallRequested", call="plan/roof", target="build"),
    event(6, 10, "CallRequested", call="plan/garden", target="plant"),
]
FAILURE = {"kind": "exception", "message": "frost"}


def read(events: list[Any]) -> plans.PlanStory:
    story = folding.build(events)
    ((call, tasks),) = story.plans.items()
    return plans.read(call, tasks, story.spans, is_over=story.is_over)


def states(*events: Any) -> dict[str, tuple[str, str]]:
    return {task.name: (task.state, task.why) for task in read(list(events)).tasks.values()}


def test_the_queue_says_what_is_ready_and_what_waits_for_what() -> None:
    assert states(*BEGUN) == {
        "ground": ("running", ""), "poem": ("ready", "its turn has not come"), "roof": ("waiting", "for ground"),
        "garden": ("waiting", "for ground"), "feast": ("waiting", "for roof, garden"),
    }  # fmt: skip


def test_a_task_that_is_retried_says_why() -> None:
    failed = event(7, 20, "AttemptFailed", call="plan/roof", attempt=1, failure=FAILURE, retry_at=9_000)
    state, why = states(*HALF, failed)["roof"]
    assert state == "running"
    assert why.endswith("attempt 1: exception: frost")


def test_one_that_failed_skips_what_needs_it() -> None:
    told = states(*HALF, event(7, 20, "CallFailed", call="plan/garden", failure=FAILURE))
    assert told["garden"] == ("failed", "exception: frost")
    assert told["feast"] == ("skipped", "it needs garden")
    assert told["poem"][0] == "ready"


def test_one_that_stops_the_plan_skips_everything() -> None:
    told = states(*HALF, event(7, 20, "CallFailed", call="plan/roof", failure=FAILURE))
    assert told["poem"] == ("skipped", "roof failed, and the plan stops there")
    assert told["garden"] == ("running", "")


def test_one_that_is_tried_anew_is_the_latest_try() -> None:
    failed = event(7, 20, "CallFailed", call="plan/roof", failure=FAILURE)
    again = event(8, 20, "CallRequested", call="plan/roof/2", target="build")
    assert states(*HALF, failed, again)["roof"] == ("running", "")


@pytest.mark.parametrize(
    ("ending", "state"),
    [
        (event(7, 30, "CallSkipped", call="plan/roof", failure=FAILURE, output=1), ("done", "default instead")),
        (event(7, 30, "CallCancelled", call="plan/roof"), ("skipped", "given up")),
        (event(7, 30, "RunFailed", failure=FAILURE), ("skipped", "left open")),
    ],
)
def test_other_ends_of_a_task(ending: Any, state: tuple[str, str]) -> None:
    assert states(*HALF, ending)["roof"] == state


def test_nothing_is_ready_in_a_run_that_is_over() -> None:
    assert states(*BEGUN, event(4, 5, "RunWasCancelled", reason="x"))["poem"] == ("skipped", "the run is over")


def test_the_drawing_has_each_task_below_the_last_of_those_that_it_needs() -> None:
    story = folding.build(HALF)
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(plans.drawing(read(HALF), story.last + 5))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    starts = ["plan: 1 of 5 done", "✓ ground", "├─▶ roof", "└─▶ garden", "  └─· feast  ← roof", "○ poem"]
    assert [line[: len(start)] for line, start in zip(lines, starts, strict=True)] == starts
    assert "for roof, garden" in lines[4]


def test_a_plan_that_no_release_would_write_is_drawn_as_far_as_it_goes() -> None:
    circle = [
        {"name": "a", "call": "a", "target": "x", "after": ["b"]},
        {"name": "b", "call": "b", "target": "x", "after": ["a"]},
    ]
    story = plans.read("plan:plan#1", circle, [], is_over=False)
    assert set(story.tasks) == {"a", "b"}
    assert plans.plain(story)["tasks"][0]["state"] == "waiting"
