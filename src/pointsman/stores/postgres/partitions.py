"""Partitions of the streams: one per bucket, a bucket being a week of the store's clock."""

from __future__ import annotations

from collections.abc import Iterable

import asyncpg

from pointsman.stores.postgres.server import Connection

WEEK_MS = 7 * 24 * 3600 * 1000

_NOW = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_EXISTS = "SELECT to_regclass($1) IS NOT NULL"
_CREATE = """
CREATE TABLE IF NOT EXISTS {name} (LIKE streams INCLUDING DEFAULTS INCLUDING STORAGE INCLUDING CONSTRAINTS)
WITH (toast_tuple_target = 4080)
"""
_ATTACH = "ALTER TABLE streams ATTACH PARTITION {name} FOR VALUES FROM ({first}) TO ({last})"


def bucket_of(now_ms: int) -> int:
    return now_ms // WEEK_MS


def partition_name(bucket: int) -> str:
    return f"streams_{bucket}" if bucket >= 0 else f"streams_minus_{-bucket}"


async def make_partitions(connection: Connection, buckets: Iterable[int] = ()) -> None:
    """Those of this week and the next, and of `buckets`, as far as they are missing.

    A new table is attached, which lets inserts into the others go on; creating it as a partition would wait for them.
    """
    week = bucket_of(await connection.fetchval(_NOW))
    for bucket in sorted({week, week + 1, *buckets}):
        name = partition_name(int(bucket))
        if await connection.fetchval(_EXISTS, name):
            continue
        try:
            async with connection.transaction():
                await connection.execute(_CREATE.format(name=name))
                await connection.execute(_ATTACH.format(name=name, first=int(bucket), last=int(bucket) + 1))
        except (asyncpg.DuplicateTableError, asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError,
                asyncpg.InvalidObjectDefinitionError, asyncpg.WrongObjectTypeError):  # fmt: skip
            continue  # another coordinator was quicker
