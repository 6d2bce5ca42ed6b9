"""Links: what a deadline, a cancelled caller and a lost connection do, and never do."""

import asyncio
import dataclasses

import asyncpg
import pytest

from pointsman.kernel.errors import StoreUnavailable
from pointsman.stores.postgres.connection import Link, Pool
from pointsman.stores.postgres.server import Connection, Server
from pointsman.testing.chaos.proxy import proxied
from tests.unit.stores.postgres.helpers import SETTINGS, connected, until

pytestmark = pytest.mark.postgres

SLEEPING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'SELECT pg_sleep%'"


async def one(connection: Connection) -> int:
    return int(await connection.fetchval("SELECT 1"))


async def nap(connection: Connection) -> None:
    await connection.execute("SELECT pg_sleep(30)")


async def test_a_statement_that_takes_too_long_loses_its_connection(fresh_database: str) -> None:
    link = Link(Server(fresh_database, SETTINGS), appends=True)
    with pytest.raises(StoreUnavailable, match="no answer"):
        await link.call(nap, timeout_s=0.3)
    assert await link.call(one) == 1
    await link.close()


async def test_a_cancelled_caller_leaves_its_statement_to_its_end(fresh_database: str) -> None:
    """A statement that was cancelled may have been committed, and said otherwise."""
    link = Link(Server(fresh_database, SETTINGS))
    async with connected(fresh_database) as observer:
        await observer.execute("CREATE TABLE done (x int)")

        async def slow(connection: Connection) -> None:
            await connection.execute("SELECT pg_sleep(0.2)")
            await connection.execute("INSERT INTO done VALUES (1)")

        task = asyncio.create_task(link.call(slow))
        await until(lambda: observer.fetchval(SLEEPING))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await link.call(one) == 1
        assert await observer.fetchval("SELECT count(*) FROM done") == 1
    await link.close()


async def test_what_was_called_off_before_it_was_sent_is_never_sent(fresh_database: str) -> None:
    link = Link(Server(fresh_database, SETTINGS))
    ran: list[str] = []

    async def work(connection: Connection) -> None:
        ran.append("work")
        await connection.fetchval("SELECT 1")

    async def hold(connection: Connection) -> None:
        await connection.execute("SELECT pg_sleep(0.3)")

    first = asyncio.create_task(link.call(hold))
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable):
        await link.call(work, timeout_s=0.05)
    await first
    assert await link.call(one) == 1
    assert ran == []
    await link.close()


async def test_one_lost_connection_drops_them_all(fresh_database: str) -> None:
    """The server may be another one now."""
    server = Server(fresh_database, SETTINGS)
    pool = Pool(server, 1)
    link = Link(server)

    async def pid(connection: Connection) -> int:
        return connection.get_server_pid()

    before = [await pool.call(pid), await link.call(pid)]
    napping = asyncio.create_task(link.call(nap))
    async with connected(fresh_database) as killer:
        await until(lambda: killer.fetchval(SLEEPING))
        await killer.execute("SELECT pg_terminate_backend($1::int)", before[1])
    with pytest.raises(StoreUnavailable):
        await napping
    after = [await pool.call(pid), await link.call(pid)]
    assert not set(before) & set(after)
    await pool.close()
    await link.close()


async def test_an_unreachable_server_is_said_in_bounded_time(fresh_database: str) -> None:
    settings = dataclasses.replace(SETTINGS, unreachable_s=0.3)
    async with proxied(fresh_database) as (_, through):
        link = Link(Server(through, settings))
        assert await link.call(one) == 1
    with pytest.raises(StoreUnavailable):
        await link.call(one)
    async with asyncio.timeout(2):
        with pytest.raises(StoreUnavailable, match="can't be reached"):
            await link.call(one)
    await link.close()


async def test_a_lost_deadlock_is_tried_again(fresh_database: str) -> None:
    link = Link(Server(fresh_database, SETTINGS))
    attempts: list[int] = []

    async def work(connection: Connection) -> int:
        attempts.append(1)
        if len(attempts) < 3:
            await connection.execute("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40P01'; END $$")
        return 7

    assert await link.call(work) == 7
    assert len(attempts) == 3
    await link.close()


async def test_a_commit_that_did_not_wait_for_its_standby_is_in_doubt(fresh_database: str) -> None:
    link = Link(Server(fresh_database, SETTINGS))

    async def work(connection: Connection) -> None:
        await connection.execute(
            "DO $$ BEGIN RAISE WARNING 'canceling wait for synchronous replication due to user request'; END $$"
        )

    with pytest.raises(StoreUnavailable, match="standby"):
        await link.call(work)
    assert await link.call(one) == 1
    await link.close()


async def test_sessions_watch_their_peers(fresh_database: str) -> None:
    link = Link(Server(fresh_database, SETTINGS))

    async def shown(connection: Connection) -> list[str]:
        names = ("tcp_keepalives_idle", "client_connection_check_interval", "idle_in_transaction_session_timeout")
        return [await connection.fetchval(f"SHOW {name}") for name in names]

    assert await link.call(shown) == ["2", "1s", "5s"]
    await link.close()


async def test_other_refusals_leave_the_connection_alone(fresh_database: str) -> None:
    link = Link(Server(fresh_database, SETTINGS))

    async def twice(connection: Connection) -> None:
        await connection.execute("CREATE TEMP TABLE one (x int PRIMARY KEY); INSERT INTO one VALUES (1), (1)")

    async def pid(connection: Connection) -> int:
        return connection.get_server_pid()

    before = await link.call(pid)
    with pytest.raises(asyncpg.UniqueViolationError):
        await link.call(twice)
    assert await link.call(pid) == before
    await link.close()


async def test_a_server_that_takes_no_writes_is_unavailable_until_it_does(fresh_database: str) -> None:
    """As a standby before it is promoted, and a primary that was demoted."""
    link = Link(Server(fresh_database, dataclasses.replace(SETTINGS, unreachable_s=0.1)))
    name = fresh_database.rpartition("/")[2]
    async with connected(fresh_database) as operator:
        await operator.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        with pytest.raises(StoreUnavailable, match="takes no writes"):
            await link.call(one)
        with pytest.raises(StoreUnavailable, match="check that it runs"):
            await Server(fresh_database, SETTINGS).reach()
        await operator.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    assert await link.call(one) == 1
    await link.close()
