"""The command line of failover, and the app that its coordinators load."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec
import pytest

from benchmarks.failover.app import WORKFLOW, Work, app
from benchmarks.failover.command import WORK, add_arguments
from benchmarks.failover.figures import LIMITS_MS
from pointsman import StartRun
from pointsman.demo import journal
from pointsman.stores.memory.database import MemoryDatabase
from pointsman.stores.memory.store import MemoryStore


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


def test_five_samples_of_200_runs_unless_told_otherwise() -> None:
    arguments = parse()
    assert (arguments.runs, arguments.repeat, arguments.store) == (200, 5, None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--runs", "300"], "choose from 200, 2000"),
        (["--repeat", "0"], "give a whole number from 1"),
        (["--repeat", "many"], "give a whole number from 1"),
    ],
)
def test_what_would_measure_nothing_is_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(*arguments)
    assert said in capsys.readouterr().err


def test_each_number_of_runs_has_its_work_and_its_bars() -> None:
    assert WORK.keys() == LIMITS_MS.keys()


async def test_each_step_is_a_call_in_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "calls.jsonl"
    monkeypatch.setenv(journal.JOURNAL, str(path))
    async with app.running(MemoryStore(MemoryDatabase())) as verbs:
        started = await verbs.start(StartRun(WORKFLOW, msgspec.json.encode(Work(steps=3, step_s=0.0))))
        view = await verbs.wait(started.view.head.id, timeout_s=30)
    assert view.head.status == "completed"
    lines = list(journal.read(path))
    assert [each.event for each in lines] == ["start", "end"] * 3
    assert len({each.key for each in lines}) == 3
    assert {each.key for each in lines} == {f"{each.run}/1/{each.call}" for each in lines}
