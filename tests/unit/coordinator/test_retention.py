"""The duty of retention on a virtual clock: who takes the turn, when, and that a turn may stop anywhere."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pointsman.coordinator.retention import DAY_MS, RetentionDuty, take_turn
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.kernel.errors import StoreUnavailable
from pointsman.observe.stats import Stats
from pointsman.ports.retention import BUCKET_MS
from pointsman.stores.memory import MemoryDatabase, MemoryStore
from pointsman.testing.conformance.support import Coordinator
from pointsman.testing.sim.clocks import SimClock
from pointsman.testing.sim.loop import SimLoop

Test = Callable[[], Coroutine[Any, Any, None]]
DAYS = 30
EVERY_S = 3_600


def simulated(test: Test) -> Callable[[], None]:
    """Run a test on the virtual clock."""

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: SimLoop(random.Random(1), steps_max=10_000_000)) as runner:
            runner.run(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class Node:
    """One coordinator, as far as retention goes."""

    def __init__(self, database: MemoryDatabase, **settings: Any) -> None:
        self.store = MemoryStore(database)
        self.stats = Stats()
        self.incarnation = 0
        chosen = CoordinatorSettings(**{"retention_days": DAYS, "retention_every_s": EVERY_S, **settings})
        self.duty = RetentionDuty(chosen, self.store, self.stats, lambda: self.incarnation)

    async def start(self, name: str) -> Node:
        await self.store.open()
        # A virtual month: a lease that is renewed every 12 minutes does.
        self.coordinator = Coordinator(
            self.store, await self.store.liveness.register(name, "", [], ttl_ms=EVERY_S * 1000)
        )
        self.incarnation = self.coordinator.number
        self.duty.start()
        return self

    async def stop(self) -> None:
        await self.duty.stop()
        await self.store.close()


def new_database() -> MemoryDatabase:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    return MemoryDatabase(SimClock(loop))


async def end_some(node: Node, *runs: str) -> None:
    a = node.coordinator
    await a.moved(*(a.create(run) for run in runs))
    await a.moved(*(a.finish(run, 1) for run in runs))


@simulated
async def test_runs_are_deleted_when_their_days_are_over_and_not_before() -> None:
    database = new_database()
    node = await Node(database).start("a")
    await end_some(node, "ended")
    await node.coordinator.moved(node.coordinator.create("open"))
    bucket = node.store.bucket()
    await asyncio.sleep(DAYS * 86_400 - EVERY_S)
    assert "ended" in database.runs
    await asyncio.sleep(2 * EVERY_S + 1)
    assert list(database.runs) == ["open"]
    assert (node.stats.runs_deleted, node.stats.runs_moved) == (1, 0)
    await asyncio.sleep(BUCKET_MS / 1000)  # now the whole week in which it started is past
    assert bucket not in database.buckets
    assert (await node.coordinator.head("open")).bucket > bucket
    assert (node.stats.runs_deleted, node.stats.runs_moved, node.stats.buckets_dropped) == (1, 1, 1)
    await node.stop()


@simulated
async def test_nothing_is_deleted_without_a_setting() -> None:
    database = new_database()
    node = await Node(database, retention_days=0).start("a")
    await end_some(node, "ended")
    await asyncio.sleep(2 * 365 * 86_400)
    assert "ended" in database.runs
    await node.stop()


@simulated
async def test_one_coordinator_at_a_time_takes_the_turn() -> None:
    """The one that has lived longest; when it goes, the next."""
    database = new_database()
    first, second = [await Node(database).start(name) for name in ("a", "b")]
    await end_some(second, "one")
    await asyncio.sleep((DAYS + 1) * 86_400)
    assert (first.stats.runs_deleted, second.stats.runs_deleted) == (1, 0)
    await end_some(second, "two")
    await first.coordinator.lease.release()
    await first.stop()
    await asyncio.sleep((DAYS + 1) * 86_400)
    assert (first.stats.runs_deleted, second.stats.runs_deleted) == (1, 1)
    await second.stop()


@simulated
async def test_a_turn_goes_on_after_the_store_was_out_of_reach() -> None:
    """And what it did until then is counted."""
    database = new_database()
    node = await Node(database, retention_batch=1).start("a")
    await end_some(node, "one", "two", "three")
    delete, calls = node.store.retention.delete, 0

    async def unreachable_for_once(before: int, *, limit: int) -> int:
        nonlocal calls
        calls += 1
        if "one" not in database.runs and "two" in database.runs and calls % 2 == 0:
            raise StoreUnavailable
        return await delete(before, limit=limit)

    node.store.retention.delete = unreachable_for_once  # type: ignore[method-assign]
    await asyncio.sleep((DAYS + 1) * 86_400)
    assert not database.runs
    assert node.stats.runs_deleted == 3
    await node.stop()


class Crash(Exception):
    pass


async def old_world() -> tuple[MemoryDatabase, Coordinator]:
    """Two buckets that are long past, with ended runs, families and open runs; one of today."""
    database = new_database()
    store = MemoryStore(database)
    await store.open()
    a = Coordinator(store, await store.liveness.register("a", "", [], ttl_ms=EVERY_S * 1000))
    for bucket in (1, 2):
        await a.moved(*(a.create(f"{bucket}/ended-{n}", bucket=bucket) for n in range(5)))
        await a.moved(*(a.finish(f"{bucket}/ended-{n}", 1) for n in range(5)))
        for parent, is_open in (("open", True), ("over", False)):
            name = f"{bucket}/{parent}"
            await a.moved(a.create(name, bucket=bucket), a.create(f"{name}/child", parent=name, bucket=bucket))
            await a.moved(a.finish(f"{name}/child", 1))
            if not is_open:
                await a.moved(a.finish(name, 1))
    await asyncio.sleep(DAYS * 86_400)
    await a.moved(a.create("young"))
    await a.moved(a.finish("young", 1))
    return database, a


def test_a_turn_that_stops_between_any_two_steps_is_finished_by_the_next() -> None:
    kept = [f"{bucket}/open{child}" for bucket in (1, 2) for child in ("", "/child")] + ["young"]
    steps = 0

    async def stopped_after(step: int) -> bool:
        database, a = await old_world()
        before, left = a.store.clock.now() - DAY_MS, step

        async def pause() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Crash

        try:
            await take_turn(a.store.retention, before, batch=2, pause=pause)
            is_over = True
        except Crash:
            is_over = False
        assert set(kept) <= set(database.runs)
        turn = await take_turn(a.store.retention, before, batch=2, pause=nothing)
        assert sorted(database.runs) == sorted(kept)
        assert not turn.left
        assert database.buckets == {a.store.bucket()}
        for run in kept:
            assert len(await a.stream(run)) == (await a.head(run)).sequence > 0
        return is_over

    is_over = False
    while not is_over:
        with asyncio.Runner(loop_factory=lambda: SimLoop(random.Random(1), steps_max=10_000_000)) as runner:
            is_over = runner.run(stopped_after(steps))
        steps += 1
    assert steps > 12


async def nothing() -> None:
    pass


@pytest.mark.parametrize("days", [-1, -30])
def test_a_negative_age_is_refused(days: int) -> None:
    with pytest.raises(ValueError, match="retention_days"):
        CoordinatorSettings(retention_days=days)
