"""The system log: no change is lost behind a transaction that commits late, old events are cut, the index is read."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pointsman.kernel.errors import CorruptLog, WrongExpectedSequence
from pointsman.ports.event_log import NewEvent
from pointsman.ports.system_log import EVENTS_KEPT
from pointsman.stores.postgres import PostgresStore
from pointsman.stores.postgres.server import Connection, Server
from pointsman.stores.postgres.system_log import CUT_EVERY
from pointsman.stores.queries import load
from tests.unit.stores.postgres.helpers import SETTINGS, connected, events, opened
from tests.unit.stores.postgres.test_appending import nodes

pytestmark = pytest.mark.postgres

SQL = load("pointsman.stores.postgres", "system_log")


def some(count: int = 1) -> list[NewEvent]:
    return events([b'{"number":1}'] * count)


@asynccontextmanager
async def session(dsn: str) -> AsyncIterator[Connection]:
    """A session as the store's own are, to do by hand what it does in one statement."""
    connection, _ = await Server(dsn, SETTINGS).connect({"enable_seqscan": "off"})
    try:
        yield connection
    finally:
        await connection.close()


async def append_by_hand(connection: Connection, stream: str, expected: int) -> object:
    event = ([1], ["Late"], [1], [b"{}"], [None], [None])
    return await connection.fetchrow(SQL["append"], stream, expected, 1, b'"late"', *event, EVENTS_KEPT, CUT_EVERY)


async def sequences(store: PostgresStore, cursor: str | None) -> tuple[dict[str, int], str]:
    heads, cursor = await store.system.changes("", cursor=cursor)
    return {head.stream: head.sequence for head in heads}, cursor


async def test_an_append_that_commits_late_is_told_of(fresh_database: str) -> None:
    """Its transaction is older than changes that were read before it could be seen."""
    async with opened(fresh_database) as store, session(fresh_database) as late:
        for stream in ("early", "late"):
            await store.system.append(stream, 0, some(), b"{}")
        transaction = late.transaction()
        await transaction.start()
        await append_by_hand(late, "late", 1)
        await store.system.append("early", 1, some(), b"{}")
        seen, cursor = await sequences(store, None)
        assert seen == {"early": 2, "late": 1}
        await store.system.append("early", 2, some(), b"{}")
        seen, cursor = await sequences(store, cursor)
        assert seen == {"early": 3}
        await transaction.commit()
        seen, cursor = await sequences(store, cursor)
        assert seen["late"] == 2
        assert (await sequences(store, cursor))[0] == {}


async def test_a_long_transaction_elsewhere_repeats_changes_and_loses_none(fresh_database: str) -> None:
    async with opened(fresh_database) as store, connected(fresh_database) as other:
        transaction = other.transaction()
        await transaction.start()
        await other.fetchval("SELECT pg_current_xact_id()")
        cursor = None
        for expected in range(5):
            await store.system.append("mode", expected, some(), b"{}")
            seen, cursor = await sequences(store, cursor)
            assert seen == {"mode": expected + 1}
        assert (await sequences(store, cursor))[0] == {"mode": 5}
        await transaction.commit()
        await store.system.append("other", 0, some(), b"{}")
        seen, cursor = await sequences(store, cursor)
        assert seen == {"mode": 5, "other": 1}
        assert (await sequences(store, cursor))[0] == {}


async def test_who_comes_second_waits_and_is_told(fresh_database: str) -> None:
    """For a stream that is being made, and for one that moves; a first that gives up leaves it to the second."""
    async with opened(fresh_database) as store, session(fresh_database) as first:
        for expected, ends in ((0, "commit"), (1, "rollback"), (2, "commit")):
            transaction = first.transaction()
            await transaction.start()
            await append_by_hand(first, "mode", expected)
            second = asyncio.create_task(store.system.append("mode", expected, some(), b"{}"))
            async with connected(fresh_database) as observer:
                while not await observer.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                    await asyncio.sleep(0.001)
            await (transaction.commit() if ends == "commit" else transaction.rollback())
            if ends == "commit":
                with pytest.raises(WrongExpectedSequence):
                    await second
            else:
                assert (await second).sequence == expected + 1
            assert len(await store.system.read("mode")) == expected + 1


async def test_old_events_are_cut_now_and_then(fresh_database: str) -> None:
    async with opened(fresh_database) as store:
        await store.system.append("other", 0, some(5), b"{}")
        await store.system.append("mode", 0, some(EVENTS_KEPT), b"{}")
        expected, kept = EVENTS_KEPT, []
        while expected < EVENTS_KEPT + 3 * CUT_EVERY:
            expected = (await store.system.append("mode", expected, some(7), b"{}")).sequence
            kept.append(len(await store.system.read("mode", limit=10_000)))
        assert EVENTS_KEPT <= min(kept) <= EVENTS_KEPT + 7
        assert EVENTS_KEPT + 50 < max(kept) < EVENTS_KEPT + CUT_EVERY + 7
        assert len(await store.system.read("other")) == 5


async def test_a_place_that_is_taken_past_the_head_is_a_named_error(fresh_database: str) -> None:
    async with opened(fresh_database) as store, connected(fresh_database) as observer:
        await store.system.append("mode", 0, some(), b"{}")
        await observer.execute(
            "INSERT INTO system_events (stream, sequence, at, type, version) VALUES ('mode', 2, 0, 'Intruder', 1)"
        )
        with pytest.raises(CorruptLog, match="mode"):
            await store.system.append("mode", 1, some(), b"{}")
        head = await store.system.head("mode")
        assert head is not None
        assert head.sequence == 1


async def test_a_look_for_changes_reads_nothing_else(fresh_database: str) -> None:
    """Also with a plan for any cursor, which is what a session that asks often has."""
    async with opened(fresh_database) as store, session(fresh_database) as connection:
        await connection.execute(f"SET plan_cache_mode = force_generic_plan; PREPARE look AS {SQL['changes']}")
        await connection.fetch("EXECUTE look('agent/', 0)")
        await connection.execute(
            "INSERT INTO system_streams SELECT now(), 1, 3, 'agent/' || n, '{}' FROM generate_series(1, 3000) n"
        )
        await connection.execute("ANALYZE system_streams")
        rows = await connection.fetch("EXPLAIN (FORMAT JSON) EXECUTE look('agent/', 0)")
        scans = [node for node in nodes(json.loads(rows[0][0])[0]["Plan"]) if "Relation Name" in node]
        assert len(scans) == 1
        assert "xid" in scans[0].get("Index Cond", scans[0].get("Recheck Cond", "")), scans
        _, cursor = await store.system.changes("agent/")
        await store.system.append("agent/7", 1, some(), b"{}")
        assert [head.stream for head in (await store.system.changes("agent/", cursor=cursor))[0]] == ["agent/7"]


async def test_events_lie_as_json_where_they_are(fresh_database: str) -> None:
    async with opened(fresh_database) as store, connected(fresh_database) as observer:
        bodies = [b'{"reason":"5 of 7 failed"}', b"{not json}", b'{"text":"' + b"y" * 5_000 + b'"}']
        await store.system.append("agent/x", 0, events(bodies), b'{"breaker":"open"}')
        rows = await observer.fetch("SELECT body->>'reason' AS reason, codec FROM system_events ORDER BY sequence")
        assert [(row["reason"], row["codec"] == 0) for row in rows] == [
            ("5 of 7 failed", True), (None, False), (None, False),
        ]  # fmt: skip
        assert await observer.fetchval("SELECT state->>'breaker' FROM system_streams") == "open"
        assert [recorded.body for recorded in await store.system.read("agent/x")] == bodies
