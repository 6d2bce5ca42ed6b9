"""Reads of the event log that end by the bytes of what they bring."""

from __future__ import annotations

import random
from collections.abc import Sequence

from pointsman.kernel.events import Recorded
from pointsman.ports.event_log import size_of, was_cut
from pointsman.ports.store import Store
from pointsman.testing.conformance.harness import Harness
from pointsman.testing.conformance.support import Coordinator, coordinator, coordinators, event
from pointsman.testing.conformance.values import BODIES

PLAIN = b'{"text":"' + b"x" * 89 + b'"}'
HUNDRED = (PLAIN, PLAIN.replace(b"xx", "é".encode(), 1), b"\xff" * 100)
"""Bodies of 100 bytes each; the second has 99 characters, and the last is no text."""
_noise = random.Random(7)


async def _created(a: Coordinator, run: str, bodies: Sequence[bytes]) -> None:
    append = a.create(run)
    append.events = [event(body) for body in bodies]
    await a.moved(append)


async def a_page_ends_behind_the_event_that_reaches_its_bytes(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await _created(a, "run", [*HUNDRED * 3, PLAIN])
    log = b.store.log
    whole = await log.read("run")
    for bytes_max, expected in ((1, 1), (0, 1), (100, 1), (101, 2), (300, 3), (301, 4), (999, 10), (10_000, 10)):
        assert await log.read("run", bytes_max=bytes_max) == whole[:expected], bytes_max
    assert await log.read("run", after=4, bytes_max=150) == whole[4:6]
    assert await log.read("run", after=4, limit=2, bytes_max=1_000) == whole[4:6]
    assert await log.read("run", after=9, bytes_max=1_000) == whole[9:]
    assert await log.read("run", after=10, bytes_max=1) == []
    assert await log.read("nobody", bytes_max=1) == []


async def runs_that_are_read_together_share_the_bytes(harness: Harness) -> None:
    """In the order in which they are asked for. Those that nothing is left for are in the answer, without an event."""
    a, b = await coordinators(harness, 2)
    for run in ("first", "second", "third"):
        await _created(a, run, [PLAIN] * 3)
    await _created(a, "small", [b"{}"])
    log = b.store.log
    asked = {"third": 0, "nobody": 0, "first": 1, "small": 0, "second": 0}
    whole = await log.read_many(asked, limit=100)
    assert {run: len(events) for run, events in whole.items()} == {
        "third": 3, "nobody": 0, "first": 2, "small": 1, "second": 3,
    }  # fmt: skip
    for bytes_max, expected in (
        (1, (1, 0, 0, 0, 0)), (0, (1, 0, 0, 0, 0)), (201, (3, 0, 0, 0, 0)), (300, (3, 0, 0, 0, 0)),
        (301, (3, 0, 1, 0, 0)), (500, (3, 0, 2, 0, 0)), (501, (3, 0, 2, 1, 0)), (503, (3, 0, 2, 1, 1)),
        (10_000, (3, 0, 2, 1, 3)),
    ):  # fmt: skip
        found = await log.read_many(asked, limit=100, bytes_max=bytes_max)
        assert found == {run: whole[run][:n] for run, n in zip(asked, expected, strict=True)}, bytes_max
    found = await log.read_many(asked, limit=1, bytes_max=201)
    assert found == {run: whole[run][:n] for run, n in zip(asked, (1, 0, 1, 1, 0), strict=True)}
    assert await log.read_many({}, limit=3, bytes_max=1) == {}


async def large_bodies_end_a_page_too(harness: Harness) -> None:
    """As they are stored: what nothing compresses counts in full."""
    a = await coordinator(harness)
    for run in ("one", "two"):
        await _created(a, run, [b"{}\n" + _noise.randbytes(300_000) for _ in range(4)])
    log = a.store.log
    assert [row.sequence for row in await log.read("one", bytes_max=500_000)] == [1, 2]
    found = await log.read_many({"one": 1, "two": 0}, limit=200, bytes_max=1_000_000)
    assert {run: [row.sequence for row in rows] for run, rows in found.items()} == {"one": [2, 3, 4], "two": [1]}


async def what_a_page_leaves_is_told_by_its_bytes(harness: Harness) -> None:
    """A reader knows from a page alone whether there is more: whatever the bodies hold, and however they are stored."""
    a, b = await coordinators(harness, 2)
    await _created(a, "run", list(BODIES.values()))
    whole = await b.store.log.read("run")
    for bytes_max in (1, 100, 3_000, 60_000, 1_000_000):
        pages = await _pages(b.store, "run", bytes_max)
        assert [row for page in pages for row in page] == whole, bytes_max
    everything = int(size_of(whole))
    assert await b.store.log.read("run", bytes_max=everything + 1) == whole
    found = await b.store.log.read_many({"run": 0, "nobody": 0}, limit=100, bytes_max=everything + 1)
    assert found == {"run": whole, "nobody": []}


async def _pages(store: Store, run: str, bytes_max: int) -> list[list[Recorded]]:
    """Until a page was not cut."""
    pages: list[list[Recorded]] = []
    while True:
        after = pages[-1][-1].sequence if pages else 0
        page = await store.log.read(run, after=after, limit=1000, bytes_max=bytes_max)
        if page:
            pages.append(page)
        if not page or not was_cut(page, 1000, bytes_max):
            return pages


CASES = (
    a_page_ends_behind_the_event_that_reaches_its_bytes,
    runs_that_are_read_together_share_the_bytes,
    large_bodies_end_a_page_too,
    what_a_page_leaves_is_told_by_its_bytes,
)
