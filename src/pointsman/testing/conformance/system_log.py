"""The system log: the expected sequence decides, the state comes with it, and no change is missed."""

from __future__ import annotations

import asyncio
import random

from pointsman.kernel.errors import InvalidValue, WrongExpectedSequence
from pointsman.ports.event_log import NewEvent
from pointsman.ports.store import Store
from pointsman.ports.system_log import EVENTS_KEPT, SystemHead
from pointsman.testing.conformance.harness import Harness
from pointsman.testing.conformance.support import assert_dense, both, event, every, jitter, raises, soon
from pointsman.testing.conformance.values import BODIES

ROUNDS = 60
STATES = {
    name: body
    for name, body in BODIES.items()
    if name in ("an object", "numbers that a parser would rewrite", "keys twice and out of order", "spaces", "escapes",
                "Unicode", "900 KB of text")
}  # fmt: skip
NAMES = (
    "agent/b",
    "agent/B",
    "agent/ä",
    "agent/a b",
    "agent/%",
    "agent/_",
    "agent/\\",
    "agent/'; --",
    "agent/日本 🚂",
    "agent/\U0010ffff",
    "agent/\ue000",
    "agent/\ud7ff",
    "agent/" + "x" * 500,
    "agents",
    "agent",
    "b/agent/b",
)


async def a_stream_is_made_and_moves_with_its_state(harness: Harness) -> None:
    a, b = await harness.open(), await harness.open()
    assert await a.system.head("agent/x") is None
    made = await a.system.append("agent/x", 0, _events(2), b'{"calls":2}')
    assert (made.stream, made.sequence, made.state) == ("agent/x", 2, b'{"calls":2}')
    assert await b.system.head("agent/x") == made
    moved = await b.system.append("agent/x", 2, _events(3), b'{"calls":5}')
    assert (moved.sequence, moved.state) == (5, b'{"calls":5}')
    assert abs(moved.updated_at - a.clock.now()) < 10_000
    assert moved.updated_at >= made.updated_at
    assert await a.system.head("agent/x") == moved
    assert_dense(await a.system.read("agent/x"), 5)


async def a_wrong_expected_sequence_does_nothing(harness: Harness) -> None:
    """Behind, ahead, made already, not made yet: each is told so."""
    store = await harness.open()
    await store.system.append("budget/x", 0, _events(1), b'{"n":1}')
    before = await store.system.append("budget/x", 1, _events(1), b'{"n":2}')
    for expected in (0, 1, 3, -1):
        await raises(WrongExpectedSequence, store.system.append("budget/x", expected, _events(1), b'{"n":9}'))
        await raises(WrongExpectedSequence, store.system.append("none", expected or 1, _events(1), b'{"n":9}'))
    assert await store.system.head("budget/x") == before
    assert_dense(await store.system.read("budget/x"), 2)
    assert await store.system.head("none") is None
    assert await store.system.read("none") == []


async def of_two_appenders_one_wins(harness: Harness) -> None:
    """From the making of the stream on. What the winner was told is what everybody sees."""
    a, b = await harness.open(), await harness.open()
    chance = random.Random(7)

    async def attempt(store: Store, expected: int, name: bytes) -> SystemHead | None:
        await jitter(chance)
        try:
            return await store.system.append("mode", expected, [event(b'{"by":"%s"}' % name)] * 2, b'"%s"' % name)
        except WrongExpectedSequence:
            return None

    for expected in range(0, 2 * ROUNDS, 2):
        of_a, of_b = await both(attempt(a, expected, b"a"), attempt(b, expected, b"b"))
        (won,) = [head for head in (of_a, of_b) if head is not None]
        assert won.state == (b'"a"' if of_a is not None else b'"b"')
        assert won.sequence == expected + 2
        assert await b.system.head("mode") == won
        bodies = [recorded.body for recorded in await a.system.read("mode", after=expected)]
        assert bodies == [b'{"by":' + won.state + b"}"] * 2
    assert_dense(await b.system.read("mode"), 2 * ROUNDS)


async def an_append_without_events_is_refused(harness: Harness) -> None:
    """The sequence would stay where it is, and two of them would both win."""
    store = await harness.open()
    try:
        await store.system.append("mode", 0, [], b"{}")
    except ValueError:
        return
    raise AssertionError("an append without events moved a stream")


async def streams_do_not_touch_each_other(harness: Harness) -> None:
    store = await harness.open()
    names = [f"budget/{number}" for number in range(20)]
    await asyncio.gather(*(store.system.append(name, 0, _events(1), b'"%d"' % n) for n, name in enumerate(names)))
    await asyncio.gather(*(store.system.append(name, 1, _events(2), b'"%d"' % n) for n, name in enumerate(names)))
    for number, name in enumerate(names):
        head = await store.system.head(name)
        assert head is not None
        assert (head.sequence, head.state) == (3, b'"%d"' % number)
        assert_dense(await store.system.read(name), 3)


async def heads_are_listed_by_prefix_and_name(harness: Harness) -> None:
    """By code point, page by page; a prefix is text and no pattern."""
    a, b = await harness.open(), await harness.open()
    for name in NAMES:
        await a.system.append(name, 0, _events(1), b'"of it"')
    within = sorted(name for name in NAMES if name.startswith("agent/"))
    assert [head.stream for head in await b.system.heads("agent/")] == within
    assert [head.stream for head in await b.system.heads("")] == sorted(NAMES)
    for prefix in ("agent/%", "agent/_", "agent/\\", "agent/'; --", "agent/\U0010ffff", "agent/b"):
        assert [head.stream for head in await b.system.heads(prefix)] == [prefix]
    assert await b.system.heads("agent/b/") == []
    seen: list[str] = []
    while page := await b.system.heads("agent/", after=seen[-1] if seen else "", limit=4):
        seen += [head.stream for head in page]
    assert seen == within
    for head in await b.system.heads("agent/"):
        assert head == await a.system.head(head.stream)
        assert (head.sequence, head.state) == (1, b'"of it"')


async def changes_are_told_once_they_are_there(harness: Harness) -> None:
    """All without a cursor, then what moved, with its newest state; other prefixes are not told of."""
    a, b = await harness.open(), await harness.open()
    nothing, start = await b.system.changes("agent/")
    assert nothing == []
    one = await a.system.append("agent/one", 0, _events(1), b'"1"')
    two = await a.system.append("agent/two", 0, _events(1), b'"2"')
    await a.system.append("budget/x", 0, _events(1), b'"x"')
    everything, cursor = await b.system.changes("agent/")
    assert _by_name(everything) == {"agent/one": one, "agent/two": two}
    since, _ = await b.system.changes("agent/", cursor=start)
    assert _by_name(since) == _by_name(everything)
    await a.system.append("agent/two", 1, _events(1), b'"between"')
    newest = await a.system.append("agent/two", 2, _events(1), b'"last"')
    changed, _ = await b.system.changes("agent/", cursor=cursor)
    assert _by_name(changed)["agent/two"] == newest
    others, _ = await b.system.changes("budget/", cursor=start)
    assert [head.stream for head in others] == ["budget/x"]


async def changes_come_to_an_end(harness: Harness) -> None:
    """What has been told may be told again, but not for ever: a reader would never be done."""
    store = await harness.open()
    await store.system.append("agent/x", 0, _events(1), b"{}")
    cursor: str | None = None

    async def drained() -> None:
        nonlocal cursor
        while True:
            heads, cursor = await store.system.changes("agent/", cursor=cursor)
            if not heads:
                return
            await asyncio.sleep(0.001)

    await soon(drained())


async def a_reader_beside_appenders_misses_no_change(harness: Harness) -> None:
    """Appenders of small and large states, so that some commit late, and two readers that go on from every cursor: when
    the appenders are done and a reader has read once more, it must have heard of every stream's last state."""
    stores = [await harness.open() for _ in range(4)]
    chance = random.Random(12)
    is_done = False

    async def move(store: Store, number: int) -> None:
        state = b'"' + b"x" * (1, 200_000, 50, 30_000)[number % 4] + b'"'
        for expected in range(25):
            await jitter(chance)
            await store.system.append(f"agent/{number}", expected, _events(1), state)

    async def follow(store: Store) -> dict[str, int]:
        known: dict[str, int] = {}
        cursor: str | None = None
        while True:
            was_done = is_done
            heads, cursor = await store.system.changes("agent/", cursor=cursor)
            known |= {head.stream: max(head.sequence, known.get(head.stream, 0)) for head in heads}
            if was_done:
                return known
            await asyncio.sleep(0)

    readers = [asyncio.create_task(follow(store)) for store in stores[:2]]
    await every(*(asyncio.create_task(move(stores[number % 4], number)) for number in range(12)))
    is_done = True
    await every(*readers)
    for reader in readers:
        assert reader.result() == {f"agent/{number}": 25 for number in range(12)}


async def a_cursor_that_nobody_gave_is_refused(harness: Harness) -> None:
    store = await harness.open()
    await store.system.append("mode", 0, _events(1), b"{}")
    for cursor in ("", "garbage", "-1", "1 OR 1=1", "99999999999999999999999999", "½", "\x00", "{}", "AAAA"):
        await raises(InvalidValue, store.system.changes("", cursor=cursor))


async def the_latest_events_are_kept(harness: Harness) -> None:
    """At least so many; older ones may be cut, and what is left has no gap."""
    store = await harness.open()
    size = EVENTS_KEPT // 4 + 7
    for turn in range(9):
        await store.system.append("budget/x", turn * size, _events(size), b"{}")
        events = await store.system.read("budget/x", limit=10 * size)
        assert len(events) >= min((turn + 1) * size, EVENTS_KEPT)
        last = (turn + 1) * size
        assert [item.sequence for item in events] == list(range(last - len(events) + 1, last + 1))


async def events_are_read_in_pages(harness: Harness) -> None:
    store = await harness.open()
    await store.system.append("mode", 0, _events(10), b"{}")
    await store.system.append("mode", 10, _events(15), b"{}")
    page = await store.system.read("mode", after=8, limit=4)
    assert [recorded.sequence for recorded in page] == [9, 10, 11, 12]
    assert await store.system.read("mode", after=25) == []


async def what_is_kept_comes_back_byte_for_byte(harness: Harness) -> None:
    a, b = await harness.open(), await harness.open()
    given = [NewEvent("Событие 🚂", 1 + number, number, body) for number, body in enumerate(BODIES.values())]
    await a.system.append("mode", 0, given, b"{}")
    read = await b.system.read("mode")
    assert [(item.type, item.version, item.at, item.body) for item in read] == [
        (item.type, item.version, item.at, item.body) for item in given
    ]
    for number, (name, state) in enumerate(STATES.items()):
        await a.system.append("agent/x", number, _events(1), state)
        head = await b.system.head("agent/x")
        assert head is not None
        assert head.state == state, name
        assert [head.state for head in await b.system.heads("agent/")] == [state], name


async def what_no_store_can_hold_is_refused(harness: Harness) -> None:
    """By name, and the store works on."""
    store = await harness.open()
    for text in ("a\x00b", "\ud800"):
        await raises(InvalidValue, store.system.append(text, 0, _events(1), b"{}"))
        await raises(InvalidValue, store.system.append("x", 0, [event(type=text)], b"{}"))
        await raises(InvalidValue, store.system.head(text))
        await raises(InvalidValue, store.system.heads(text))
        await raises(InvalidValue, store.system.changes(text))
    for state in (b"", b"{not json", b'{"a":"\xff"}', b"{} {}"):
        await raises(InvalidValue, store.system.append("x", 0, _events(1), state))
    assert await store.system.heads("") == []
    assert (await store.system.append("x", 0, _events(1), b"{}")).sequence == 1


def _events(count: int) -> list[NewEvent]:
    return [event(b'{"number":%d}' % number, type="Counted") for number in range(count)]


def _by_name(heads: list[SystemHead]) -> dict[str, SystemHead]:
    return {head.stream: head for head in heads}


CASES = (
    a_stream_is_made_and_moves_with_its_state,
    a_wrong_expected_sequence_does_nothing,
    of_two_appenders_one_wins,
    an_append_without_events_is_refused,
    streams_do_not_touch_each_other,
    heads_are_listed_by_prefix_and_name,
    changes_are_told_once_they_are_there,
    changes_come_to_an_end,
    a_reader_beside_appenders_misses_no_change,
    a_cursor_that_nobody_gave_is_refused,
    the_latest_events_are_kept,
    events_are_read_in_pages,
    what_is_kept_comes_back_byte_for_byte,
    what_no_store_can_hold_is_refused,
)
