"""Fixtures: a small made-up data file, a world in this process that stands on it, and the real data where it is."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.triage import agents, data
from benchmarks.triage.data import INTENTS, Ticket
from benchmarks.triage.plan import Plan

ROWS_AN_INTENT = 4


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    """Four rows an intent, in the words of its name."""
    path = tmp_path / "tickets.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(data.FIELDS)
        for intents in INTENTS.values():
            for intent in intents:
                words = intent.replace("_", " ")
                writer.writerows((f"my {words}, please, {number}", intent) for number in range(ROWS_AN_INTENT))
    return path


@pytest.fixture
def make_world(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Plan], agents.World]]:
    """This process's world, under a plan of the test's own."""

    def make(plan: Plan) -> agents.World:
        setup = agents.Setup(str(small_file), plan, count=20, per_second=1000.0)
        monkeypatch.setenv(agents.SETUP, str(agents.prepare(tmp_path, setup)))
        agents.world.cache_clear()
        return agents.world()

    yield make
    agents.world.cache_clear()


@pytest.fixture(scope="session")
def real_tickets() -> list[Ticket]:
    try:
        return data.load(data.DEFAULT_DATA)
    except data.DataMissing as error:
        pytest.skip(str(error))
