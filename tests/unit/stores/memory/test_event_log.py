"""What the memory store's log does beyond the suite: it refuses batches that break the rules of the port."""

import asyncio

import msgspec
import pytest

from pointsman.ports.event_log import Letter, Outcome
from tests.unit.stores.memory.support import creation, open_stores


async def test_a_run_twice_in_a_batch_is_a_bug() -> None:
    (store,) = await open_stores(1)
    with pytest.raises(ValueError, match="appears once"):
        await store.log.append([creation("run", None), creation("run", None)])
    assert await store.log.heads(["run"]) == {}


async def test_a_letter_to_a_neighbour_is_a_bug() -> None:
    (store,) = await open_stores(1)
    child = creation("child", None, letter=Letter("parent", "key", "child", b""))
    with pytest.raises(ValueError, match="same batch"):
        await store.log.append([creation("parent", None), child])


async def test_parents_that_go_in_circles_are_missing() -> None:
    (store,) = await open_stores(1)
    one, two = creation("one", None), creation("two", None)
    one.create = msgspec.structs.replace(one.create, parent="two")
    two.create = msgspec.structs.replace(two.create, parent="one")
    results = await store.log.append([one, two])
    assert [result.outcome for result in results] == [Outcome.MISSING, Outcome.MISSING]


async def test_cancelled_before_its_turn_nothing_is_written() -> None:
    (store,) = await open_stores(1)
    appending = asyncio.ensure_future(store.log.append([creation("run", None)]))
    await asyncio.sleep(0)
    appending.cancel()
    await asyncio.wait([appending])
    assert await store.log.heads(["run"]) == {}


async def test_cancelled_before_its_reply_all_is_written() -> None:
    (store,) = await open_stores(1)
    appending = asyncio.ensure_future(store.log.append([creation("run", None)]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not appending.done()
    appending.cancel()
    await asyncio.wait([appending])
    assert appending.cancelled()
    assert len(await store.log.read("run")) == 1


async def test_the_store_keeps_bytes_of_its_own() -> None:
    (store,) = await open_stores(1)
    body = bytearray(b"{}")
    append = creation("run", None)
    append.events = [msgspec.structs.replace(append.events[0], body=body)]
    await store.log.append([append])
    body[:] = b"[]"
    assert (await store.log.read("run"))[0].body == b"{}"
