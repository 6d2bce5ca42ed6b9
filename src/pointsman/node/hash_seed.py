"""The seed of string hashes that all coordinators of a cluster share. Must not know who asks for it."""

from __future__ import annotations

import random

import asyncpg

from pointsman.kernel.errors import SchemaMissing, StoreUnavailable
from pointsman.stores.postgres.server import ConnectError, Server
from pointsman.stores.postgres.settings import PostgresSettings
from pointsman.stores.sqlite.store import SqliteStore
from pointsman.stores.urls import SQLITE, is_redis, is_sqlite, redis_store

HASH_SEED_KEY = "hash_seed"
HASH_SEED_MAX = 2**32 - 1


async def hash_seed(dsn: str) -> int:
    """The seed of string hashes that all coordinators of a cluster share; the first one to ask draws it.

    Raises:
        StoreUnavailable, SchemaMissing, InvalidStoreUrl.
    """
    if is_sqlite(dsn):
        return await _of_file(dsn)
    if is_redis(dsn):
        return await _of_redis(dsn)
    server = Server(dsn, PostgresSettings())
    connection = await server.reach()
    try:
        drawn = str(random.SystemRandom().randint(1, HASH_SEED_MAX))
        await connection.execute(
            "INSERT INTO cluster (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING",
            HASH_SEED_KEY,
            drawn,
        )
        return int(await connection.fetchval("SELECT value FROM cluster WHERE key = $1", HASH_SEED_KEY))
    except asyncpg.UndefinedTableError as error:
        raise SchemaMissing from error
    except ConnectError as error:
        raise StoreUnavailable(f"{server.description} refused: {error}") from error
    finally:
        connection.terminate()


async def _of_file(url: str) -> int:
    store = SqliteStore(url.removeprefix(SQLITE))
    await store.open()
    try:
        return await store.hash_seed()
    finally:
        await store.close()


async def _of_redis(url: str) -> int:
    store = redis_store(url)
    await store.open()
    try:
        return await store.hash_seed()
    finally:
        await store.close()
