"""The feed: every event of every run once, and nothing ever appears before what was already read."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from pointsman.kernel.errors import InvalidCursor
from pointsman.ports.event_log import FeedEvent
from pointsman.ports.store import Store
from pointsman.testing.conformance.harness import Harness
from pointsman.testing.conformance.support import (
    Coordinator,
    coordinator,
    coordinators,
    every,
    jitter,
    patience,
    raises,
)


async def an_empty_feed_gives_a_cursor(harness: Harness) -> None:
    a = await coordinator(harness)
    events, cursor = await a.store.log.feed()
    assert events == []
    again, _ = await a.store.log.feed(cursor=cursor)
    assert again == []
    await a.moved(a.create("run"))
    (only,), _ = await _drain(a.store, 1, cursor=cursor)
    assert (only.run, only.recorded.sequence) == ("run", 1)


async def the_feed_shows_events_as_streams_do(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("one", events=2), a.create("two"))
    await b.moved(b.create("three"))
    await a.moved(a.step("two", 1, events=2), a.finish("one", 2))
    events, _ = await _drain(b.store, 7)
    for run in ("one", "two", "three"):
        assert [item.recorded for item in events if item.run == run] == await b.stream(run)


async def a_cursor_goes_on_where_it_was_given(harness: Harness) -> None:
    """Page by page with any limit, and from an old cursor again."""
    a, b = await coordinators(harness, 2)
    for number in range(12):
        await a.moved(a.create(f"run-{number}", events=1 + number % 3))
    everything, _ = await _drain(a.store, 24)
    pages, _ = await _drain(b.store, 24, limit=5)
    assert pages == everything
    first, cursor = await a.store.log.feed(limit=10)
    assert first == everything[:10]
    for _ in range(2):
        rest, _ = await _drain(b.store, 14, cursor=cursor)
        assert first + rest == everything


async def a_refused_append_is_not_in_the_feed(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run"), a.create("good"), a.create("had"))
    await b.take("run", a)
    await a.store.log.append([a.step("run", 1, epoch=1), a.step("good", 1), a.create("had"), a.step("nobody", 0)])
    await b.moved(b.step("run", 1, epoch=2))
    events, _ = await _drain(b.store, 5)
    assert sorted((item.run, item.recorded.sequence, item.recorded.epoch) for item in events) == [
        ("good", 1, 1),
        ("good", 2, 1),
        ("had", 1, 1),
        ("run", 1, 1),
        ("run", 2, 2),
    ]


async def a_cursor_that_nobody_gave_is_refused(harness: Harness) -> None:
    a = await coordinator(harness)
    await a.moved(a.create("run"))
    for cursor in ("", "garbage", "-1", "1 OR 1=1", "99999999999999999999999999", "½", "\x00", "{}", "AAAA"):
        await raises(InvalidCursor, a.store.log.feed(cursor=cursor))


async def a_reader_beside_writers_misses_nothing(harness: Harness) -> None:
    """Eight writers in two lanes of four stores, whose batches take more and less time, so that late positions commit
    early. Two readers come back with every cursor at once: one is always at the newest, one lags behind in small pages.
    """
    owners = await coordinators(harness, 4)
    readers = [await harness.open(), await harness.open()]
    rounds, widths = 20, [1, 60, 1, 30, 1, 1, 40, 5]
    chance = random.Random(11)

    async def write(owner: Coordinator, writer: int) -> None:
        runs = [f"writer-{writer}/run-{number}" for number in range(widths[writer])]
        await owner.store.log.append([owner.create(run) for run in runs], lane=writer % 2)
        for sequence in range(1, rounds):
            await jitter(chance)
            batch = [owner.step(run, sequence) for run in runs]
            await owner.store.log.append(batch, lane=writer % 2)

    total = rounds * sum(widths)
    reading = [
        asyncio.create_task(_drain(reader, total, limit=limit))
        for reader, limit in zip(readers, (1000, 50), strict=True)
    ]
    await asyncio.gather(*(write(owners[writer % 4], writer) for writer in range(len(widths))))
    await every(*reading)
    newest, cursor = reading[0].result()
    _assert_each_once(newest, rounds, sum(widths))
    assert (await readers[0].log.feed(cursor=cursor))[0] == []
    assert reading[1].result()[0] == newest, "two readers saw different orders"


async def _drain(
    store: Store, count: int, *, cursor: str | None = None, limit: int = 1000
) -> tuple[list[FeedEvent], str]:
    """The next `count` events; a transaction elsewhere may hold the newest back for a while."""
    events: list[FeedEvent] = []
    async with patience():
        while True:
            page, cursor = await store.log.feed(cursor=cursor, limit=limit)
            assert len(page) <= limit
            events += page
            if len(events) >= count:
                assert len(events) == count
                return events, cursor
            if not page:
                await asyncio.sleep(0.001)


def _assert_each_once(events: Sequence[FeedEvent], count: int, runs: int) -> None:
    by_run: dict[str, list[int]] = {}
    for item in events:
        by_run.setdefault(item.run, []).append(item.recorded.sequence)
    assert len(by_run) == runs
    for run, sequences in by_run.items():
        assert sequences == list(range(1, count + 1)), (run, sequences)


CASES = (
    an_empty_feed_gives_a_cursor,
    the_feed_shows_events_as_streams_do,
    a_cursor_goes_on_where_it_was_given,
    a_refused_append_is_not_in_the_feed,
    a_cursor_that_nobody_gave_is_refused,
    a_reader_beside_writers_misses_nothing,
)
