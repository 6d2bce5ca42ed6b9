"""The board: what the other living coordinators said last, and nothing of the dead."""

from __future__ import annotations

import asyncio

from pointsman.testing.conformance.harness import Harness
from pointsman.testing.conformance.support import Coordinator, coordinator, coordinators, until

ROUNDS = 20


async def others_hear_what_was_said_last(harness: Harness) -> None:
    a, b, c = await coordinators(harness, 3)
    assert await _publish(a, b"a1") == {}
    assert await _publish(b, b"b1") == {a.number: b"a1"}
    assert await _publish(a, b"a2") == {b.number: b"b1"}
    assert await _publish(c, b"c1") == {a.number: b"a2", b.number: b"b1"}
    assert await _publish(b, b"b2") == {a.number: b"a2", c.number: b"c1"}


async def what_is_said_may_be_any_bytes(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    for body in (b"", bytes(range(256)), b"x" * 300_000, b"'; DROP TABLE board; --", b"{}"):
        await _publish(a, body)
        assert await _publish(b, b"") == {a.number: body}


async def what_the_ended_said_is_not_shown(harness: Harness) -> None:
    """However it ended, and whatever it says after that."""
    a, ended, released = await coordinators(harness, 3)
    for one in (a, ended, released):
        await _publish(one, b"alive")
    await harness.end(ended.number)
    assert await _publish(a, b"") == {released.number: b"alive"}
    await released.lease.release()
    assert await _publish(a, b"") == {}
    for one in (ended, released):
        await _publish(one, b"a ghost")
    assert await _publish(a, b"") == {}
    again = await coordinator(harness, "c1")
    assert await _publish(again, b"") == {a.number: b""}
    assert await _publish(a, b"") == {again.number: b""}


async def the_silent_are_still_heard(harness: Harness) -> None:
    """Whether they live is for liveness to say, not for the board."""
    a, silent = await coordinators(harness, 2)
    await _publish(silent, b"last words")
    await harness.freeze(silent.store, silent.lease)
    for _ in range(3):
        assert await _publish(a, b"") == {silent.number: b"last words"}


async def all_may_publish_at_once(harness: Harness) -> None:
    """While some of them end: everybody who removes their rows meets everybody else who does."""
    everybody = await coordinators(harness, 6)
    living, dying = everybody[:4], everybody[4:]
    await asyncio.gather(*(_publish(one, b"0") for one in everybody))

    async def talk(one: Coordinator) -> None:
        for number in range(ROUNDS):
            await _publish(one, b"%d" % number)

    await asyncio.gather(*(talk(one) for one in living), *(harness.end(one.number) for one in dying))
    last = b"%d" % (ROUNDS - 1)
    for one in living:

        async def heard(one: Coordinator = one) -> bool:
            return await _publish(one, last) == {other.number: last for other in living if other is not one}

        assert await until(heard)


async def _publish(one: Coordinator, body: bytes) -> dict[int, bytes]:
    return dict(await one.store.board.publish(one.number, body))


CASES = (
    others_hear_what_was_said_last,
    what_is_said_may_be_any_bytes,
    what_the_ended_said_is_not_shown,
    the_silent_are_still_heard,
    all_may_publish_at_once,
)
