"""Retention on PostgreSQL: see `ports/retention.py` for what it promises. Partitions are in `partitions.py`."""

from __future__ import annotations

from typing import Final

import asyncpg

from pointsman.ports.retention import Bucket
from pointsman.stores.postgres.connection import Link, Pool
from pointsman.stores.postgres.partitions import bucket_of, drop_partition, make_partitions, partition_sizes
from pointsman.stores.postgres.server import Connection, Server
from pointsman.stores.queries import load

EVENTS_MAX: Final = 20_000
"""Roughly the events that one statement moves, while it locks the heads of their runs. A longer run is moved alone."""
TIMEOUT_S: Final = 120.0
"""Timeout of statements that count every run, or wait for readers of a partition."""
SESSION: Final = {
    # Partitions are chosen when a statement is planned, and tables that have just grown have no statistics yet.
    "plan_cache_mode": "force_custom_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    # How long a DETACH waits for a transaction that reads the partition before it is left to the next turn.
    "lock_timeout": "5000",
}

_SQL = load(__package__, "retention")


class PostgresRetention:
    """Retention over a link of its own: its statements take long, and must not make others wait."""

    def __init__(self, server: Server, readers: Pool) -> None:
        self._link = Link(server, SESSION)
        self._readers = readers

    async def close(self) -> None:
        await self._link.close()

    async def buckets(self) -> list[Bucket]:
        return await self._link.call(_buckets, timeout_s=TIMEOUT_S)

    async def past(self, before: int) -> list[int]:
        sizes = await self._readers.call(partition_sizes)
        return sorted(bucket for bucket in sizes if bucket < bucket_of(before))

    async def delete(self, before: int, *, limit: int) -> int:
        deleted: int = await self._link.call(
            lambda connection: connection.fetchval(_SQL["delete"], bucket_of(before), before, limit)
        )
        if deleted < limit:
            await self._link.call(lambda connection: connection.execute(_SQL["delete_reservations"]))
        return deleted

    async def move(self, bucket: int, *, limit: int) -> tuple[int, int]:
        return await self._link.call(lambda connection: _move(connection, bucket, limit))

    async def drop(self, bucket: int) -> bool:
        current = bucket_of(await self._readers.call(lambda connection: connection.fetchval(_SQL["now"])))
        if bucket >= current:
            raise ValueError(f"bucket {bucket}: runs still start in it")
        return await self._link.call(lambda connection: _drop(connection, bucket), timeout_s=TIMEOUT_S)


async def _buckets(connection: Connection) -> list[Bucket]:
    sizes = await partition_sizes(connection)
    counts = {row["bucket"]: row for row in await connection.fetch(_SQL["counts"])}
    found = []
    for number in sorted(sizes.keys() | counts.keys()):
        runs, open_runs, oldest_open = counts[number][1:] if number in counts else (0, 0, None)
        found.append(Bucket(number, runs, open_runs, oldest_open, sizes.get(number, 0)))
    return found


async def _move(connection: Connection, bucket: int, limit: int) -> tuple[int, int]:
    current = bucket_of(await connection.fetchval(_SQL["now"]))
    await make_partitions(connection)
    moved = 0
    if bucket != current:
        moved = await connection.fetchval(_SQL["move"], bucket, current, limit, EVENTS_MAX)
    return moved, await connection.fetchval(_SQL["left"], bucket)


async def _drop(connection: Connection, bucket: int) -> bool:
    if not await connection.fetchval(_SQL["try_lock"]):
        return False
    try:
        return await drop_partition(connection, bucket)
    except (asyncpg.LockNotAvailableError, asyncpg.ObjectNotInPrerequisiteStateError, asyncpg.ObjectInUseError):
        return False  # somebody reads it, or is just making it: what was begun is finished by the next turn
    finally:
        await connection.fetchval(_SQL["unlock"])
