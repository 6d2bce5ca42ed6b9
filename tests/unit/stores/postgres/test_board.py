"""The board: no log, no wait for a disk, no rows of the dead."""

import asyncio

import asyncpg
import pytest

from tests.unit.stores.postgres.helpers import DEFINITION, connected, opened, until

pytestmark = pytest.mark.postgres

WAL_BYTES_PER_WORD_MAX = 100
HOT_RATIO_MIN = 0.9


async def test_what_the_dead_said_is_removed(fresh_database: str) -> None:
    async with opened(fresh_database) as store, connected(fresh_database) as observer:
        leases = [await store.liveness.register(str(n), "", [DEFINITION], ttl_ms=5_000) for n in range(4)]
        for lease in leases:
            await store.board.publish(lease.incarnation, b"alive")
        await leases[0].release()
        await leases[1].release()
        await asyncio.gather(*(store.board.publish(lease.incarnation, b"still") for lease in leases[2:] * 5))
        await store.board.publish(999, b"nobody")
        await store.board.publish(leases[0].incarnation, b"a ghost")
        rows = await observer.fetch("SELECT incarnation FROM board ORDER BY 1")
        assert [row["incarnation"] for row in rows] == [lease.incarnation for lease in leases[2:]]


async def test_a_word_costs_next_to_nothing(fresh_database: str) -> None:
    """Measured: 40 bytes of log, the commit alone; a logged table writes 180, and waits until they are on the disk."""
    words = 200
    async with opened(fresh_database) as store, connected(fresh_database) as observer:
        leases = [await store.liveness.register(str(n), "", [DEFINITION], ttl_ms=60_000) for n in range(3)]
        for lease in leases:
            await store.board.publish(lease.incarnation, b"x" * 300)
        least = float("inf")
        for _ in range(3):  # the server's own log: a checkpoint or autovacuum may write into it meanwhile
            before = await observer.fetchval("SELECT pg_current_wal_insert_lsn()")
            for number in range(words):
                await store.board.publish(leases[number % 3].incarnation, b"y" * 300)
            wal = await observer.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1)", before)
            least = min(least, float(wal) / words)
    assert least <= WAL_BYTES_PER_WORD_MAX
    async with connected(fresh_database) as observer:

        async def updates() -> asyncpg.Record | None:
            row = await observer.fetchrow(
                "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'board'"
            )
            return row if row is not None and row["n_tup_upd"] >= words else None

        row = await until(updates)
        assert row is not None
        assert row["n_tup_hot_upd"] / row["n_tup_upd"] >= HOT_RATIO_MIN, dict(row)
