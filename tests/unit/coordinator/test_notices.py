"""The duty of notices at a database whose answers get lost: only what a webhook refused makes the next try later."""

import asyncio
import itertools
import random

import pytest

from pointsman.coordinator.notices import NoticeDuty
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.observe.stats import Stats
from pointsman.ports.notices import Notice
from pointsman.ports.telling import NotTold
from pointsman.stores.memory import MemoryDatabase
from pointsman.stores.memory.database import NoticeEntry
from pointsman.testing.sim.clocks import EstimatedClock, ProcessClocks, SimClock
from pointsman.testing.sim.faulty import Faults, Network, Trace
from pointsman.testing.sim.loop import Process, SimLoop
from pointsman.testing.sim.store import SimStore

HOLD_S = 1.0
SLACK_S = 0.5
"""A poll, and the way to the database and back."""


class Refusing:
    """A webhook that takes nothing, and notes when it was asked. `lost_reply`: of the database, once it was."""

    def __init__(self, loop, faults):
        self.asked_at = []
        self.lost_reply = 0.0
        self._faults = faults
        self._loop = loop

    async def tell(self, notice, body):
        self.asked_at.append(self._loop.time())
        self._faults.lost_reply = self.lost_reply
        raise NotTold("it answered 503")

    async def close(self):
        """Nothing is held."""


class Slow(Refusing):
    """The same, but for one notice, which it takes its time over."""

    was_cancelled = False

    async def tell(self, notice, body):
        if notice != "slow":
            await super().tell(notice, body)
        try:
            await asyncio.sleep(1_000)
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise


class Bench:
    """One coordinator's duty, and a notice that is due."""

    def __init__(self, webhook=Refusing):
        self.loop = SimLoop(random.Random(1))
        self.faults = Faults()
        true = SimClock(self.loop)
        self.database = MemoryDatabase(true)
        self.trace = Trace(self.loop)
        network = Network(self.loop, random.Random(2), Process("a"), self.faults, self.trace)
        clock = EstimatedClock(true, ProcessClocks(self.loop, random.Random(3)))
        self.webhook = webhook(self.loop, self.faults)
        settings = CoordinatorSettings(
            name="a", webhook_poll_ms=300, webhook_hold_ms=round(HOLD_S * 1000), webhook_timeout_s=0.5
        )
        self.store = SimStore(self.database, clock, network)
        self.duty = NoticeDuty(settings, self.store, Stats(), self.webhook)
        self.database.notices["n"] = NoticeEntry(Notice("n", true.now(), b"{}", 0), true.now())

    def lost_replies_of(self, method):
        return sum(f"FAULT lost_reply {method}" in line for line in self.trace.lines)

    def waits(self):
        asked = self.webhook.asked_at
        return [after - before for before, after in itertools.pairwise(asked)]

    async def play(self, script):
        await self.store.open()
        self.duty.start()
        await script()
        await self.duty.stop()
        await self.store.close()


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.loop.close()


def assert_waits_of_two_refusals(bench):
    first, second = bench.waits()
    assert 4.5 <= first <= 5.5 + SLACK_S
    assert 18 <= second <= 22 + SLACK_S


def test_a_take_that_nobody_heard_of_is_no_try(bench):
    async def script():
        bench.faults.lost_reply = 1.0
        await asyncio.sleep(6 * HOLD_S)
        assert bench.lost_replies_of("take") >= 4
        assert bench.webhook.asked_at == []
        bench.faults.heal()
        await asyncio.sleep(35)

    bench.loop.run_until_complete(bench.play(script))
    assert_waits_of_two_refusals(bench)


def test_a_postponement_that_nobody_heard_of_counts(bench):
    async def script():
        bench.webhook.lost_reply = 1.0
        await asyncio.sleep(0.2)
        assert bench.lost_replies_of("postpone") == 1
        bench.webhook.lost_reply = 0.0
        bench.faults.heal()
        await asyncio.sleep(35)

    bench.loop.run_until_complete(bench.play(script))
    assert_waits_of_two_refusals(bench)


def test_a_notice_that_the_database_fails_lets_none_go_on_unwatched():
    """Whoever is being told is told by this duty as long as it lasts: no more at a time than it may, none after it."""
    bench = Bench(Slow)
    now = bench.store.clock.now()
    bench.database.notices["slow"] = NoticeEntry(Notice("slow", now, b"{}", 0), now)

    async def script():
        bench.webhook.lost_reply = 1.0
        await asyncio.sleep(0.2)
        assert bench.lost_replies_of("postpone") == 1
        bench.faults.heal()
        await asyncio.sleep(1.0)

    bench.loop.run_until_complete(bench.play(script))
    assert bench.webhook.was_cancelled
    bench.loop.close()
