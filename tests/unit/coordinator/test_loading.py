"""Claimed runs on their way to a driver, where something comes between."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from pointsman import App, CoordinatorSettings, Run
from pointsman.coordinator.cache import ExecutionCache
from pointsman.coordinator.loading import Loading
from pointsman.kernel import events as ev
from pointsman.kernel.execution import Execution
from pointsman.observe.stats import Stats
from pointsman.ports.event_log import Head

left: list[str] = []
app = App("loading")


@app.workflow()
async def waits(run: Run) -> None:
    try:
        await run.wait_for("go")
    finally:
        left.append(run.id)


class Log:
    """A log whose answers wait."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer: asyncio.Queue[Exception] = asyncio.Queue()

    async def read_many(self, after: Mapping[str, int], *, limit: int) -> Any:
        self.asked.set()
        raise await self.answer.get()


def head(run: str, epoch: int = 2, takeovers: int = 0) -> Head:
    return Head(
        id=run, workflow="waits", version=1, build="", status="running", sequence=2, epoch=epoch, owner=7, mail=0,
        folded=0, takeovers=takeovers, wake_at=None, tenant="default", attributes={}, digest="", bucket=0, parent=None,
        created_at=0, updated_at=0, ended_at=None,
    )  # fmt: skip


@pytest.fixture
def log() -> Log:
    left.clear()
    return Log()


@pytest.fixture
def cache() -> ExecutionCache:
    """Run `kept` is in it, and waits."""
    execution = Execution("kept", waits, app.directory)
    execution.begin(ev.RunStarted(workflow="waits", seed="s"), b"{}", 1)
    execution.take()
    cache = ExecutionCache()
    cache.put(execution, 1, bytes_max=1_000_000)
    return cache


@pytest.fixture
def loading(log: Log, cache: ExecutionCache) -> Loading:
    crew = SimpleNamespace(lease=SimpleNamespace(incarnation=7))
    store = SimpleNamespace(log=log, ownership=None)
    to = SimpleNamespace(crew=crew, take_on=lambda driver: None)
    return Loading(CoordinatorSettings(name="a"), store, app.directory, Stats(), cache, to)  # type: ignore[arg-type]


async def test_what_was_in_memory_leaves_it_when_its_batch_is_stopped(loading: Loading, log: Log) -> None:
    loading.begin([head("other"), head("kept")])
    await log.asked.wait()
    assert left == []
    await loading.stop()
    assert left == ["kept"]
    assert loading.runs == {}


async def test_a_run_that_is_claimed_again_meanwhile_stays_on_its_way(loading: Loading, log: Log) -> None:
    loading.begin([head("run", epoch=2)])
    await log.asked.wait()
    log.asked.clear()
    loading.begin([head("run", epoch=3)])
    await log.asked.wait()
    log.answer.put_nowait(ValueError("a bug"))
    await loading.room()
    assert loading.runs == {"run": 3}
    await loading.stop()
    assert loading.runs == {}
