"""Notices: there with the events that they are about and only with them, told at least once, and by one at a time."""

from __future__ import annotations

import asyncio

from pointsman.kernel.errors import InvalidValue
from pointsman.ports.event_log import Append, Outcome
from pointsman.ports.notices import Notice, NoticeRow
from pointsman.ports.store import Store
from pointsman.testing.conformance.harness import Harness
from pointsman.testing.conformance.listing import HOSTILE
from pointsman.testing.conformance.support import coordinator, coordinators, letter, raises, until

AT = 1_700_000_000_000
HOLD_MS = 60_000


async def an_append_leaves_a_notice(harness: Harness) -> None:
    """As it was given, the oldest first; and one that nobody settles stays out of others' hands for a while."""
    a, b = await coordinators(harness, 2)
    await a.moved(_with(a.create("run"), _row("late", at=AT + 9)))
    await a.moved(_with(a.step("run", 1), _row("early", body=b' {"z": 1, "a": "\xc3\xa9"} ')))
    taken = await b.store.notices.take(limit=10, hold_ms=HOLD_MS)
    assert taken == [Notice("early", AT, b' {"z": 1, "a": "\xc3\xa9"} ', 0), Notice("late", AT + 9, b"{}", 0)]
    for store in (a.store, b.store):
        assert await store.notices.take(limit=10, hold_ms=HOLD_MS) == []


async def a_refused_append_leaves_no_notice(harness: Harness) -> None:
    """Its neighbours in the batch do, with a family too."""
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("parent"), a.create("lost"), a.create("plain"))
    await b.take("lost", a)
    batch = [
        _with(a.step("parent", 1), _row("of the parent")),
        _with(a.create("child", parent="parent"), _row("of the child", at=AT + 1)),
        _with(a.step("lost", 1), _row("of the lost")),
        _with(a.create("orphan", parent="lost"), _row("of the orphan")),
    ]
    outcomes = [result.outcome for result in await a.store.log.append(batch)]
    assert outcomes == [Outcome.MOVED, Outcome.MOVED, Outcome.FENCED, Outcome.MISSING]
    results = await a.store.log.append([_with(a.step("plain", 7), _row("of a conflict"))])
    assert results[0].outcome is Outcome.CONFLICT
    await a.moved(_with(a.finish("child", 1, letter=letter("parent", "child")), _row("of the end", at=AT + 2)))
    assert await _ids(b.store) == ["of the parent", "of the child", "of the end"]


async def what_is_said_again_is_one_notice(harness: Harness) -> None:
    """Also while it is held, and the first body counts; what was settled is another."""
    a = await coordinator(harness)
    await a.moved(_with(a.create("run"), _row("n", body=b"1"), _row("n", body=b"2")))
    await a.moved(_with(a.step("run", 1), _row("n", body=b"3")))
    (notice,) = await a.store.notices.take(limit=10, hold_ms=HOLD_MS)
    assert notice.body == b"1"
    await a.moved(_with(a.step("run", 2), _row("n", body=b"4")))
    assert await _ids(a.store) == []


async def what_is_not_settled_comes_again(harness: Harness) -> None:
    """When its time is over. Whoever took it first may be gone, or never heard that it had: that was no try."""
    a, b = await coordinators(harness, 2)
    await a.moved(_with(a.create("run"), _row("kept"), _row("settled")))
    assert len(await a.store.notices.take(limit=10, hold_ms=1)) == 2
    await a.store.notices.settle(["settled", "nobody's"])
    await harness.crash(a.store)
    again = await until(lambda: b.store.notices.take(limit=10, hold_ms=HOLD_MS))
    assert [(notice.id, notice.tries) for notice in again] == [("kept", 0)]
    await b.store.notices.settle(["kept"])
    await b.store.notices.settle([])
    await b.store.notices.postpone("kept", tries=1, delay_ms=0)
    assert await _ids(b.store) == []


async def a_postponed_notice_waits(harness: Harness) -> None:
    """As long as it is told to, longer or shorter than it was held."""
    a = await coordinator(harness)
    await a.moved(_with(a.create("run"), _row("sooner"), _row("later", at=AT + 1)))
    assert await _ids(a.store) == ["sooner", "later"]
    await a.store.notices.postpone("sooner", tries=1, delay_ms=0)
    await a.store.notices.postpone("later", tries=1, delay_ms=HOLD_MS * 2)
    assert await _ids(a.store) == ["sooner"]


async def tries_are_what_a_postponement_says(harness: Harness) -> None:
    """However often the notice was taken, and however often that was said: whose answer is lost says it again."""
    a, b = await coordinators(harness, 2)
    await a.moved(_with(a.create("run"), _row("n"), _row("other", at=AT + 1)))
    for tries in (1, 1, 7):
        await a.store.notices.postpone("n", tries=tries, delay_ms=0)
        taken = await b.store.notices.take(limit=10, hold_ms=0)
        assert [(notice.id, notice.tries) for notice in taken] == [("n", tries), ("other", 0)]


async def of_many_who_take_each_gets_others(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    rows = [_row(f"n{number:03}", at=AT + number) for number in range(60)]
    await a.moved(_with(a.create("run"), *rows))
    assert [notice.id for notice in await b.store.notices.take(limit=3, hold_ms=HOLD_MS)] == ["n000", "n001", "n002"]
    takes = [store.notices.take(limit=10, hold_ms=HOLD_MS) for store in (a.store, b.store) * 5]
    pages = await asyncio.gather(*takes)
    taken = sorted(notice.id for page in pages for notice in page)
    assert len(taken) == len(set(taken))
    assert all(len(page) <= 10 for page in pages)
    rest = await _ids(a.store, limit=100)
    assert sorted([*taken, *rest]) == [f"n{number:03}" for number in range(3, 60)]


async def notices_may_have_any_text(harness: Harness) -> None:
    a = await coordinator(harness)
    await a.moved(_with(a.create("run"), *(_row(text, at=AT + n) for n, text in enumerate(HOSTILE))))
    assert await _ids(a.store, limit=1000) == list(HOSTILE)
    for text in HOSTILE[1:]:
        await a.store.notices.settle([text])
    for text in HOSTILE:
        await a.store.notices.postpone(text, tries=1, delay_ms=0)
    assert await _ids(a.store, limit=1000) == [HOSTILE[0]]


async def what_no_store_can_hold_is_refused(harness: Harness) -> None:
    """By name, nothing of the batch is appended, and the store works on."""
    a = await coordinator(harness)
    await a.moved(a.create("run"))
    bad = [_row("n", body=body) for body in (b"", b"{not json", b'{"a":"\xff"}')]
    for text in ("a\x00b", "\ud800"):
        bad.append(_row(text))
        await raises(InvalidValue, a.store.notices.settle([text]))
        await raises(InvalidValue, a.store.notices.postpone(text, tries=1, delay_ms=0))
    for row in bad:
        await raises(InvalidValue, a.store.log.append([_with(a.step("run", 1), row), a.create("other")]))
    assert await a.store.log.heads(["other"]) == {}
    await a.moved(_with(a.step("run", 1), _row("n")))
    assert await _ids(a.store) == ["n"]


def _row(key: str, *, at: int = AT, body: bytes = b"{}") -> NoticeRow:
    return NoticeRow(key, at, body)


def _with(append: Append, *rows: NoticeRow) -> Append:
    append.notices = rows
    return append


async def _ids(store: Store, *, limit: int = 10) -> list[str]:
    return [notice.id for notice in await store.notices.take(limit=limit, hold_ms=HOLD_MS)]


CASES = (
    an_append_leaves_a_notice,
    a_refused_append_leaves_no_notice,
    what_is_said_again_is_one_notice,
    what_is_not_settled_comes_again,
    a_postponed_notice_waits,
    tries_are_what_a_postponement_says,
    of_many_who_take_each_gets_others,
    notices_may_have_any_text,
    what_no_store_can_hold_is_refused,
)
