"""Reservations: there with the events that spend, and only with them."""

from __future__ import annotations

import asyncio

from pointsman.kernel.errors import InvalidValue
from pointsman.ports.event_log import Append, Outcome
from pointsman.ports.human_tasks import TaskRow
from pointsman.ports.reservations import Reservation, ReservationRow
from pointsman.ports.store import Store
from pointsman.testing.conformance.harness import Harness
from pointsman.testing.conformance.listing import HOSTILE
from pointsman.testing.conformance.support import coordinator, coordinators, event, letter, raises


async def an_append_reserves(harness: Harness) -> None:
    """Also one that creates its run; by run and sequence, tranche by tranche."""
    a, b = await coordinators(harness, 2)
    assert await b.store.reservations.of("t1") == []
    await a.moved(_with(a.create("run-b", events=3), ("t1", 3), ("t2", 2)), _with(a.create("run-a"), ("t1", 1)))
    await a.moved(_with(a.step("run-b", 3, events=9), ("t1", 12), ("t1", 9)), _with(a.step("run-a", 1), ("t1", 2)))
    await a.moved(_with(a.create("run-Z"), ("t1", 1)))
    assert await _of(b.store, "t1") == [
        ("run-Z", 1), ("run-a", 1), ("run-a", 2), ("run-b", 3), ("run-b", 9), ("run-b", 12),
    ]  # fmt: skip
    assert await b.store.reservations.of("t2") == [Reservation("t2", "run-b", 2)]
    assert await _of(b.store, "t1", limit=2) == [("run-Z", 1), ("run-a", 1)]


async def a_refused_append_reserves_nothing(harness: Harness) -> None:
    """Its neighbours in the batch do."""
    a, b = await coordinators(harness, 2)
    runs = [f"run-{number}" for number in range(9)]
    await a.moved(*(a.create(run) for run in runs))
    await b.take("run-1", a)
    await a.post("run-3", "mail")
    batch = [a.step(run, 1) for run in runs]
    batch[2] = a.step("run-2", 7)
    batch[3] = a.park("run-3", 1)
    batch[4] = a.create("run-4")
    batch[5] = a.step("nobody", 1)
    results = await a.store.log.append([_with(append, ("t", append.expected + 1)) for append in batch])
    refused = {1: Outcome.FENCED, 2: Outcome.CONFLICT, 3: Outcome.MAIL_ARRIVED, 4: Outcome.EXISTS, 5: Outcome.MISSING}
    assert [result.outcome for result in results] == [refused.get(number, Outcome.MOVED) for number in range(9)]
    assert await _of(b.store, "t") == [(run, 2) for number, run in enumerate(runs) if number not in refused]


async def of_two_appends_the_one_that_moved_reserves(harness: Harness) -> None:
    """Two writers at one sequence, again and again: what is reserved is what is in the stream."""
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run"))
    expected: list[tuple[str, str, int]] = []
    for sequence in range(1, 31):
        appends = {one: _with(one.step("run", sequence), (f"of {one.number}", sequence + 1)) for one in (a, b)}
        outcomes = await asyncio.gather(*(one.outcome(append) for one, append in appends.items()))
        (winner,) = [one for one, outcome in zip(appends, outcomes, strict=True) if outcome is Outcome.MOVED]
        expected.append((f"of {winner.number}", "run", sequence + 1))
    found = [
        (row.tranche, row.run, row.sequence)
        for one in (a, b)
        for row in await a.store.reservations.of(f"of {one.number}")
    ]
    assert sorted(found) == sorted(expected)


async def reservations_come_with_families_too(harness: Harness) -> None:
    """Beside a child, a letter and a task; an orphan's are not written."""
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("parent"), a.create("lost"))
    await b.take("lost", a)
    batch = [
        _with(a.step("parent", 1), ("t", 2)),
        _with(a.create("child", parent="parent"), ("t", 1)),
        _with(a.step("lost", 1), ("t", 2)),
        _with(a.create("orphan", parent="lost"), ("t", 1)),
    ]
    batch[1].tasks = (TaskRow("task", "ask#1", "open", "Well?", b"{}", 1),)
    await a.store.log.append(batch)
    assert await _of(b.store, "t") == [("child", 1), ("parent", 2)]
    await a.moved(_with(a.finish("child", 1, letter=letter("parent", "child")), ("t", 2)))
    assert await _of(b.store, "t") == [("child", 1), ("child", 2), ("parent", 2)]
    assert await b.store.human_tasks.get("task") is not None


async def a_settled_tranche_is_forgotten(harness: Harness) -> None:
    """Twice is once, and no other tranche is."""
    a, b = await coordinators(harness, 2)
    await a.moved(_with(a.create("run", events=2), ("t1", 1), ("t2", 2), ("t1", 2)))
    for _ in range(2):
        await b.store.reservations.forget("t1")
        assert await _of(a.store, "t1") == []
    assert await _of(a.store, "t2") == [("run", 2)]
    await a.store.reservations.forget("nobody's")


async def many_events_may_spend_from_one_tranche(harness: Harness) -> None:
    a = await coordinator(harness)
    runs = [f"run-{number:02}" for number in range(60)]
    for first in (0, 30):
        appends = [a.create(run) for run in runs[first : first + 30]]
        for append in appends:
            append.events = [event() for _ in range(40)]
        await a.moved(*(_with(append, *(("t", number + 1) for number in range(40))) for append in appends))
    assert await _of(a.store, "t") == [(run, number + 1) for run in runs for number in range(40)]


async def tranches_may_be_any_text(harness: Harness) -> None:
    a = await coordinator(harness)
    for number, text in enumerate(HOSTILE):
        await a.moved(_with(a.create(f"run-{number}"), (text, 1)))
    for number, text in enumerate(HOSTILE):
        assert await _of(a.store, text) == [(f"run-{number}", 1)], text
    for text in HOSTILE:
        await a.store.reservations.forget(text)
        assert await _of(a.store, text) == []


async def what_no_store_can_hold_is_refused(harness: Harness) -> None:
    a = await coordinator(harness)
    await a.moved(a.create("run"))
    for text in ("a\x00b", "\ud800"):
        await raises(InvalidValue, a.store.log.append([_with(a.step("run", 1), (text, 2))]))
        await raises(InvalidValue, a.store.reservations.of(text))
        await raises(InvalidValue, a.store.reservations.forget(text))
    assert (await a.head("run")).sequence == 1


def _with(append: Append, *rows: tuple[str, int]) -> Append:
    append.reservations = tuple(ReservationRow(tranche, sequence) for tranche, sequence in rows)
    return append


async def _of(store: Store, tranche: str, *, limit: int = 10_000) -> list[tuple[str, int]]:
    rows = await store.reservations.of(tranche, limit=limit)
    assert all(row.tranche == tranche for row in rows)
    return [(row.run, row.sequence) for row in rows]


CASES = (
    an_append_reserves,
    a_refused_append_reserves_nothing,
    of_two_appends_the_one_that_moved_reserves,
    reservations_come_with_families_too,
    a_settled_tranche_is_forgotten,
    many_events_may_spend_from_one_tranche,
    tranches_may_be_any_text,
    what_no_store_can_hold_is_refused,
)
