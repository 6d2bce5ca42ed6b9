"""Liveness with real processes: SIGKILL, SIGSTOP, a hung loop, a restarted database."""

import asyncio
import dataclasses
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pointsman.ports.liveness import Lease
from pointsman.stores.postgres import PostgresSettings, PostgresStore, migrate
from pointsman.stores.postgres.lease import HUNG_EXIT_CODE
from tests.support.postgres import server_in_temporary_directory
from tests.unit.stores.postgres.helpers import DEFINITION, PATIENCE_S, SETTINGS, connected, creation, opened, until

pytestmark = pytest.mark.postgres

HOLDER = Path(__file__).with_name("holder.py")


@asynccontextmanager
async def holder(dsn: str, *arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """A process that holds a lease and owns one run; its incarnation."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(HOLDER), dsn, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[4],
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            line = await process.stdout.readline()
        if not line:
            raise AssertionError((await process.communicate())[1].decode())
        yield process, int(line)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def register(store: PostgresStore, name: str = "watcher", ttl_ms: int = 3_000) -> Lease:
    return await store.liveness.register(name, "", [DEFINITION], ttl_ms=ttl_ms)


async def test_a_killed_process_is_found_and_its_runs_are_taken_long_before_its_lease_ends(fresh_database: str) -> None:
    async with opened(fresh_database) as store:
        lease = await register(store)
        async with holder(fresh_database, "--ttl-ms", "3600000") as (process, incarnation):
            watching = asyncio.create_task(store.liveness.next_death(lease.incarnation))
            await blocked_on(fresh_database, incarnation)
            process.kill()
            assert await asyncio.wait_for(watching, PATIENCE_S) == incarnation
            heads, left = await store.ownership.claim_orphans(lease.incarnation, [DEFINITION], limit=10)
        assert ([(head.id, head.epoch, head.takeovers) for head in heads], left) == ([("held", 2, 1)], 0)


async def blocked_on(dsn: str, incarnation: int) -> int:
    """Wait until a watcher waits for this incarnation's lock. The process ID of its session's server process."""
    query = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted"
    async with connected(dsn) as observer:
        return int(await until(lambda: observer.fetchval(query, incarnation)))


async def test_a_stopped_process_ends_with_its_lease_and_learns_it(fresh_database: str) -> None:
    async with opened(fresh_database) as store:
        lease = await register(store, ttl_ms=800)
        async with holder(fresh_database, "--ttl-ms", "800") as (process, incarnation):
            os.kill(process.pid, signal.SIGSTOP)
            stopped = time.monotonic()
            while await asyncio.wait_for(store.liveness.next_death(lease.incarnation), PATIENCE_S) != incarnation:
                pass
            assert time.monotonic() - stopped > 0.5
            os.kill(process.pid, signal.SIGCONT)
            assert process.stdout is not None
            assert await asyncio.wait_for(process.stdout.readline(), PATIENCE_S) == b"lost\n"


async def test_a_hung_loop_is_dumped_and_leaves(fresh_database: str) -> None:
    async with holder(fresh_database, "--hang") as (process, _):
        async with asyncio.timeout(PATIENCE_S):
            _, err = await process.communicate()
    assert process.returncode == HUNG_EXIT_CODE
    text = err.decode()
    assert "the event loop has not run for" in text
    assert "time.sleep" in text or "block_the_loop" in text


@pytest.mark.parametrize("state", ["53100", "55P03", "23505", "P0001"], ids=["disk", "lock", "unique", "trigger"])
async def test_a_lease_whose_renewal_is_refused_is_renewed_once_it_is_not(fresh_database: str, state: str) -> None:
    """Whatever the refusal: a holder that gave up would be neither alive nor replaced."""
    async with opened(fresh_database) as store, connected(fresh_database) as operator:
        lease = await register(store, ttl_ms=600)
        await operator.execute(f"""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$""")
        await operator.execute(
            "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON coordinators EXECUTE FUNCTION refuse()"
        )

        async def is_trusted(wanted: bool) -> bool:
            return lease.is_trusted() == wanted

        await until(lambda: is_trusted(False))
        with pytest.raises(Exception, match=r"no$"):
            await asyncio.wait_for(register(store, "another"), PATIENCE_S)
        await operator.execute("DROP TRIGGER refuse ON coordinators")
        await until(lambda: is_trusted(True))
        await lease.release()


async def test_a_lost_connection_ends_nothing(fresh_database: str) -> None:
    """The holder's session is ended under it; it takes lock and lease again before its watcher is sure, and long before
    it would renew its lease."""
    holder_but = """
        SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND granted
        AND mode = 'ExclusiveLock' AND pid <> $2"""
    patient = dataclasses.replace(SETTINGS, death_confirm_ms=2_000)
    async with opened(fresh_database) as a, opened(fresh_database, patient) as b:
        held, lease = await register(a, "held", ttl_ms=60_000), await register(b)
        watching = asyncio.create_task(b.liveness.next_death(lease.incarnation))
        await blocked_on(fresh_database, held.incarnation)
        async with connected(fresh_database) as killer:
            gone = 0
            for _ in range(3):
                await until(lambda gone=gone: killer.fetchval(holder_but, held.incarnation, gone))
                gone = await killer.fetchval(holder_but, held.incarnation, gone)
                assert await killer.fetchval("SELECT pg_terminate_backend($1)", gone)
            await until(lambda: killer.fetchval(holder_but, held.incarnation, gone))
        await blocked_on(fresh_database, held.incarnation)
        assert not watching.done()
        assert held.is_trusted()
        watching.cancel()
        await asyncio.wait([watching])


async def test_who_ends_another_tells_all_survivors(fresh_database: str) -> None:
    """At once, not when they next look around: so they share its runs. Also those that came after the last look."""
    deaf = dataclasses.replace(SETTINGS, ring_refresh_ms=1_000_000)
    async with (
        holder(fresh_database) as (process, incarnation),
        opened(fresh_database) as watcher,
        opened(fresh_database, deaf) as b,
        opened(fresh_database, deaf) as c,
    ):
        deaths = []
        for store, name in ((b, "b"), (c, "c"), (watcher, "watcher")):
            lease = await register(store, name)
            deaths.append(asyncio.create_task(store.liveness.next_death(lease.incarnation)))
        await blocked_on(fresh_database, incarnation)
        process.kill()
        async with asyncio.timeout(PATIENCE_S):
            assert await asyncio.gather(*deaths) == [incarnation] * 3


@pytest.fixture
def long_waits(monkeypatch: pytest.MonkeyPatch) -> PostgresSettings:
    """Settings of one who neither looks around again nor ends a wait on a lock by itself: it must be told."""
    monkeypatch.setattr("pointsman.stores.postgres.watch.LOCK_WAIT_MS", 1_000_000)
    return dataclasses.replace(SETTINGS, ring_refresh_ms=1_000_000, statement_timeout_s=1_000.0)


@pytest.mark.parametrize("others", [0, 1], ids=["alone", "watching another"])
async def test_who_joins_is_watched_at_once(fresh_database: str, long_waits: PostgresSettings, others: int) -> None:
    async with opened(fresh_database, long_waits) as first, opened(fresh_database, long_waits) as b:
        known = [await register(first, "first") for _ in range(others)]
        lease = await register(b)
        watching = asyncio.create_task(b.liveness.next_death(lease.incarnation))
        sessions = {await blocked_on(fresh_database, other.incarnation) for other in known}
        async with holder(fresh_database) as (process, incarnation):
            sessions.add(await blocked_on(fresh_database, incarnation))
            assert len(sessions) == 1, "a wait that is cut short costs no connection"
            process.kill()
            assert await asyncio.wait_for(watching, PATIENCE_S) == incarnation


async def test_when_the_watched_one_is_ended_the_next_is_watched_at_once(
    fresh_database: str, long_waits: PostgresSettings
) -> None:
    """Its lock is not free: it was stopped, and ended for its lease by somebody else."""
    async with (
        opened(fresh_database) as judge,
        opened(fresh_database, long_waits) as b,
        holder(fresh_database, "--ttl-ms", "800") as (process, incarnation),
    ):
        leases = [await register(judge, "judge", ttl_ms=800), await register(b, ttl_ms=800)]
        watching = [
            asyncio.create_task(store.liveness.next_death(lease.incarnation))
            for store, lease in zip((judge, b), leases, strict=True)
        ]
        await blocked_on(fresh_database, incarnation)
        os.kill(process.pid, signal.SIGSTOP)
        assert await asyncio.wait_for(watching[1], PATIENCE_S) == incarnation
        await blocked_on(fresh_database, leases[0].incarnation)
        watching[0].cancel()
        await asyncio.wait(watching)


async def test_who_died_before_anybody_watched_is_found_by_its_address(fresh_database: str) -> None:
    """Without waiting until the watcher itself has been in touch for a whole TTL: who refuses connections is gone."""
    async with opened(fresh_database) as b:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{bound.getsockname()[1]}"
            async with opened(fresh_database) as a:
                gone = await a.liveness.register("gone", address, [DEFINITION], ttl_ms=3_600_000)
            lease = await register(b, ttl_ms=3_600_000)
            async with asyncio.timeout(PATIENCE_S):
                assert await b.liveness.next_death(lease.incarnation) == gone.incarnation


async def test_two_processes_that_want_one_name_do_not_both_get_it(fresh_database: str) -> None:
    async with holder(fresh_database, "--name", "one", "--run", "a"):
        with pytest.raises(AssertionError, match="CoordinatorExists"):
            async with holder(fresh_database, "--name", "one", "--run", "b"):
                pass
    async with holder(fresh_database, "--name", "one", "--run", "c") as (_, incarnation):
        assert incarnation > 1


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_restart_of_the_database_is_nobodys_death(how: str) -> None:
    """All locks are free and all leases have run out while the holders are well."""
    ttl_ms = 1_000
    with server_in_temporary_directory() as server:
        await migrate(server.dsn)
        settings = dataclasses.replace(SETTINGS, unreachable_s=0.5)
        async with (
            opened(server.dsn, settings) as a,
            opened(server.dsn, settings) as b,
            opened(server.dsn, settings) as c,
        ):
            leases = [await register(store, name, ttl_ms) for store, name in ((a, "a"), (b, "b"), (c, "c"))]
            await a.log.append([creation("run", owner=leases[0].incarnation)])
            deaths = [
                asyncio.create_task(store.liveness.next_death(lease.incarnation))
                for store, lease in zip((a, b, c), leases, strict=True)
            ]
            for lease in leases:
                await blocked_on(server.dsn, lease.incarnation)
            await asyncio.to_thread(getattr(server.embedded, how))
            await until(lambda: no_longer_trusted(leases))
            assert await asyncio.to_thread(server.embedded.start) == server.dsn
            await until(lambda: all_trusted(leases))
            for lease in leases:
                await blocked_on(server.dsn, lease.incarnation)
            for _ in range(20):
                assert not any(death.done() for death in deaths)
                await asyncio.sleep(0.1)
            members = await b.liveness.members()
            assert [member.incarnation for member in members] == [lease.incarnation for lease in leases]
            assert (await b.log.heads(["run"]))["run"].owner == leases[0].incarnation
            for death in deaths:
                death.cancel()
            await asyncio.wait(deaths)


async def no_longer_trusted(leases: list[Lease]) -> bool:
    return not any(lease.is_trusted() for lease in leases)


async def all_trusted(leases: list[Lease]) -> bool:
    return all(lease.is_trusted() for lease in leases)
