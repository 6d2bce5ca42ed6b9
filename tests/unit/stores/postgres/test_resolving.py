"""Appends whose replies were lost: committed, under way or never sent, `resolve` finds out, and means it."""

import asyncio

import pytest

from pointsman.kernel.errors import StoreUnavailable
from pointsman.ports.event_log import Append, Outcome, Resolution
from pointsman.stores.postgres import PostgresStore
from pointsman.testing.chaos.proxy import proxied
from tests.unit.stores.postgres.helpers import connected, creation, opened, step, until

pytestmark = pytest.mark.postgres

WAITING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


async def lose_reply(dsn: str, append: Append) -> Resolution:
    """Send it, let the server commit, lose the reply and the connection, and ask."""
    async with proxied(dsn) as (proxy, through), opened(through) as store:
        await store.log.append([creation("first")])  # the statement is prepared by then
        proxy.is_deaf = True
        appending = asyncio.create_task(store.log.append([append]))
        await asyncio.wait_for(proxy.swallowed.wait(), 10)
        async with connected(dsn) as observer:
            await until(
                lambda: observer.fetchval(
                    "SELECT 1 FROM events WHERE run = $1 AND nonce = $2", append.run, append.nonce
                )
            )
        proxy.cut()
        with pytest.raises(StoreUnavailable):
            await appending
        proxy.is_deaf = False
        return await store.log.resolve(append)


async def test_a_committed_step_without_a_reply_is_ours(fresh_database: str) -> None:
    async with opened(fresh_database) as store:
        await store.log.append([creation("run")])
        assert await lose_reply(fresh_database, step("run", 1)) is Resolution.OURS
        assert (await store.log.heads(["run"]))["run"].sequence == 3


async def test_a_committed_creation_without_a_reply_is_ours(fresh_database: str) -> None:
    assert await lose_reply(fresh_database, creation("run")) is Resolution.OURS


async def test_ours_is_believed_only_behind_a_barrier(fresh_database: str) -> None:
    """A commit of its own after the look: a synchronous standby that has it has the append too."""
    async with opened(fresh_database) as store, connected(fresh_database) as observer:
        append = creation("run")
        await store.log.append([append])
        barrier = "SELECT value FROM cluster WHERE key = 'barrier'"
        before = await observer.fetchval(barrier)
        assert await store.log.resolve(step("run", 1)) is Resolution.ABSENT
        assert await observer.fetchval(barrier) == before
        assert await store.log.resolve(append) is Resolution.OURS
        assert await observer.fetchval(barrier) not in (None, before)


async def killed_while_it_waits(dsn: str, store: PostgresStore, append: Append, lock: str) -> None:
    """Another session holds what the append needs; the append's session is killed while it waits for it."""
    async with connected(dsn) as holder, connected(dsn) as killer, holder.transaction():
        await holder.execute(lock)
        appending = asyncio.create_task(store.log.append([append]))
        pid = await until(lambda: killer.fetchval(WAITING))
        await killer.fetchval("SELECT pg_terminate_backend($1)", pid)
        with pytest.raises(StoreUnavailable):
            await appending


async def test_an_append_killed_in_the_middle_is_absent_and_can_be_sent_again(fresh_database: str) -> None:
    async with opened(fresh_database) as store:
        await store.log.append([creation("run")])
        append = step("run", 1)
        await killed_while_it_waits(fresh_database, store, append, "SELECT FROM runs WHERE id = 'run' FOR UPDATE")
        assert await store.log.resolve(append) is Resolution.ABSENT
        assert (await store.log.append([append]))[0].outcome is Outcome.MOVED
        assert [recorded.sequence for recorded in await store.log.read("run")] == [1, 2, 3]


async def test_absent_means_that_the_lost_statement_never_comes(fresh_database: str) -> None:
    """The connection is gone, and the server has not noticed: its statement still waits for a neighbour's head and
    would move ours when it gets it. Its session is ended before anybody is told that it is absent."""
    async with (
        proxied(fresh_database) as (proxy, through),
        opened(through) as store,
        connected(fresh_database) as holder,
    ):
        await store.log.append([creation("a"), creation("b")])
        lost = [step("a", 1), step("b", 1)]
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("SELECT FROM runs WHERE id = 'a' FOR UPDATE")
        appending = asyncio.create_task(store.log.append(lost))
        async with connected(fresh_database) as observer:
            await until(lambda: observer.fetchval(WAITING))
            proxy.cut()
            with pytest.raises(StoreUnavailable):
                await appending
            assert await store.log.resolve(lost[1]) is Resolution.ABSENT
            assert await observer.fetchval(WAITING) is None
        await transaction.rollback()
        heads = await store.log.heads(["a", "b"])
        assert [heads[run].sequence for run in ("a", "b")] == [1, 1]


async def test_a_creation_under_way_is_waited_for(fresh_database: str) -> None:
    """Somebody else's creation of the same id is not committed yet: neither absent nor ours until it is decided."""
    async with (
        opened(fresh_database) as store,
        connected(fresh_database) as other,
        connected(fresh_database) as observer,
    ):
        transaction = other.transaction()
        await transaction.start()
        await other.execute(
            "INSERT INTO runs (id, epoch, sequence, status, bucket, workflow, version, build, digest, tenant,"
            " created_at, updated_at) VALUES ('run', 1, 0, 'running', 0, 'w', 1, 'b', 'd', 't', now(), now())"
        )
        resolving = asyncio.create_task(store.log.resolve(creation("run")))
        await until(lambda: observer.fetchval(WAITING))
        assert not resolving.done()
        await transaction.commit()
        assert await resolving is Resolution.ABSENT
        assert "run" in await store.log.heads(["run"])


async def test_asking_leaves_no_trace(fresh_database: str) -> None:
    async with opened(fresh_database) as store:
        append = creation("run")
        assert await store.log.resolve(append) is Resolution.ABSENT
        assert await store.log.heads(["run"]) == {}
        assert (await store.log.append([append]))[0].outcome is Outcome.MOVED


async def test_an_append_without_events_is_absent_until_its_head_moves(fresh_database: str) -> None:
    async with opened(fresh_database) as store:
        await store.log.append([creation("run")])
        append = step("run", 1, bodies=())
        assert await store.log.resolve(append) is Resolution.ABSENT
        await store.log.append([step("run", 1)])
        assert await store.log.resolve(append) is Resolution.OTHERS
