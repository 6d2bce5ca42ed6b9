"""Claimed runs on their way to a driver, where something comes between."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from pointsman import App, CoordinatorSettings, Run
from pointsman.agents.record import AgentRecord, read_card
from pointsman.coordinator.owning.cache import ExecutionCache
from pointsman.coordinator.owning.loading import Loading
from pointsman.kernel import events as ev
from pointsman.kernel.checksum import beginning, following
from pointsman.kernel.errors import InvalidValue, StoreUnavailable
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

    async def read_many(self, after: Mapping[str, int], *, limit: int, bytes_max: int) -> Any:
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


async def nothing() -> None:
    """Every agent is known."""


@pytest.fixture
def loading(log: Log, cache: ExecutionCache) -> Loading:
    crew = SimpleNamespace(lease=SimpleNamespace(incarnation=7))
    store = SimpleNamespace(log=log, ownership=None)
    to = SimpleNamespace(crew=crew, take_on=lambda driver: None)
    return Loading(CoordinatorSettings(name="a"), store, app.directory, Stats(), cache, to, nothing)  # type: ignore[arg-type]


async def test_what_was_in_memory_leaves_it_when_its_batch_is_stopped(loading: Loading, log: Log) -> None:
    loading.begin([head("other"), head("kept")])
    await log.asked.wait()
    assert left == []
    await loading.stop()
    assert left == ["kept"]
    assert loading.runs == {}


async def test_what_is_stopped_before_it_began_is_not_on_its_way_for_ever(loading: Loading, log: Log) -> None:
    loading.begin([head("other")])
    await loading.stop()
    assert not log.asked.is_set()
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


carrying = App("late")
COURIER = msgspec.json.encode(
    {
        "name": "courier", "url": "http://10.1.2.3/", "output_schema": {"type": "string"},
        "input_schema": {"type": "object", "properties": {"text": {"type": "string"}}},
    }
)  # fmt: skip


@carrying.workflow(name="waits")
async def carries(run: Run) -> None:
    await run.call("courier", text="parcel")


class LateDirectory:
    """Hears of an agent that registered when it looks for the third time."""

    def __init__(self) -> None:
        self.directory = carrying.new_directory()
        self.asked = 0

    async def refresh(self) -> None:
        self.asked += 1
        if self.asked == 1:
            raise StoreUnavailable("not now")
        if self.asked == 2:
            raise InvalidValue("another database")
        self.directory.apply({"courier": AgentRecord(card=read_card(COURIER))})


def _log_of_run() -> list[ev.Recorded]:
    """Of a run that called the agent, where it was known."""
    there = LateDirectory()
    there.asked = 2
    asyncio.run(there.refresh())
    execution = Execution("run", carries, there.directory)
    execution.begin(ev.with_input(ev.RunStarted, b"{}", workflow="waits", seed="s")[0], b"{}", 1)
    rows: list[ev.Recorded] = []
    checksum = beginning("run")
    for n, produced in enumerate(execution.take(), 1):
        name = type(produced.event).__name__
        checksum = following(checksum, n, 1, name, 1, 1, produced.body)
        rows.append(ev.Recorded(n, 1, name, 1, produced.body, 1, checksum))
    execution.close()
    return rows


def test_an_agent_that_registered_elsewhere_a_moment_ago_stops_no_run() -> None:
    late = LateDirectory()
    rows = _log_of_run()
    driven: list[Any] = []

    async def read_many(after: Mapping[str, int], *, limit: int, bytes_max: int) -> Any:
        return {"run": rows}

    async def scenario() -> None:
        crew = SimpleNamespace(
            lease=SimpleNamespace(incarnation=7), on_moved=None, on_notice=None, ids=SimpleNamespace(nonce=bytes),
            stats=Stats(), store=SimpleNamespace(clock=SimpleNamespace(now=int)), effects=None,
            settings=CoordinatorSettings(name="a"), dispatcher=None, gates=None, purses=None, directory=late.directory,
        )  # fmt: skip
        store = SimpleNamespace(log=SimpleNamespace(read_many=read_many), ownership=None)
        to = SimpleNamespace(crew=crew, take_on=driven.append)
        settings = CoordinatorSettings(name="a", takeover_retry_ms=1)
        loading = Loading(
            settings, store, late.directory, Stats(), ExecutionCache(), to, late.refresh  # type: ignore[arg-type]
        )  # fmt: skip
        loading.begin([head("run")])
        await asyncio.gather(*loading._batches)

    asyncio.run(scenario())
    assert [driver.run for driver in driven] == ["run"]
    assert late.asked == 3
    driven[0].execution.close()
