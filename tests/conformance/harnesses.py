"""How each store joins the suite."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import asyncpg

from pointsman.ports.liveness import Lease
from pointsman.ports.store import Store
from pointsman.stores.inprocess.lease import InProcessLease
from pointsman.stores.memory import MemoryDatabase, MemoryStore
from pointsman.stores.postgres import PostgresSettings, PostgresStore
from pointsman.stores.postgres.lease import PostgresLease
from pointsman.stores.queries import load
from pointsman.stores.redis import RedisStore
from pointsman.stores.sqlite import SqliteDatabase, SqliteStore
from pointsman.testing.conformance import Harness

_LIVENESS = load("pointsman.stores.postgres", "liveness")


class MemoryHarness(Harness):
    def __init__(
        self,
        database: MemoryDatabase | None = None,
        make: Callable[[MemoryDatabase], Store] = MemoryStore,
    ) -> None:
        super().__init__()
        self.database = database or MemoryDatabase()
        self._make = make

    def new_store(self) -> Store:
        return self._make(self.database)

    async def freeze(self, store: Store, lease: Lease) -> None:
        assert isinstance(lease, InProcessLease)
        await lease.stop()

    async def end(self, incarnation: int) -> None:
        assert self.database.end(incarnation)


class SqliteHarness(Harness):
    """One file, opened by one process: each store is a coordinator of it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._database = SqliteDatabase(path)

    def new_store(self) -> Store:
        return SqliteStore(self._database)

    async def freeze(self, store: Store, lease: Lease) -> None:
        assert isinstance(lease, InProcessLease)
        await lease.stop()

    async def end(self, incarnation: int) -> None:
        assert self._database.end(incarnation)


class PostgresHarness(Harness):
    """Each store has connections of its own to the migrated database at `dsn`."""

    def __init__(self, dsn: str) -> None:
        super().__init__()
        self._dsn = dsn

    def new_store(self) -> Store:
        return PostgresStore(self._dsn, PostgresSettings(loop_stall_exits=False))

    async def freeze(self, store: Store, lease: Lease) -> None:
        """A main loop without a sign of life: the lease is not renewed, and its connection stays."""
        assert isinstance(lease, PostgresLease)
        assert lease.heartbeat is not None
        lease.heartbeat.cancel()
        await asyncio.wait((lease.heartbeat,))

    async def end(self, incarnation: int) -> None:
        connection = await asyncpg.connect(self._dsn)
        try:
            await connection.execute(_LIVENESS["end_incarnation"], incarnation)
        finally:
            await connection.close()


class RedisHarness(Harness):
    """Each store has connections of its own to one server; each case a prefix of its own."""

    def __init__(self, url: str, prefix: str) -> None:
        super().__init__()
        self._url = f"{url}?prefix={prefix}&unsafe=1"

    def new_store(self) -> Store:
        return RedisStore(self._url)

    async def freeze(self, store: Store, lease: Lease) -> None:
        """The lease is not renewed, and the connections stay."""
        assert isinstance(lease, InProcessLease)
        await lease.stop()

    async def end(self, incarnation: int) -> None:
        store = RedisStore(self._url)
        await store.open()
        try:
            await store.liveness.end(incarnation)
        finally:
            await store.close()
