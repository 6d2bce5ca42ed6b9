"""The mode of a cluster: when it changes, and what a body sees of it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest

from pointsman import App, Run
from pointsman.kernel.errors import InvalidValue
from pointsman.kernel.events import Event
from pointsman.kernel.policy import modes
from pointsman.kernel.policy.modes import ModeChanged, ModePolicy, ModeState, Threshold
from pointsman.kernel.state import PendingCall
from tests.support import programs
from tests.support.lab import Lab

POLICY = ModePolicy({"lag": Threshold(1.0, 4.0), "errors": Threshold(0.5, 0.9)}, leave=0.5, stay_ms=10_000)
TICK_MS = 250

Change = Callable[..., list[Event]]


def drive(values: Sequence[float], policy: ModePolicy = POLICY, change: Change = modes.change) -> list[tuple[int, str]]:
    """When the mode changed (ms), and to what, with one coordinator that measures `lag` at every tick."""
    state, changes = ModeState(), []
    looks: list[dict[str, float]] = []
    for number, value in enumerate(values):
        now = 1_000_000 + number * TICK_MS
        looks.append({"lag": value})
        for event in change(state, looks, [], policy, now, "one"):
            state = modes.evolve(state, event, now)
            changes.append((now, state.mode))
    return changes


def flaps(changes: Sequence[tuple[int, str]], stay_ms: int = 10_000) -> bool:
    """Was a mode left for a lesser one before its time, or entered again so soon that it should not have been left?"""
    level = 0
    entered_at = left_at = -math.inf
    for at, mode in changes:
        after = modes.MODES.index(mode)
        if after < level and at - entered_at < stay_ms:
            return True
        if after > level and at - left_at < 2_000:
            return True
        entered_at, left_at, level = at, at if after < level else left_at, after
    return False


def around_the_threshold() -> list[float]:
    chance = random.Random(7)
    return [1.0 + chance.uniform(-0.3, 0.3) for _ in range(400)]


def in_waves() -> list[float]:
    return [0.9 * (1 + math.sin(n / 20)) for n in range(800)]


def spikes() -> list[float]:
    return [5.0 if n % 60 == 0 else 0.0 for n in range(400)]


def bursts() -> list[float]:
    return [2.0 if n % 24 < 8 else 0.0 for n in range(400)]


WORKLOADS = [around_the_threshold, in_waves, spikes, bursts]


@pytest.mark.parametrize("values", WORKLOADS)
def test_a_signal_around_its_threshold_does_not_make_the_mode_flap(values: Callable[[], list[float]]) -> None:
    assert not flaps(drive(values()))


def test_one_spike_is_no_reason() -> None:
    assert drive(spikes()) == []


def test_up_at_once_by_as_much_as_it_takes_and_down_by_one_step_at_a_time() -> None:
    changes = drive([0.0] * 4 + [9.0] * 8 + [0.0] * 200)
    assert [mode for _, mode in changes] == ["emergency", "degraded", "full"]
    up, down, down_again = (at for at, _ in changes)
    assert up == 1_000_000 + 5 * TICK_MS
    assert down - up >= 10_000
    assert down_again - down >= 10_000


MUTANTS: dict[str, tuple[ModePolicy, Change]] = {
    "what enters leaves": (ModePolicy(POLICY.thresholds, leave=1.0, stay_ms=10_000), modes.change),
    "no minimum stay": (ModePolicy(POLICY.thresholds, leave=0.5, stay_ms=0), modes.change),
    "one look is enough": (
        POLICY, lambda state, own, *rest: modes.change(state, [own[-1], own[-1]], *rest),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_without_one_of_its_parts_the_hysteresis_flaps_or_takes_a_spike_for_a_reason(name: str) -> None:
    policy, change = MUTANTS[name]
    results = [drive(values(), policy, change) for values in WORKLOADS]
    assert any(flaps(changes) for changes in results) or results[WORKLOADS.index(spikes)]


def test_another_coordinator_that_is_not_well_keeps_the_mode() -> None:
    state = ModeState(measured="degraded")
    calm, now = [{"lag": 0.0}] * 2, 60_000
    assert modes.change(state, calm, [{"lag": 0.6}], POLICY, now, "one") == []
    assert modes.change(state, calm, [{"lag": 0.4}], POLICY, now, "one") == [
        ModeChanged("full", "degraded", coordinator="one")
    ]


def test_the_cause_is_the_signal_that_was_measured() -> None:
    [event] = modes.change(ModeState(), [{"errors": 0.95, "lag": 1.5}] * 2, [], POLICY, 5, "one")
    assert event == ModeChanged("emergency", "full", "errors", 0.95, 0.9, "one")
    state = modes.evolve(ModeState(), event, 5)
    assert (state.mode, state.since, state.by) == ("emergency", 5, "one")
    assert "errors 0.95" in state.cause


def test_a_pin_wins_until_it_is_released() -> None:
    state = ModeState()
    for event in modes.pin(state, "emergency", "ann", "a fire"):
        state = modes.evolve(state, event, 1)
    assert (state.mode, state.by, state.cause) == ("emergency", "ann", "a fire")
    [measured] = modes.change(state, [{"lag": 2.0}] * 2, [], POLICY, 2, "one")
    state = modes.evolve(state, measured, 2)
    assert (state.mode, state.measured, state.since) == ("emergency", "degraded", 1)
    for event in modes.unpin(state, "bob", ""):
        state = modes.evolve(state, event, 3)
    assert (state.mode, state.by, state.since) == ("degraded", "bob", 3)
    assert modes.unpin(state, "bob", "") == []


def test_a_mode_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidValue, match="full, degraded, emergency, or auto"):
        modes.pin(ModeState(), "panic", "ann", "")


# -- what a body sees -----------------------------------------------------------------------------------------------


def answer(pending: PendingCall) -> bytes:
    return b"6" if pending.target == "double" else pending.data


def thrifty(monkeypatch: pytest.MonkeyPatch, evicted_under: str = "") -> Lab:
    """Three rounds: degraded, full, emergency; evicted before every step, and brought back under another mode."""
    directory = programs.app.directory
    modes_of = iter(("degraded", "full", "emergency"))
    monkeypatch.setattr(directory, "mode", next(modes_of))
    workflow = directory.workflow("thrifty")
    assert workflow is not None
    lab = Lab(programs.app, workflow, b"3", answer=answer, evict=lambda step: bool(evicted_under))
    reload, now = lab._reload, directory.mode

    def under_another_mode() -> None:
        nonlocal now
        now, directory.mode = directory.mode, evicted_under
        reload()
        directory.mode = now

    monkeypatch.setattr(lab, "_reload", under_another_mode)
    for _ in range(3):
        lab.run()
        directory.mode = next(modes_of, "full")
        lab.signal("next")
    return lab


def test_what_a_body_does_by_the_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    assert thrifty(monkeypatch).output == [
        "degraded", "generalist", 0, "none", 3, "generalist", "degraded",
        "full", "pack", 6, 3, 3, "double", "full",
        "emergency", "understudy", 0, "none", -1, "generalist", "emergency",
    ]  # fmt: skip


@pytest.mark.parametrize("mode", modes.MODES)
def test_a_run_that_comes_back_under_another_mode_goes_on_as_it_was(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert thrifty(monkeypatch, evicted_under=mode).log == thrifty(monkeypatch).log


def optional(wanted: dict[str, object], mode: str, monkeypatch: pytest.MonkeyPatch) -> Lab:
    app = App("optional")

    @app.agent
    async def recall(n: int) -> int:
        return n

    @app.workflow()
    async def body(run: Run) -> int:
        return int(await run.call(recall, 1, **wanted))

    monkeypatch.setattr(app.directory, "mode", mode)
    return Lab(app, body, answer=answer)


def test_a_call_is_optional_for_something(monkeypatch: pytest.MonkeyPatch) -> None:
    failure = optional({"optional": "luck", "default": 1}, "full", monkeypatch).failure
    assert failure.kind == "invalid_value"
    assert "memory or evaluation" in failure.message


def test_an_optional_call_without_a_default_fails_and_can_be_redriven(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = optional({"optional": "memory"}, "degraded", monkeypatch)
    assert (lab.failure.kind, lab.types) == ("omitted", ["RunStarted", "CallOmitted", "RunFailed"])
    assert "the mode is degraded" in lab.failure.message
    monkeypatch.setattr(lab.app.directory, "mode", "full")
    lab.redrive()
    assert lab.run().output == 1
