"""The journal: whole lines from several processes, and what it counts as a repeat."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pointsman.demo import journal
from pointsman.demo.journal import Line


@dataclass(frozen=True)
class Attempt:
    idempotency_key: str
    attempt: int = 1
    run: str = "r1"
    call: str = "intake#1"
    epoch: int = 3


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    named = tmp_path / "journal"
    monkeypatch.setenv(journal.JOURNAL, str(named))
    return named


async def work(key: str, *, fail: bool = False) -> None:
    async with journal.recorded("intake", Attempt(key)):
        if fail:
            raise ValueError(key)


async def test_an_attempt_leaves_a_start_and_an_end(path: Path) -> None:
    await work("k1")
    start, end = journal.read(path)
    assert (start.event, end.event) == ("start", "end")
    assert (start.key, start.run, start.call, start.epoch, start.pid) == (
        "k1",
        "r1",
        "intake#1",
        3,
        os.getpid(),
    )
    assert end.wall_ms >= start.wall_ms


async def test_a_key_started_twice_is_a_repeat(path: Path) -> None:
    await work("once")
    await work("again")
    await work("again")
    counted = journal.count(journal.read(path))
    assert counted.calls_repeated == 1
    assert counted.repeated == {"again": 2}
    assert counted.repeated_after_end == {"again"}
    assert (counted.starts, counted.ends, counted.calls, counted.agents) == (3, 3, 2, {"intake": 3})


async def test_a_start_without_an_end_and_a_failed_end_are_unfinished(path: Path) -> None:
    with pytest.raises(ValueError, match="failed"):
        await work("failed", fail=True)
    journal.write(Line("start", "intake", "r", "c", 1, "killed", 1, 1, 0.0))
    journal.write(Line("start", "intake", "r", "c", 2, "killed", 2, 2, 0.0))
    counted = journal.count(journal.read(path))
    assert counted.unfinished == {"failed", "killed"}
    assert counted.repeated == {"killed": 2}
    assert counted.repeated_after_end == frozenset()


async def test_without_a_path_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(journal.JOURNAL, raising=False)
    await work("k")
    assert list(tmp_path.iterdir()) == []


def test_lines_of_several_processes_stay_whole(path: Path) -> None:
    code = (
        "from pointsman.demo.journal import Line, write\n"
        "for i in range(500): write(Line('start', 'a' * 200, 'r', 'c', 1, str(i), 1, 1, 0.0))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    counted = journal.count(journal.read(path))
    assert (counted.starts, counted.calls_repeated) == (1500, 500)


def test_a_foreign_line_is_named(path: Path) -> None:
    path.write_text('{"event": "start"}\n')
    with pytest.raises(journal.JournalDamaged, match="line 1"):
        list(journal.read(path))
