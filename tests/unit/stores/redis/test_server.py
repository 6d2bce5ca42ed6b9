"""Real servers that can't be a store, or stop being one for a while."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner

from pointsman.cli.main import app as cli
from pointsman.kernel.errors import CoordinatorExists, StoreUnavailable
from pointsman.node import hash_seed
from pointsman.ports.event_log import Append, NewRun, Outcome
from pointsman.stores.postgres import PostgresSettings
from pointsman.stores.redis import RedisStore, StoreNotDurable, StoreUnsupported, liveness
from pointsman.stores.redis.connections import guarded
from pointsman.stores.redis.settings import settings_of
from pointsman.stores.urls import InvalidStoreUrl, store_of
from tests.support.redis import RedisServer, redis_server
from tests.support.survivors import until

FOR_EVER_MS = 600_000
TTL_MS = 2_000


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server("--appendonly", "no") as running:
        yield running


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[RedisStore]:
    store = RedisStore(f"{url}?unsafe=1")
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def plain(url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(url)
    try:
        yield client
    finally:
        await client.aclose()


async def refusal(url: str) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as raised:
        await RedisStore(url).open()
    return raised.value


def a_run(store: RedisStore, number: int) -> Append:
    new = NewRun("chain", 1, "build", bucket=store.bucket(), digest="", attributes={"padding": "x" * 4096})
    return Append(
        run=f"run-{number}", epoch=1, expected=0, nonce=b"n" * 16, events=[], status="running", owner=None, create=new
    )


async def test_a_server_that_may_lose_what_it_acknowledged_is_refused_by_name() -> None:
    with redis_server("--appendfsync", "everysec", "--maxmemory-policy", "allkeys-lru") as forgetful:
        error = await refusal(forgetful.url)
        assert isinstance(error, StoreNotDurable)
        assert "appendfsync is everysec, not always; maxmemory-policy is allkeys-lru, not noeviction" in str(error)
        assert not error.retryable
        async with opened(forgetful.url) as store:
            advice = {fact.name: fact.advice for fact in await store.inspection.facts()}
            assert advice["appendfsync"].startswith("always")
            assert advice["appendonly"] == ""


async def test_a_server_of_a_cluster_is_refused_by_name() -> None:
    with redis_server("--cluster-enabled", "yes") as one_of_many:
        error = await refusal(one_of_many.url)
        assert isinstance(error, StoreUnsupported)
        assert "Redis Cluster" in str(error)


async def test_a_replica_is_refused_by_name(server: RedisServer) -> None:
    with redis_server("--replicaof", f"127.0.0.1 {server.port}") as replica:
        error = await refusal(replica.url)
        assert isinstance(error, StoreUnsupported)
        assert "URL of its primary" in str(error)


async def test_a_full_server_refuses_whole_appends_and_goes_on_when_there_is_room(server: RedisServer) -> None:
    async with plain(server.url) as admin, opened(server.url) as store:
        used = int((await admin.info("memory"))["used_memory"])
        await admin.config_set("maxmemory", used + 2_000_000)
        moved, refused = list[str](), None
        try:
            for number in range(10_000):
                item = a_run(store, number)
                (result,) = await store.log.append([item])
                assert result.outcome is Outcome.MOVED
                moved.append(item.run)
        except StoreUnavailable as error:
            refused = error
        assert "maxmemory" in str(refused)
        facts = {fact.name: fact.advice for fact in await store.inspection.facts()}
        assert "pointsman retention" in facts["memory"]
        await admin.config_set("maxmemory", 0)
        item = a_run(store, len(moved))
        assert await store.log.heads([item.run]) == {}, "half of an append was made"
        (result,) = await store.log.append([item])
        assert result.outcome is Outcome.MOVED
        assert len(await store.log.heads(moved)) == len(moved)


async def test_scripts_that_the_server_forgot_are_sent_again(server: RedisServer) -> None:
    async with plain(server.url) as admin, opened(server.url) as store:
        await store.log.heads(["run"])
        await admin.script_flush()
        assert await store.log.heads(["run"]) == {}


async def test_a_connection_that_is_ended_is_nobodys_death(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its holder says under which one it is there now, long before its lease is renewed."""
    monkeypatch.setattr(liveness, "CONFIRM_S", 1.0)
    url = f"{server.url}?prefix=ended"
    async with plain(server.url) as admin, opened_at(url) as holder, opened_at(url) as watcher:
        lease = await holder.liveness.register("holder", "", [], ttl_ms=FOR_EVER_MS)
        other = await watcher.liveness.register("watcher", "", [], ttl_ms=FOR_EVER_MS)
        watches = [
            asyncio.create_task(store.liveness.next_death(own.incarnation))
            for store, own in ((holder, lease), (watcher, other))
        ]
        key = f"ended:inc:{lease.incarnation}"
        first = (await admin.hget(key, "client")).decode()
        await admin.client_kill_filter(_id=first.partition(":")[2])

        async def has_another() -> bool:
            return (await admin.hget(key, "client")).decode() != first

        await until(has_another)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2 * liveness.CONFIRM_S):
                await asyncio.gather(*watches)
        assert len(await watcher.liveness.members()) == 2


async def test_a_connection_of_the_run_of_the_server_before_says_nothing(server: RedisServer) -> None:
    """A restarted server gives the same numbers to others."""
    url = f"{server.url}?prefix=before"
    async with plain(server.url) as admin, opened_at(url) as store:
        lease = await store.liveness.register("a", "", [], ttl_ms=FOR_EVER_MS)
        await admin.hset(f"before:inc:{lease.incarnation}", "client", f"{'0' * 40}:999999")
        async with opened_at(url) as other:
            with pytest.raises(CoordinatorExists):
                await other.liveness.register("a", "", [], ttl_ms=FOR_EVER_MS)


async def test_after_an_outage_nobody_judges_a_lease_until_its_holder_had_time_to_renew_it() -> None:
    """All leases look expired then, while their holders are well."""
    with redis_server() as server:
        async with opened(server.url) as holder, opened(server.url) as watcher:
            lease = await holder.liveness.register("holder", "", [], ttl_ms=TTL_MS)
            other = await watcher.liveness.register("watcher", "", [], ttl_ms=FOR_EVER_MS)
            watch = asyncio.create_task(watcher.liveness.next_death(other.incarnation))
            await until(lambda: may_judge(watcher))
            server.kill()
            with pytest.raises(StoreUnavailable):
                await watch
            await asyncio.to_thread(server.start)
            async with plain(server.url) as admin:
                await admin.hset(f"pointsman:inc:{lease.incarnation}", "expires_at", "1")
            watch = asyncio.create_task(watcher.liveness.next_death(other.incarnation))

            async def is_renewed() -> bool:
                (member,) = [one for one in await watcher.liveness.members() if one.name == "holder"]
                return member.expires_at > 1

            await until(is_renewed)
            watch.cancel()
            assert lease.is_trusted()


async def may_judge(store: RedisStore) -> bool:
    return store.liveness._may_judge(TTL_MS)


async def test_who_is_cancelled_as_the_answer_comes_hears_of_it() -> None:
    """As of `asyncio.wait_for` of Python 3.11: the cancel is lost on the way."""

    async def deaf() -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "answer"

    task = asyncio.create_task(guarded(deaf()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@asynccontextmanager
async def opened_at(url: str) -> AsyncIterator[RedisStore]:
    store = RedisStore(replace(settings_of(url), is_unsafe=True))
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def test_the_way_to_a_store_is_by_its_url(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"redis://:secret@127.0.0.1:{server.port}/0?prefix=seeds&unsafe=1"
    store = store_of(url)
    assert store.description == f"Redis at 127.0.0.1:{server.port}/0, prefix seeds"
    async with plain(server.url) as admin:
        await admin.config_set("requirepass", "secret")
        try:
            seed = await hash_seed(url)
            assert 1 <= seed == await hash_seed(url)
            assert "invalid username-password pair" in str(await refusal(url.replace("secret", "wrong")))
        finally:
            await admin.config_set("requirepass", "")
    with pytest.raises(InvalidStoreUrl, match="of the way to PostgreSQL"):
        store_of(url, PostgresSettings())
    monkeypatch.setitem(sys.modules, "pointsman.stores.redis", None)  # as where the client is not installed
    with pytest.raises(InvalidStoreUrl, match=r"pip install 'pointsman\[redis\]'"):
        store_of(url)


def test_there_is_nothing_to_migrate() -> None:
    answer = CliRunner().invoke(cli, ["migrate", "--store", "redis://127.0.0.1:1/0"])
    assert answer.exit_code == 2
    assert "Redis has no schema" in answer.stderr
