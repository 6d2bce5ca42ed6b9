"""The mode and the shedding of a small cluster, in virtual time: whole coordinators, whole runs, real load."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from pointsman import AgentError, App, Context, CoordinatorSettings, Retry, Run, StartRun
from pointsman.coordinator.modes.keeper import STREAM
from pointsman.coordinator.modes.shedding import Valve
from pointsman.coordinator.service import Coordinator
from pointsman.coordinator.verbs.runs import CoordinatorRuns
from pointsman.kernel.errors import InvalidValue, Overloaded
from pointsman.kernel.policy.modes import ModePinned, ModeState
from pointsman.ports.event_log import NewEvent
from pointsman.stores.memory import MemoryDatabase, MemoryStore
from pointsman.testing.sim.clocks import SimClock
from pointsman.testing.sim.loop import SimLoop

Test = Callable[[], Coroutine[Any, Any, None]]
CONCURRENCY, CALL_S = 4, 0.1
CAPACITY = CONCURRENCY / CALL_S
DEADLINE_S = 3.0
STEPS = 10
APPEND_S = 0.004
"""What a slow store takes for each run of an append: its capacity is 1 / (APPEND_S * (STEPS + 1)) runs a second."""
SETTINGS: dict[str, Any] = {"shed_wait_s": 1.5, "degraded_wait_s": 1.0, "mode_stay_s": 2.0}


def simulated(test: Test) -> Callable[[], None]:
    """Run a test on the virtual clock."""

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: SimLoop(random.Random(1), steps_max=10_000_000)) as runner:
            runner.run(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def new_app() -> App:
    app = App("desk", generalist="generalist")

    @app.agent(concurrency=CONCURRENCY)
    async def model(text: str) -> str:
        await asyncio.sleep(CALL_S)
        return text

    @app.agent
    async def generalist(text: str) -> str:
        return text

    @app.agent(retry=Retry(attempts=1), fallback=[])
    async def broken(text: str, ctx: Context) -> str:
        raise AgentError("no", kind="refused")

    @app.workflow()
    async def ask(run: Run, text: str) -> str:
        return str(await run.call(model, text))

    @app.workflow()
    async def light(run: Run, text: str) -> str:
        return str(await run.call(generalist, text))

    @app.workflow()
    async def fail(run: Run, text: str) -> str:
        return str(await run.call(broken, text))

    @app.workflow()
    async def long(run: Run, text: str) -> str:
        for _ in range(STEPS):
            text = await run.call(generalist, text)
        return text

    return app


class Cluster:
    """Coordinators on one database, and what a client sees of them."""

    def __init__(self, members: list[Coordinator]) -> None:
        self.members = members
        self.good = self.shed = self.late = 0
        self.now = asyncio.get_running_loop().time

    def modes(self) -> list[str]:
        return [member.directory.mode for member in self.members]

    async def offer(self, rate: float, seconds: float, workflow: str = "ask") -> float:
        """So many new runs a second, whatever becomes of them; how many were done within their deadline, a second."""
        self.good = self.shed = self.late = 0
        tasks = []
        for number in range(round(rate * seconds)):
            member = self.members[number % len(self.members)]
            tasks.append(asyncio.create_task(self._one(CoordinatorRuns(member), workflow)))
            await asyncio.sleep(1 / rate)
        await asyncio.gather(*tasks)
        return self.good / seconds

    async def _one(self, runs: CoordinatorRuns, workflow: str) -> None:
        began = self.now()
        try:
            started = await runs.start(StartRun(workflow, b'"hello"'))
        except Overloaded:
            self.shed += 1
            return
        view = await runs.wait(started.view.head.id, timeout_s=60)
        if view.head.status == "completed" and self.now() - began <= DEADLINE_S:
            self.good += 1
        else:
            self.late += 1

    async def until(self, *modes: str) -> float:
        """Until all coordinators have these modes; how long it took."""
        began = self.now()
        async with asyncio.timeout(60):
            while self.modes() != list(modes):
                await asyncio.sleep(0.01)
        return self.now() - began

    async def changes(self) -> list[dict[str, Any]]:
        rows = await self.members[0].store.system.read(STREAM)
        return [{"type": row.type, **msgspec.json.decode(row.body)} for row in rows]


@asynccontextmanager
async def a_cluster(count: int = 2, **settings: Any) -> AsyncIterator[Cluster]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    database, app = MemoryDatabase(SimClock(loop)), new_app()
    members = [
        app.coordinator(
            MemoryStore(database, clock=SimClock(loop)), CoordinatorSettings(name=f"n{n}", **{**SETTINGS, **settings})
        )
        for n in range(count)
    ]
    for member in members:
        await member.start()
    try:
        yield Cluster(members)
    finally:
        for member in members:
            await member.stop()


@simulated
async def test_goodput_at_three_times_the_capacity_stays_near_that_at_capacity() -> None:
    async with a_cluster() as cluster:
        at_capacity = await cluster.offer(CAPACITY, 5)
        overloaded = await cluster.offer(3 * CAPACITY, 12)
        assert at_capacity > 0.85 * CAPACITY, at_capacity
        assert overloaded >= 0.8 * at_capacity, (overloaded, at_capacity, cluster.shed, cluster.late)
        assert cluster.shed > CAPACITY * 12
        assert cluster.late < 0.1 * cluster.good, (cluster.late, cluster.good)


@simulated
async def test_without_shedding_nearly_everything_is_late() -> None:
    """The same load can tell: this is what shedding is for."""
    async with a_cluster(shed_wait_s=1e6) as cluster:
        assert await cluster.offer(3 * CAPACITY, 12) < 0.5 * CAPACITY
        assert (cluster.shed, cluster.late) == (0, 36 * CAPACITY - cluster.good)


@simulated
async def test_overload_degrades_the_cluster_and_its_end_brings_it_back() -> None:
    async with a_cluster() as cluster:
        load = asyncio.create_task(cluster.offer(3 * CAPACITY, 10))
        assert await cluster.until("degraded", "degraded") < 5
        await load
        assert await cluster.until("full", "full") < 10
        up, down = await cluster.changes()
    assert (up["mode"], up["before"], up["signal"], up["threshold"]) == ("degraded", "full", "wait", 1.0)
    assert up["value"] >= 1.0
    assert up["coordinator"] in ("n0", "n1")
    assert (down["mode"], down["before"]) == ("full", "degraded")


def slow(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """All coordinators append to one disk, which takes its time for each run."""
    disk = asyncio.Lock()
    for member in cluster.members:
        log = member.store.log

        async def append(batch: Any, *, lane: int, append: Any = log.append) -> Any:
            async with disk:
                await asyncio.sleep(APPEND_S * len(batch))
            return await append(batch, lane=lane)

        monkeypatch.setattr(log, "append", append)


@pytest.mark.parametrize("is_shedding", [True, False])
def test_a_store_that_is_too_slow_for_all_is_fast_enough_for_some(
    is_shedding: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    capacity = 1 / (APPEND_S * (STEPS + 1))

    @simulated
    async def test() -> None:
        settings = {"shed_wait_s": 1.0 if is_shedding else 1e6, "degraded_store_s": 5.0, "emergency_store_s": 5.0}
        async with a_cluster(1, **settings) as cluster:
            slow(cluster, monkeypatch)
            await cluster.offer(0.5 * capacity, 4, "long")
            assert cluster.shed == 0
            goodput = await cluster.offer(3 * capacity, 10, "long")
        assert (goodput >= 0.7 * capacity) == is_shedding
        assert bool(cluster.members[0].stats.runs_shed.get("coordinator")) == is_shedding

    test()


@simulated
async def test_what_does_not_wait_is_not_shed() -> None:
    """Another workflow's agents have nothing to do."""
    async with a_cluster() as cluster:
        load = asyncio.create_task(cluster.offer(3 * CAPACITY, 10))
        await cluster.until("degraded", "degraded")
        other = Cluster(cluster.members)
        assert await other.offer(20, 3, "light") == 20
        assert other.shed == 0
        await load
        assert cluster.shed


@simulated
async def test_what_was_accepted_is_never_shed() -> None:
    async with a_cluster(1) as cluster:
        runs = CoordinatorRuns(cluster.members[0])
        await runs.start(StartRun("ask", b'"mine"', id="mine"))
        load = asyncio.create_task(cluster.offer(4 * CAPACITY, 8))
        await cluster.until("degraded")
        waits = []
        for number in range(200):
            again = await runs.start(StartRun("ask", b'"mine"', id="mine"))
            assert not again.created
            try:
                await runs.start(StartRun("ask", b'"new"', id=f"new-{number}"))
            except Overloaded as error:
                waits.append(error.retry_after_s)
            await asyncio.sleep(0.01)
        assert waits
        assert all(1 <= wait <= 30 for wait in waits)
        assert cluster.members[0].stats.runs_shed["agents"] >= len(waits)
        await load


@simulated
async def test_a_person_decides_until_the_mode_is_released() -> None:
    async with a_cluster() as cluster:
        one, two = (member.modes for member in cluster.members)
        said = await one.set("emergency", by="ann", reason="a fire")
        assert (said.mode, said.pinned, said.by, said.cause) == ("emergency", "emergency", "ann", "a fire")
        assert await cluster.until("emergency", "emergency") < 1
        await one.set("emergency", by="ann")
        assert len(await cluster.changes()) == 1
        load = asyncio.create_task(cluster.offer(3 * CAPACITY, 8))
        await asyncio.sleep(6)
        assert cluster.modes() == ["emergency", "emergency"]
        said = await two.set("auto", by="bob")
        assert (said.mode, said.pinned) == ("degraded", None)
        assert await cluster.until("degraded", "degraded") < 1
        assert [change["type"] for change in await cluster.changes()] == ["ModePinned", "ModeChanged", "ModeUnpinned"]
        assert {signal.name for signal in said.signals} == {"wait", "lag", "store", "errors", "memory"}
        assert next(signal for signal in said.signals if signal.name == "wait").value >= 1
        with pytest.raises(InvalidValue, match="no mode"):
            await one.set("panic", by="ann")
        with pytest.raises(InvalidValue, match="who"):
            await one.set("full", by="")
        await load


@simulated
async def test_two_that_decide_at_once_append_one_after_the_other() -> None:
    async with a_cluster() as cluster:
        one, two = (member.modes for member in cluster.members)
        for member in cluster.members:  # a store that takes its time: both have read before either appends
            log = member.store.system

            async def head(stream: str, read: Any = log.head) -> Any:
                found = await read(stream)
                await asyncio.sleep(0.01)
                return found

            log.head = head  # type: ignore[method-assign]
        await asyncio.gather(one.set("degraded", by="ann"), two.set("emergency", by="bob"))
        first, second = await cluster.changes()
        assert {first["by"], second["by"]} == {"ann", "bob"}
        await cluster.until(second["mode"], second["mode"])


@simulated
async def test_agents_that_fail_degrade_the_cluster() -> None:
    async with a_cluster(1, errors_window_s=3.0, mode_stay_s=1.0) as cluster:
        await cluster.offer(20, 2, "fail")
        await cluster.until("emergency")
        [change] = await cluster.changes()
        assert (change["signal"], change["value"]) == ("errors", 1.0)
        await cluster.until("full")


@simulated
async def test_a_few_failures_say_nothing() -> None:
    async with a_cluster(1) as cluster:
        await cluster.offer(10, 1, "fail")
        await asyncio.sleep(3)
        assert await cluster.changes() == []


@simulated
async def test_a_mode_that_a_newer_release_wrote_is_left_alone() -> None:
    async with a_cluster(1) as cluster:
        log = cluster.members[0].store.system
        await log.append(STREAM, 0, [NewEvent("ModeSplit", 1, 1, b"{}")], b'{"measured":7}')
        await asyncio.sleep(2)
        assert cluster.modes() == ["full"]
        state = ModeState(pinned="degraded", by="ann")
        body = msgspec.json.encode(ModePinned("degraded", "ann"))
        await log.append(STREAM, 1, [NewEvent("ModePinned", 1, 1, body)], msgspec.json.encode(state))
        await cluster.until("degraded")


def test_a_valve_lets_an_even_share_pass() -> None:
    valve = Valve(0.85)
    for _ in range(3):
        valve.adjust(1.25, 1.0)
    assert valve.share == pytest.approx(0.85**3)
    late = Valve(0.85)
    late.adjust(1.25, 1.0, seconds=0.3)
    assert late.share == pytest.approx(0.85**3), "whoever is behind samples seldom, and sheds as much"
    passed = [valve.passes() for _ in range(1_000)]
    assert sum(passed) == pytest.approx(614, abs=2)
    assert not any(all(passed[n : n + 3]) for n in range(900))
    for _ in range(100):
        valve.adjust(2.0, 1.0)
    assert valve.share > 0
    for _ in range(100):
        valve.adjust(0.5, 1.0)
    assert valve.share == 1.0


@pytest.mark.parametrize(("setting", "value"), [("emergency_lag_s", 0.1), ("mode_leave", 1.0), ("shed_wait_s", 0)])
def test_settings_that_make_no_sense_are_refused(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=setting):
        CoordinatorSettings(**{setting: value})
