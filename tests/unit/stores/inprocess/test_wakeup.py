"""Hints that nobody fetches are bounded and kept once each."""

import asyncio

from pointsman.stores.inprocess import wakeup
from tests.unit.stores.memory.support import open_stores


async def test_hints_are_kept_once_and_in_order() -> None:
    a, b = await open_stores(2)
    a.wakeup.hint(["two", "one"])
    a.wakeup.hint(["one", "three"])
    assert await b.wakeup.next_hints() == ["two", "one", "three"]


async def test_hints_beyond_the_limit_are_lost() -> None:
    a, b = await open_stores(2)
    for number in range(wakeup.PENDING_MAX + 5):
        a.wakeup.hint([str(number)])
    assert len(await b.wakeup.next_hints()) == wakeup.PENDING_MAX


async def test_nothing_comes_back_to_its_sender() -> None:
    a, _ = await open_stores(2)
    a.wakeup.hint(["run"])
    waiting = asyncio.ensure_future(a.wakeup.next_hints())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
