"""Leases of the memory store under a clock that the test moves, and a loop whose sleeps it ends."""

import asyncio
import math
from collections.abc import Iterator

import pytest

from pointsman.kernel.errors import CoordinatorExists, StoreUnavailable
from pointsman.stores.inprocess.liveness import InProcessLiveness
from pointsman.stores.memory import MemoryStore
from tests.unit.stores.memory.support import DEFINITIONS, HandClock, open_stores

TTL_MS = 3_000


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time passes only when nobody has anything to do, and then at once."""

    def __init__(self, clock: HandClock) -> None:
        super().__init__()
        self._clock = clock

    def time(self) -> float:
        return self._clock.monotonic()

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            next_s = self._scheduled[0].when()
            self._clock.time_ms = max(self._clock.time_ms, math.ceil(next_s * 1000))
        super()._run_once()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def runner(clock: HandClock) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
        yield runner


def test_a_lease_is_renewed_for_ever(runner: asyncio.Runner, clock: HandClock) -> None:
    async def scenario() -> None:
        a, b = await open_stores(2, clock)
        leases = [
            await store.liveness.register(name, "", DEFINITIONS, ttl_ms=TTL_MS) for store, name in ((a, "a"), (b, "b"))
        ]
        watching = asyncio.create_task(b.liveness.next_death(leases[1].incarnation))
        await asyncio.sleep(3600)
        assert all(lease.is_trusted() for lease in leases)
        assert not watching.done()
        watching.cancel()
        await a.close()
        await b.close()

    runner.run(scenario())


def test_a_silent_one_ends_when_its_lease_expires(runner: asyncio.Runner, clock: HandClock) -> None:
    async def scenario() -> None:
        a, b = await open_stores(2, clock)
        watched = await a.liveness.register("a", "", DEFINITIONS, ttl_ms=TTL_MS)
        watcher = await b.liveness.register("b", "", DEFINITIONS, ttl_ms=TTL_MS)
        await asyncio.sleep(10)
        await watched.stop()
        (member, _) = await b.liveness.members()
        assert await b.liveness.next_death(watcher.incarnation) == watched.incarnation
        assert 0 <= clock.now() - member.expires_at <= 5
        assert not watched.is_trusted()
        await b.close()

    runner.run(scenario())


def test_a_severed_one_ends_after_a_confirmation(runner: asyncio.Runner, clock: HandClock) -> None:
    async def scenario() -> None:
        a, b = await open_stores(2, clock)
        watched = await a.liveness.register("a", "", DEFINITIONS, ttl_ms=TTL_MS)
        watcher = await b.liveness.register("b", "", DEFINITIONS, ttl_ms=TTL_MS)
        await watched.stop()
        severed_at = clock.now()
        a.database.sever(watched.incarnation)
        assert await b.liveness.next_death(watcher.incarnation) == watched.incarnation
        assert clock.now() - severed_at == 150
        await b.close()

    runner.run(scenario())


def test_a_holder_that_takes_its_lock_again_lives(runner: asyncio.Runner, clock: HandClock) -> None:
    async def scenario() -> None:
        a, b = await open_stores(2, clock)
        watched = await a.liveness.register("a", "", DEFINITIONS, ttl_ms=600)
        watcher = await b.liveness.register("b", "", DEFINITIONS, ttl_ms=TTL_MS)
        watching = asyncio.create_task(b.liveness.next_death(watcher.incarnation))
        await asyncio.sleep(0.001)
        a.database.sever(watched.incarnation)
        await asyncio.sleep(60)
        assert not watching.done()
        assert watched.is_trusted()
        watching.cancel()
        await a.close()
        await b.close()

    runner.run(scenario())


class CutOff(InProcessLiveness):
    """A holder that loses its way to the database."""

    is_cut_off = False

    async def renew(self, incarnation: int) -> bool:
        if self.is_cut_off:
            raise StoreUnavailable
        return await super().renew(incarnation)


def _cut_off(store: MemoryStore) -> CutOff:
    liveness = store._liveness
    liveness.__class__ = CutOff
    assert isinstance(liveness, CutOff)
    return liveness


def test_a_holder_cut_off_stops_before_others_end_it(runner: asyncio.Runner, clock: HandClock) -> None:
    async def scenario() -> None:
        a, b = await open_stores(2, clock)
        liveness = _cut_off(a)
        lease = await a.liveness.register("a", "", DEFINITIONS, ttl_ms=TTL_MS)
        watcher = await b.liveness.register("b", "", DEFINITIONS, ttl_ms=TTL_MS)
        await asyncio.sleep(10)
        liveness.is_cut_off = True
        watching = asyncio.create_task(b.liveness.next_death(watcher.incarnation))
        await lease.lost()
        assert not lease.is_trusted()
        assert not watching.done()
        assert await watching == lease.incarnation
        await a.close()
        await b.close()

    runner.run(scenario())


def test_a_short_cut_is_survived(runner: asyncio.Runner, clock: HandClock) -> None:
    async def scenario() -> None:
        (store,) = await open_stores(1, clock)
        liveness = _cut_off(store)
        lease = await store.liveness.register("a", "", DEFINITIONS, ttl_ms=TTL_MS)
        liveness.is_cut_off = True
        await asyncio.sleep(2)
        liveness.is_cut_off = False
        await asyncio.sleep(60)
        assert lease.is_trusted()
        await store.close()

    runner.run(scenario())


def test_who_was_away_judges_nobody(runner: asyncio.Runner, clock: HandClock) -> None:
    """After a pause of all, every lease looks expired; nobody may end anybody until it has been there for a TTL."""

    async def scenario() -> None:
        a, b = await open_stores(2, clock)
        other = await a.liveness.register("a", "", DEFINITIONS, ttl_ms=TTL_MS)
        watcher = await b.liveness.register("b", "", DEFINITIONS, ttl_ms=TTL_MS)
        await asyncio.sleep(10)
        watching = asyncio.create_task(b.liveness.next_death(watcher.incarnation))
        await other.stop()
        await watcher.stop()
        clock.time_ms += 60_000
        await asyncio.sleep(1)
        assert not watching.done()
        assert len(await b.liveness.members()) == 2
        watching.cancel()
        await b.close()

    runner.run(scenario())


def test_a_lapsed_name_is_free_and_a_living_one_is_not(runner: asyncio.Runner, clock: HandClock) -> None:
    async def scenario() -> None:
        a, b = await open_stores(2, clock)
        lease = await a.liveness.register("name", "there", DEFINITIONS, ttl_ms=TTL_MS)
        with pytest.raises(CoordinatorExists, match="there"):
            await b.liveness.register("name", "", DEFINITIONS, ttl_ms=TTL_MS)
        await lease.stop()
        clock.time_ms += TTL_MS
        again = await b.liveness.register("name", "", DEFINITIONS, ttl_ms=TTL_MS)
        assert again.incarnation > lease.incarnation
        await b.close()

    runner.run(scenario())
