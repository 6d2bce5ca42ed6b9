"""Histories recorded by earlier releases replay with this one, in a process with another order of sets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pointsman.kernel.events import EVENT_TYPES, Recorded
from pointsman.kernel.upcast import read_event
from pointsman.testing.replay import load, replay_prefixes
from tests.support import programs

ROOT = Path(__file__).parents[2]
HISTORIES = sorted(Path(__file__).parent.glob("*.jsonl"))

NOT_IN_LAB = {"ChildStarted", "ChildEnded", "CallRefused", "RunStopped"}
"""Events that take two runs, or a coordinator: the conformance and acceptance tests have them."""


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_recorded_history_replays(path: Path) -> None:
    events = load(path)
    state = replay_prefixes(programs.app, "run-1", events)
    assert state.sequence == len(events)
    assert state.is_ended


@pytest.mark.parametrize("mode", ["degraded", "emergency"])
@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_a_replay_is_the_same_whatever_the_mode_is_then(path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    events = load(path)
    before = replay_prefixes(programs.app, "run-1", events)
    monkeypatch.setattr(programs.app.directory, "mode", mode)
    assert replay_prefixes(programs.app, "run-1", events) == before


def test_every_event_type_is_in_some_history() -> None:
    seen = {row.type for path in HISTORIES for row in load(path)}
    assert seen == set(EVENT_TYPES) - NOT_IN_LAB


@pytest.mark.parametrize("seed", ["1", "2"])
def test_histories_replay_under_another_hash_seed(seed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pointsman.cli.main", "replay", "tests.support.programs:app",
         *map(str, HISTORIES)],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}, cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"{len(HISTORIES)} runs checked: {len(HISTORIES)} fit, 0 do not" in done.stdout


def test_a_body_that_iterates_over_a_set_is_caught_by_another_hash_seed() -> None:
    """The check can fail: a workflow whose calls follow the order of a set."""
    script = (
        "import sys\n"
        "from pointsman import App, Run\n"
        "from tests.support.lab import Lab\n"
        "app = App('sets')\n"
        "@app.agent\n"
        "async def echo(word: str) -> str: return word\n"
        "@app.workflow()\n"
        "async def body(run: Run) -> None:\n"
        "    for word in {'a', 'bb', 'ccc', 'dddd', 'eeeee', 'f6', 'g7'}: await run.call(echo, word, key=word)\n"
        "lab = Lab(app, body, answer=lambda p: p.data).run()\n"
        "print([row.type + row.body.decode() for row in lab.log])\n"
    )
    outputs = set()
    for seed in ("1", "2", "3"):
        done = subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        outputs.add(done.stdout)
    assert len(outputs) > 1


def test_an_upcaster_reads_an_older_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EVENT_TYPES["TimerSet"], "VERSION", 2)
    old = Recorded(1, 0, "TimerSet", 1, b'{"call":"sleep#1","due_s":5}')
    upcast = {("TimerSet", 1): lambda fields: {"call": fields["call"], "due": fields["due_s"] * 1000}}
    event = read_event(old, upcast)
    assert event == EVENT_TYPES["TimerSet"](call="sleep#1", due=5_000)  # type: ignore[call-arg]
