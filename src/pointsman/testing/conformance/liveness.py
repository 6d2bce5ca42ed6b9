"""Liveness: one living incarnation per name, numbers that never come back, and deaths that others notice."""

from __future__ import annotations

import asyncio

from pointsman.kernel.errors import CoordinatorExists
from pointsman.ports.liveness import Lease
from pointsman.ports.store import Store
from pointsman.testing.conformance.harness import Harness
from pointsman.testing.conformance.support import (
    DEFINITION,
    TTL_MS,
    Coordinator,
    coordinator,
    coordinators,
    raises,
    soon,
    until,
)

SHORT_TTL_MS = 600


async def incarnations_grow(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    assert 0 < a.number < b.number
    await a.lease.release()
    again = await _register(a.store, "c0")
    assert again.incarnation > b.number


async def a_living_name_is_refused(harness: Harness) -> None:
    a = await coordinator(harness, "name")
    other = await harness.open()
    await raises(CoordinatorExists, _register(other, "name"))
    assert a.lease.is_trusted()
    assert [member.incarnation for member in await other.liveness.members()] == [a.number]
    await a.lease.release()
    assert (await _register(other, "name")).incarnation > a.number


async def two_who_want_one_name_do_not_both_get_it(harness: Harness) -> None:
    stores = [await harness.open() for _ in range(4)]
    answers = await asyncio.gather(*(_register(store, "name") for store in stores), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, CoordinatorExists)]
    assert len(refused) == 3, answers
    assert len(await stores[0].liveness.members()) == 1


async def the_name_of_a_dead_process_is_free(harness: Harness) -> None:
    """At once, not when its lease has expired: this is the restart after a crash."""
    a = await coordinator(harness, "name", ttl_ms=60_000)
    other = await harness.open()
    await harness.crash(a.store)

    async def try_again() -> Lease | None:
        try:
            return await _register(other, "name")
        except CoordinatorExists:
            return None

    lease = await until(try_again)
    assert lease is not None
    assert lease.incarnation > a.number
    assert [member.incarnation for member in await other.liveness.members()] == [lease.incarnation]


async def members_are_the_living(harness: Harness) -> None:
    a, b, c = await coordinators(harness, 3)
    members = await b.store.liveness.members()
    assert [(member.incarnation, member.name, member.address) for member in members] == [
        (a.number, "c0", "http://c0"),
        (b.number, "c1", "http://c1"),
        (c.number, "c2", "http://c2"),
    ]
    now = b.store.clock.now()
    for member in members:
        assert abs(member.started_at - now) < 60_000
        assert now - 60_000 < member.started_at < member.expires_at
        assert member.definitions == (DEFINITION,)
    await b.lease.release()
    await harness.end(c.number)
    assert [member.incarnation for member in await a.store.liveness.members()] == [a.number]


async def ended_never_comes_back(harness: Harness) -> None:
    """However often its holder asks."""
    a, b = await coordinators(harness, 2, ttl_ms=SHORT_TTL_MS)
    await harness.end(a.number)
    await soon(a.lease.lost())
    assert not a.lease.is_trusted()
    await a.lease.release()
    await a.lease.release()
    assert not a.lease.is_trusted()
    assert [member.incarnation for member in await b.store.liveness.members()] == [b.number]
    again = await _register(a.store, "c0")
    assert again.incarnation > b.number
    assert again.is_trusted()


async def a_holder_learns_that_it_was_ended(harness: Harness) -> None:
    a = await coordinator(harness, ttl_ms=SHORT_TTL_MS)
    assert a.lease.is_trusted()
    waiting = asyncio.create_task(a.lease.lost())
    await harness.end(a.number)
    await soon(waiting)
    assert not a.lease.is_trusted()


async def releasing_twice_is_once(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.lease.release()
    await a.lease.release()
    await soon(a.lease.lost())
    assert not a.lease.is_trusted()
    assert [member.incarnation for member in await b.store.liveness.members()] == [b.number]


async def a_held_lease_outlives_its_ttl(harness: Harness) -> None:
    """Renewed in time, trusted all the while, and judged by no watcher, for three times the TTL."""
    a = await coordinator(harness, "a", ttl_ms=SHORT_TTL_MS)
    b = await coordinator(harness, "b", ttl_ms=SHORT_TTL_MS)
    watching = asyncio.create_task(_death_of(b, a.number))
    end = b.store.clock.monotonic() + 3 * SHORT_TTL_MS / 1000
    while b.store.clock.monotonic() < end:
        assert a.lease.is_trusted()
        assert b.lease.is_trusted()
        await asyncio.sleep(0.02)
    assert not watching.done()
    watching.cancel()
    await asyncio.wait([watching])
    assert len(await b.store.liveness.members()) == 2


async def a_crash_is_noticed_before_the_lease_expires(harness: Harness) -> None:
    a, b = await _long_and_short(harness)
    await a.moved(a.create("run"))
    watching = asyncio.create_task(_death_of(b, a.number))
    await harness.crash(a.store)
    await soon(watching)
    assert [member.incarnation for member in await b.store.liveness.members()] == [b.number]
    heads, left = await b.claim_orphans()
    assert ([head.id for head in heads], left) == (["run"], 0)


async def a_crash_during_nobodys_watch_is_noticed(harness: Harness) -> None:
    a, b = await _long_and_short(harness)
    await harness.crash(a.store)
    await soon(_death_of(b, a.number))


async def all_survivors_notice_a_death(harness: Harness) -> None:
    watched, watcher = await _long_and_short(harness)
    watchers = [watcher, *[await coordinator(harness, name, ttl_ms=SHORT_TTL_MS) for name in ("c", "d")]]
    watching = [asyncio.create_task(_death_of(watcher, watched.number)) for watcher in watchers]
    await harness.crash(watched.store)
    await soon(asyncio.gather(*watching))


async def a_silent_holder_ends_with_its_lease(harness: Harness) -> None:
    """Its process lives and its connections stand: only the database's clock can tell. Not a moment early."""
    a = await coordinator(harness, "a", ttl_ms=SHORT_TTL_MS)
    b = await coordinator(harness, "b", ttl_ms=SHORT_TTL_MS)
    await a.moved(a.create("run"))
    await harness.freeze(a.store, a.lease)
    (expires_at,) = [m.expires_at for m in await b.store.liveness.members() if m.incarnation == a.number]
    await soon(_death_of(b, a.number))
    assert b.store.clock.now() >= expires_at - 10, "ended before its lease expired"
    assert not a.lease.is_trusted(), "its holder trusted it to the end"
    assert [head.id for head in (await b.claim_orphans())[0]] == ["run"]


async def a_release_that_leaves_runs_is_noticed(harness: Harness) -> None:
    """A holder should hand over first. One that has no time to do so leaves orphans, and somebody must hear of it."""
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run"))
    watching = asyncio.create_task(_death_of(b, a.number))
    await a.lease.release()
    await soon(watching)
    assert [head.id for head in (await b.claim_orphans())[0]] == ["run"]


async def _long_and_short(harness: Harness) -> tuple[Coordinator, Coordinator]:
    """One whose lease won't expire during the case, and a watcher that may judge it soon."""
    watched = await coordinator(harness, "a", ttl_ms=60_000)
    return watched, await coordinator(harness, "b", ttl_ms=SHORT_TTL_MS)


async def _register(store: Store, name: str) -> Lease:
    return await store.liveness.register(name, "http://x", [DEFINITION], ttl_ms=TTL_MS)


async def _death_of(watcher: Coordinator, incarnation: int) -> None:
    """Until this death is known: 0 is a mere suspicion, and the living members decide."""
    while True:
        death = await watcher.store.liveness.next_death(watcher.number)
        assert death != watcher.number
        members = [member.incarnation for member in await watcher.store.liveness.members()]
        assert death not in members
        if incarnation not in members:
            return


CASES = (
    incarnations_grow,
    a_living_name_is_refused,
    two_who_want_one_name_do_not_both_get_it,
    the_name_of_a_dead_process_is_free,
    members_are_the_living,
    ended_never_comes_back,
    a_holder_learns_that_it_was_ended,
    releasing_twice_is_once,
    a_held_lease_outlives_its_ttl,
    a_crash_is_noticed_before_the_lease_expires,
    a_crash_during_nobodys_watch_is_noticed,
    all_survivors_notice_a_death,
    a_silent_holder_ends_with_its_lease,
    a_release_that_leaves_runs_is_noticed,
)
