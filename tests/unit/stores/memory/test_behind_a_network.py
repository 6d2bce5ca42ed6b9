"""The simulator's store: whatever port a statement is of, it may be lost, and so may its reply."""

import random

import pytest

from pointsman.kernel.errors import StoreUnavailable, WrongExpectedSequence
from pointsman.ports.event_log import NewEvent
from pointsman.ports.human_tasks import TaskFilter
from pointsman.stores.memory import MemoryDatabase
from pointsman.testing.sim.clocks import EstimatedClock, ProcessClocks, SimClock
from pointsman.testing.sim.faulty import Faults, Network, Trace
from pointsman.testing.sim.loop import Process, SimLoop
from pointsman.testing.sim.store import SimStore

EVENT = NewEvent("Counted", 1, 1, b"{}")


class Bench:
    def __init__(self) -> None:
        self.loop = SimLoop(random.Random(1))
        self.faults = Faults()
        self.trace = Trace(self.loop)
        true = SimClock(self.loop)
        clock = EstimatedClock(true, ProcessClocks(self.loop, random.Random(3)))
        network = Network(self.loop, random.Random(2), Process("a"), self.faults, self.trace)
        self.store = SimStore(MemoryDatabase(true), clock, network)


@pytest.fixture
def bench():
    bench = Bench()
    bench.loop.run_until_complete(bench.store.open())
    yield bench
    bench.loop.run_until_complete(bench.store.close())
    bench.loop.close()


def test_an_append_whose_reply_is_lost_has_moved_the_stream(bench):
    async def play():
        system = bench.store.system
        bench.faults.lost_reply = 1.0
        with pytest.raises(StoreUnavailable):
            await system.append("mode", 0, [EVENT], b"{}")
        bench.faults.heal()
        with pytest.raises(WrongExpectedSequence):
            await system.append("mode", 0, [EVENT], b"{}")
        assert (await system.head("mode")).sequence == 1

    bench.loop.run_until_complete(play())


def test_an_append_that_is_lost_has_not(bench):
    async def play():
        system = bench.store.system
        bench.faults.lost = 1.0
        with pytest.raises(StoreUnavailable):
            await system.append("mode", 0, [EVENT], b"{}")
        bench.faults.heal()
        assert await system.head("mode") is None
        assert (await system.append("mode", 0, [EVENT], b"{}")).sequence == 1

    bench.loop.run_until_complete(play())


CALLS = {
    "append": lambda store: store.system.append("mode", 0, [EVENT], b"{}"),
    "head": lambda store: store.system.head("mode"),
    "heads": lambda store: store.system.heads(""),
    "changes": lambda store: store.system.changes(""),
    "read": lambda store: store.system.read("mode"),
    "publish": lambda store: store.board.publish(1, b""),
    "task": lambda store: store.human_tasks.get("task"),
    "tasks": lambda store: store.human_tasks.list(TaskFilter()),
    "reserved": lambda store: store.reservations.of("tranche"),
    "forget": lambda store: store.reservations.forget("tranche"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_cut_network_lets_nothing_through(name, bench):
    async def play():
        await CALLS[name](bench.store)
        bench.faults.is_down = True
        with pytest.raises(StoreUnavailable):
            await CALLS[name](bench.store)

    bench.loop.run_until_complete(play())
