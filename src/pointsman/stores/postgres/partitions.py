"""Partitions of the streams, one per bucket (a week of the store's clock): how they are made and dropped."""

from __future__ import annotations

import re
from collections.abc import Iterable

import asyncpg

from pointsman.ports.retention import BUCKET_MS
from pointsman.stores.postgres.server import Connection
from pointsman.stores.queries import load

_EXISTS = "SELECT to_regclass($1) IS NOT NULL"
_CREATE = """
CREATE TABLE IF NOT EXISTS {name} (LIKE streams INCLUDING DEFAULTS INCLUDING STORAGE INCLUDING CONSTRAINTS)
WITH (toast_tuple_target = 4080)
"""
_ATTACH = "ALTER TABLE streams ATTACH PARTITION {name} FOR VALUES FROM ({first}) TO ({last})"
_DETACH = "ALTER TABLE streams DETACH PARTITION {name} CONCURRENTLY"
_FINALIZE = "ALTER TABLE streams DETACH PARTITION {name} FINALIZE"
_DROP = "DROP TABLE IF EXISTS {name}"
_NAME = re.compile(r"^streams_(minus_)?(\d+)$")

_SQL = load(__package__, "retention")


def bucket_of(now_ms: int) -> int:
    return now_ms // BUCKET_MS


def partition_name(bucket: int) -> str:
    return f"streams_{bucket}" if bucket >= 0 else f"streams_minus_{-bucket}"


async def make_partitions(connection: Connection, buckets: Iterable[int] = ()) -> None:
    """Make the missing partitions of this week, the next week, and `buckets`.

    Each is created as a table and then attached, so that inserts into the others go on; creating it as a partition
    would wait for them.
    """
    week = bucket_of(await connection.fetchval(_SQL["now"]))
    for bucket in sorted({week, week + 1, *buckets}):
        name = partition_name(int(bucket))
        if await connection.fetchval(_EXISTS, name):
            continue
        try:
            async with connection.transaction():
                await connection.execute(_CREATE.format(name=name))
                await _attach(connection, int(bucket))
        except (asyncpg.DuplicateTableError, asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError,
                asyncpg.InvalidObjectDefinitionError, asyncpg.WrongObjectTypeError):  # fmt: skip
            continue  # another coordinator was faster


async def partition_sizes(connection: Connection) -> dict[int, int]:
    """Bytes on disk of every bucket that has a partition, or the remains of one that was being dropped."""
    rows = await connection.fetch(_SQL["partitions"])
    return {_bucket(row["name"]): row["size"] for row in rows}


async def drop_partition(connection: Connection, bucket: int) -> bool:
    """Detach the bucket's partition and drop it, or finish a drop that was begun before. False: a run is still in it.

    A detached table takes no more events, because DETACH waits for all transactions that might still write. The heads
    are then checked once more: if one still names the bucket, the partition is attached again.

    Raises:
        asyncpg.PostgresError: of class 55: somebody reads it for longer than lock_timeout.
    """
    if await connection.fetchval(_SQL["left"], bucket):
        return False
    name = partition_name(bucket)
    states = {row["name"]: row for row in await connection.fetch(_SQL["partitions"])}
    if name not in states:
        return True
    if states[name]["is_attached"]:
        await connection.execute((_FINALIZE if states[name]["is_pending"] else _DETACH).format(name=name))
    if await connection.fetchval(_SQL["left"], bucket):
        await _attach(connection, bucket)
        return False
    await connection.execute(_DROP.format(name=name))
    return True


async def _attach(connection: Connection, bucket: int) -> None:
    await connection.execute(_ATTACH.format(name=partition_name(bucket), first=bucket, last=bucket + 1))


def _bucket(name: str) -> int:
    match = _NAME.match(name)
    assert match is not None, name
    return -int(match[2]) if match[1] else int(match[2])
