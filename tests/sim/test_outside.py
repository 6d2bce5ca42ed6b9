"""Workers and webhooks in the simulator: each checker can fail, a user's workers are simulated, seeds reproduce."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from pointsman import App, Run
from pointsman.kernel import events as ev
from pointsman.testing.sim.evidence import Evidence
from pointsman.testing.sim.fetching import (
    nothing_is_left_lying,
    one_worker_an_attempt,
    results_are_of_their_attempt,
)
from pointsman.testing.sim.journal import Invocation, Shift
from pointsman.testing.sim.notices import everyone_is_told
from pointsman.testing.sim.scenario import Given, Start
from pointsman.testing.sim.webhook import Told
from pointsman.testing.sim.workload import FETCHING, OWN
from pointsman.testing.sim.world import simulate


def evidence(*events: ev.Event, **more: Any) -> Evidence:
    rows = [ev.Recorded(n, n, type(event).__name__, 1, ev.encode_event(event)) for n, event in enumerate(events, 1)]
    return Evidence(streams={"r": rows}, heads={}, mails={}, feed=(), **more)


def shift(attempt: int, begin: float, end: float, output: bytes | None = None, **fields: Any) -> Shift:
    made = Invocation("r", "a#1", attempt, "r/1/a#1", 1, "w0.1", begin, 9, False, 1, "a", True)._replace(**fields)
    return Shift(made, end, output)


COMPLETED = ev.CallCompleted(call="a#1", output=msgspec.Raw(b'"second"'), attempt=2)


def test_a_result_of_a_stale_attempt_is_found() -> None:
    sound = [shift(1, 0.0, 1.0, b'"first"'), shift(2, 1.0, 2.0, b'"second"')]
    assert list(results_are_of_their_attempt(evidence(COMPLETED, shifts=sound))) == []
    stale = [shift(1, 0.0, 3.0, b'"second"'), shift(2, 1.0, 2.0, b'"other"')]
    (what,) = results_are_of_their_attempt(evidence(COMPLETED, shifts=stale))
    assert "is recorded of attempt 2, and came of [1]" in what
    by_a_fallback = [shift(2, 1.0, 2.0).made._replace(at_worker=False)]
    assert list(results_are_of_their_attempt(evidence(COMPLETED, shifts=stale, invocations=by_a_fallback))) == []


@pytest.mark.parametrize(
    ("after", "is_wrong"),
    [
        (shift(1, 0.5, 0.7, node="w1.1"), True),
        (shift(1, 1.0, 1.7, node="w1.1"), False),
        (shift(1, 0.5, 0.7, node="w1.1", epoch=2), False),
        (shift(2, 0.5, 0.7, node="w1.1"), False),
        (shift(1, 0.5, 0.7, node="w1.1", key="r/2/a#1"), False),
    ],
)
def test_an_attempt_at_two_workers_is_found(after: Shift, is_wrong: bool) -> None:
    found = list(one_worker_an_attempt(evidence(shifts=[shift(1, 0.0, 1.0), after])))
    assert bool(found) == is_wrong


def test_what_is_left_lying_is_found() -> None:
    assert list(nothing_is_left_lying(evidence(left_over=["n0.1: r/1/a#1, attempt 1"]))) == ["n0.1: r/1/a#1, attempt 1"]


def told(kind: str, task: str, name: str) -> Told:
    return Told(name, msgspec.json.encode({"type": f"human_task.{kind}", "data": {"task": task, "run": "r"}}))


@pytest.mark.parametrize(
    ("heard", "wrong"),
    [
        ([told("opened", "t", "i")] * 2, None),
        ([], "was told to nobody"),
        ([told("opened", "t", "i"), told("opened", "t", "j")], "under the ids i and j"),
        ([told("opened", "t", "i"), told("expired", "t", "j")], "and no event says so"),
        ([told("opened", "t", "i"), told("expired", "t", "i")], "i is the id of"),
    ],
)
def test_what_was_told_wrongly_is_found(heard: list[Told], wrong: str | None) -> None:
    asked = ev.HumanTaskOpened(call="a#1", task="t", question="?", failure=ev.Failure("refused"))
    found = list(everyone_is_told(evidence(asked, told=heard)))
    assert (wrong is None and found == []) or any(wrong in what for what in found)
    assert list(everyone_is_told(evidence(asked, told=None))) == []


def test_the_calls_of_a_users_workers_are_fetched() -> None:
    app, seen = App("studio"), Counter[str]()

    @app.agent(transport="pull", timeout=2.0)
    async def render(scene: str) -> str:
        seen["render"] += 1
        return scene

    @app.workflow()
    async def film(run: Run, scene: str) -> Any:
        return await run.call(render, scene)

    reports = [simulate(seed, Given(app, [Start("film", b'"dusk"', b'"dawn"')])) for seed in range(4)]
    assert [violation for report in reports for violation in report.violations] == []
    assert seen["render"] >= 8
    assert any(kind.startswith("worker_") for report in reports for kind in report.faults)


def test_a_seed_with_workers_is_always_the_same_schedule() -> None:
    assert simulate(3, FETCHING).digest == simulate(3, FETCHING).digest


def test_workers_and_receivers_are_troubled() -> None:
    reports = [*(simulate(seed, FETCHING) for seed in range(8)), *(simulate(seed, OWN) for seed in range(40))]
    assert [violation for report in reports for violation in report.violations] == []
    kinds = {kind for report in reports for kind in report.faults}
    assert {"worker_crash", "worker_stop", "worker_drain", "worker_cut", "http_lost", "http_answer_lost"} <= kinds
    assert {"webhook_refused", "webhook_late", "webhook_answer_lost"} <= kinds
