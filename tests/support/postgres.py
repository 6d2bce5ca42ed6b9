"""Databases for tests: one embedded server per session, one new database per test."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import asyncpg

from pointsman.stores.postgres.embedded import EmbeddedPostgres


@dataclass(frozen=True)
class TestServer:
    """A running server; `template` names the database that new ones are copied from (None: an empty one)."""

    __test__ = False

    dsn: str
    embedded: EmbeddedPostgres
    template: str | None = None
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)

    def dsn_of(self, database: str) -> str:
        return urlsplit(self.dsn)._replace(path=f"/{database}").geturl()

    @asynccontextmanager
    async def new_database(self) -> AsyncIterator[str]:
        """The DSN of a database that exists within the block; whoever is connected at its end is cut off."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        await self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{self.template or "template0"}"')
        try:
            yield self.dsn_of(name)
        finally:
            await self.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    async def execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def execute_blocking(self, statement: str) -> None:
        """For fixtures of the session, which run before any loop."""
        with asyncio.Runner() as runner:
            runner.run(self.execute(statement))


@contextmanager
def server_in_temporary_directory() -> Iterator[TestServer]:
    """Without fsync: what a test commits need not outlive the machine, only the server's process. Nor is its log kept
    for longer than necessary: it may be in memory.

    Not below pytest's own temporary directory, which nobody but its owner may enter: the server of a root
    session runs as somebody else.
    """
    with TemporaryDirectory(prefix="pointsman-test-") as directory:
        embedded = EmbeddedPostgres(Path(directory), settings={"fsync": "off", "max_wal_size": "256MB"})
        try:
            yield TestServer(dsn=embedded.start(), embedded=embedded)
        finally:
            embedded.stop()
