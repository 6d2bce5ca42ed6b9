"""What becomes of a process that dies when another one can't be started at once. The process is `sleep`."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pointsman.cluster import child as module
from pointsman.cluster.backoff import Backoff
from pointsman.cluster.child import Child
from pointsman.cluster.local import LocalCluster


async def until(probe: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not probe():
            await asyncio.sleep(0.005)


async def test_one_that_can_not_be_started_now_is_started_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pointsman.cluster")
    monkeypatch.setattr(module, "COMMAND", ("sleep",))
    logs, away = tmp_path / "logs", tmp_path / "away"
    logs.mkdir()
    child = Child("one", "coordinator", "x:1", logs / "one.log", ["1000"], {}, backoff=Backoff(0.01))
    await child.spawn()
    child.keep(restart=True)
    try:
        logs.rename(away)  # its log can't be opened
        child.send(signal.SIGKILL)
        await until(lambda: caplog.text.count("one can't be started") >= 2)
        assert child.pid is None
        away.rename(logs)
        await until(lambda: child.pid is not None)
        child.send(signal.SIGKILL)
        await until(lambda: child.starts == 3)
    finally:
        assert child.keeper is not None
        child.keeper.cancel()
        await asyncio.gather(child.keeper, return_exceptions=True)
        await child.end()


async def test_a_list_of_processes_that_can_not_be_written_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "COMMAND", ("sleep",))
    cluster = LocalCluster("x:app", 1, directory=tmp_path / "gone", store="postgresql://nowhere")
    cluster._add("router", "router", "127.0.0.1:1", ["1000"], {})
    child = cluster.children["router"]
    child.log, child.arguments = tmp_path / "router.log", ["1000"]
    await child.spawn()
    try:
        assert cluster.pids() == {"router": child.pid}
        assert "processes.json is not up to date" in caplog.text
    finally:
        await child.end()
