"""The memory store's system log: what is cut, and whose time it tells."""

from pointsman.ports.event_log import NewEvent
from pointsman.ports.system_log import EVENTS_KEPT
from tests.unit.stores.memory.support import HandClock, open_stores


async def test_old_events_are_cut() -> None:
    (store,) = await open_stores(1)
    for turn in range(3):
        await store.system.append("mode", turn * 700, [NewEvent("Counted", 1, 1, b"{}")] * 700, b"{}")
    events = await store.system.read("mode", limit=10_000)
    assert [events[0].sequence, events[-1].sequence, len(events)] == [2_101 - EVENTS_KEPT, 2_100, EVENTS_KEPT]


async def test_its_time_is_the_databases() -> None:
    clock = HandClock()
    (store,) = await open_stores(1, clock)
    clock.time_ms = 5_000_000
    head = await store.system.append("mode", 0, [NewEvent("Counted", 1, 1, b"{}")], b"{}")
    assert head.updated_at == 5_000_000
