"""When a process is replaced: its age, its memory, and the one turn of the cluster. In virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from pointsman.kernel.errors import StoreUnavailable
from pointsman.node.recycling import MEGABYTE, Limits, MemoryUnknown, Recycler, rss_bytes
from pointsman.node.turn import STREAM, Turn
from pointsman.stores.memory import MemoryDatabase, MemoryStore
from pointsman.testing.sim.clocks import SimClock
from pointsman.testing.sim.loop import SimLoop

AWAY_S = 10.0


class Cluster:
    """Coordinators on one database, whose clock is the loop's: what each does to be replaced, and nothing else."""

    def __init__(self, loop: SimLoop) -> None:
        self.loop = loop
        self.clock = SimClock(loop)
        self.database = MemoryDatabase(self.clock)
        self.away: set[str] = set()
        self.away_most = 0
        self.replaced: list[tuple[str, float]] = []

    async def store(self) -> MemoryStore:
        store = MemoryStore(self.database)
        await store.open()
        return store

    async def turn(self, name: str) -> Turn:
        return Turn(name, (await self.store()).system, self.clock)

    async def process(self, name: str, limits: Limits, *, takes_s: float, dies: bool = False, **more: Any) -> None:
        """One process slot: replaced again and again; `dies`: after its first leave it never comes back."""
        turn = await self.turn(name)
        while True:
            await turn.give_back()
            self.away.discard(name)
            recycler = Recycler(limits, turn, away_ms=round(AWAY_S * 1000), clock=self.loop.time, **more)
            recycler.start()
            await recycler.is_due.wait()
            await recycler.stop()
            self.away.add(name)
            self.away_most = max(self.away_most, len(self.away))
            self.replaced.append((name, self.loop.time()))
            if dies:
                self.away.discard(name)
                return
            await asyncio.sleep(takes_s)


@pytest.fixture(params=[1, 2, 3])
def in_virtual_time(request: pytest.FixtureRequest) -> Iterator[Callable[[Callable[[Cluster], Awaitable[None]]], None]]:
    loop = SimLoop(random.Random(request.param), steps_max=2_000_000)

    def run(test: Callable[[Cluster], Awaitable[None]]) -> None:
        async def main() -> None:
            await test(Cluster(loop))

        loop.run_until_complete(main())

    yield run
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.call_later(0.1, loop.stop)
    loop.run_forever()
    loop.close()


async def for_a_while(seconds: float, *processes: Awaitable[None]) -> None:
    tasks = [asyncio.ensure_future(process) for process in processes]
    await asyncio.wait(tasks, timeout=seconds)
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert result is None or isinstance(result, asyncio.CancelledError), result


def test_all_are_replaced_at_their_age_and_never_two_are_away(in_virtual_time: Any) -> None:
    async def scenario(cluster: Cluster) -> None:
        limits = Limits(age_s=60)
        await for_a_while(300, *(cluster.process(name, limits, takes_s=5) for name in "abc"))
        assert cluster.away_most == 1
        times = {name: [at for who, at in cluster.replaced if who == name] for name in "abc"}
        for at in times.values():
            assert 54 <= at[0] <= 75, "between 90 % of the age and the last turn of three"
            assert 4 <= len(at) <= 6
        assert len({round(at[0], 3) for at in times.values()}) == 3

    in_virtual_time(scenario)


def test_with_less_age_than_two_replacements_take_nobody_is_left_out(in_virtual_time: Any) -> None:
    async def scenario(cluster: Cluster) -> None:
        limits = Limits(age_s=5)
        await for_a_while(300, *(cluster.process(name, limits, takes_s=8) for name in "abc"))
        assert cluster.away_most == 1
        order = [name for name, _ in cluster.replaced]
        assert len(order) >= 24
        assert all(set(order[at : at + 3]) == set("abc") for at in range(3, len(order) - 3, 3)), "each in its turn"

    in_virtual_time(scenario)


def test_a_turn_whose_holder_never_comes_back_lapses(in_virtual_time: Any) -> None:
    async def scenario(cluster: Cluster) -> None:
        small, rss = Limits(rss_bytes=10 * MEGABYTE), lambda: 11 * MEGABYTE
        dying = asyncio.ensure_future(cluster.process("a", small, takes_s=0, dies=True, rss=rss))
        await dying
        died_at = cluster.loop.time()
        await for_a_while(30, cluster.process("b", small, takes_s=60, rss=rss))
        assert [name for name, _ in cluster.replaced] == ["a", "b"]
        assert AWAY_S - 1 <= cluster.replaced[1][1] - died_at <= AWAY_S + 1

    in_virtual_time(scenario)


def test_memory_below_its_limit_and_no_limits_replace_nobody(in_virtual_time: Any) -> None:
    async def scenario(cluster: Cluster) -> None:
        below = cluster.process("a", Limits(rss_bytes=10 * MEGABYTE), takes_s=1, rss=lambda: 10 * MEGABYTE)
        await for_a_while(100, below, cluster.process("b", Limits(), takes_s=1))
        assert cluster.replaced == []

    in_virtual_time(scenario)


def test_of_many_that_want_the_turn_one_gets_it(in_virtual_time: Any) -> None:
    async def scenario(cluster: Cluster) -> None:
        turns = [await cluster.turn(str(n)) for n in range(10)]
        assert sum(await asyncio.gather(*(turn.take(1_000) for turn in turns))) == 1
        assert sum([await turn.give_back() for turn in turns]) == 1
        await asyncio.sleep(7)  # those that were too late stood in line
        assert await turns[0].take(1_000)
        assert await turns[0].take(1_000), "asked again: its reply was lost"
        assert not await turns[1].take(1_000)
        assert not await turns[1].give_back()
        head = await (await cluster.store()).system.head(STREAM)
        assert head is not None
        assert b'"name":"0"' in head.state
        assert b'"waiting":{"1":' in head.state
        assert await turns[0].give_back()
        assert not await turns[2].take(1_000), "another stands in line"
        await asyncio.sleep(4)
        assert not await turns[2].take(1_000)
        await asyncio.sleep(4)
        assert await turns[2].take(1_000), "who no longer asks does not hold up the line"

    in_virtual_time(scenario)


def test_who_is_back_gives_the_turn_back_also_while_others_come_to_stand_in_line(in_virtual_time: Any) -> None:
    async def scenario(cluster: Cluster) -> None:
        one, *others = [await cluster.turn(str(n)) for n in range(6)]
        assert await one.take(1_000_000)
        *_, is_back = await asyncio.gather(*(other.take(1_000) for other in others), one.give_back())
        assert is_back
        await asyncio.sleep(7)
        assert await others[0].take(1_000)

    in_virtual_time(scenario)


def test_a_store_out_of_reach_puts_it_off(in_virtual_time: Any) -> None:
    async def scenario(cluster: Cluster) -> None:
        store = await cluster.store()
        await store.close()
        with pytest.raises(StoreUnavailable):
            await Turn("a", store.system, cluster.clock).take(1_000)
        recycler = Recycler(
            Limits(age_s=1), Turn("a", store.system, cluster.clock), away_ms=1_000, clock=cluster.loop.time
        )
        recycler.start()
        await asyncio.sleep(10)
        assert not recycler.is_due.is_set()
        await recycler.stop()

    in_virtual_time(scenario)


def test_memory_that_is_not_known_for_a_while_puts_it_off(in_virtual_time: Any) -> None:
    """/proc/self/status is a file, and a process may have too many open."""

    async def scenario(cluster: Cluster) -> None:
        known_at = cluster.loop.time() + 30

        def rss() -> int:
            if cluster.loop.time() < known_at:
                raise MemoryUnknown("too many open files")
            return 11 * MEGABYTE

        recycler = Recycler(
            Limits(rss_bytes=10 * MEGABYTE), await cluster.turn("a"), away_ms=1_000, clock=cluster.loop.time, rss=rss
        )
        recycler.start()
        async with asyncio.timeout(60):
            await recycler.is_due.wait()
        assert known_at <= cluster.loop.time() < known_at + 2
        await recycler.stop()

    in_virtual_time(scenario)


@pytest.mark.parametrize(("age_s", "rss"), [(0, None), (-1, None), (None, 0), (float("nan"), None)])
def test_a_limit_that_makes_no_sense_is_refused(age_s: float | None, rss: int | None) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        Limits(age_s=age_s, rss_bytes=rss)


def test_the_memory_of_this_process_is_known() -> None:
    before = rss_bytes()
    assert before > 10 * MEGABYTE
    ballast = bytearray(b"x") * (64 * MEGABYTE)
    assert rss_bytes() - before > 0.9 * len(ballast)
