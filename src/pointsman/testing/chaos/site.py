"""The cluster that a drill happens to: PostgreSQL, a router, coordinators, and between each of these and PostgreSQL a
proxy of its own.

Responsible for: starting all of it, being whole again after a fault, stopping. Must not know: faults, load, figures.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import asyncpg
import msgspec

from pointsman.cluster import LocalCluster
from pointsman.stores.postgres.embedded import EmbeddedPostgres
from pointsman.testing.chaos.app import JOURNAL, SWITCHES
from pointsman.testing.chaos.proxy import Proxy

APP: Final = "pointsman.testing.chaos.app:app"
COORDINATORS: Final = 3
CONNECTIONS_MAX: Final = 60
"""Few enough to use up all of them in a moment; three coordinators take about thirty."""
POLL_S: Final = 0.05
WHOLE_TIMEOUT_S: Final = 60.0
OWNERS = """
SELECT c.name, c.incarnation, count(r.id) AS runs
FROM coordinators c LEFT JOIN runs r ON r.owner = c.incarnation
WHERE c.ended_at IS NULL GROUP BY 1, 2 ORDER BY 3 DESC, 1
"""


class Owner(msgspec.Struct, frozen=True):
    """A living coordinator, and how many runs it owns."""

    name: str
    incarnation: int
    runs: int


class Database(Protocol):
    """A PostgreSQL of the site's own. Its methods block."""

    def start(self) -> str:
        """Running, and its DSN."""
        ...

    def stop(self) -> None: ...


class NotWhole(RuntimeError):
    """The cluster did not come back after a fault; its logs are in the directory that is named."""


class Site:
    """In `directory`, which must be empty and which the database's user must be able to reach.

    Args:
        app: what the coordinators load.
        database: an embedded server with few connections, without.
    """

    def __init__(self, directory: Path, *, app: str = APP, database: Database | None = None) -> None:
        self.directory = directory
        self.switches = directory / "switches"
        self.journal = directory / "invocations.jsonl"
        self.database = database if database is not None else embedded(directory)
        self.dsn = ""
        """Of the database itself, past all proxies."""
        self.proxies: dict[str, Proxy] = {}
        self._app = app
        self._cluster: LocalCluster | None = None

    @property
    def cluster(self) -> LocalCluster:
        if self._cluster is None:
            raise RuntimeError("the site has not started")
        return self._cluster

    @property
    def url(self) -> str:
        return self.cluster.url

    async def start(self) -> None:
        """Raises what `LocalCluster.start` raises."""
        self.switches.mkdir(exist_ok=True)
        self.dsn = await asyncio.to_thread(self.database.start)
        names = [f"coordinator-{number}" for number in range(1, COORDINATORS + 1)]
        for name in names:
            proxy = self.proxies[name] = Proxy(*address_of(self.dsn))
            await proxy.start()
        paths = os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH", "")]))
        self._cluster = LocalCluster(
            self._app, COORDINATORS, directory=self.directory, store=self.dsn,
            stores={name: self.proxies[name].dsn(self.dsn) for name in names},
            environment={JOURNAL: str(self.journal), SWITCHES: str(self.switches), "PYTHONPATH": paths},
        )  # fmt: skip
        await self._cluster.start()

    async def stop(self) -> None:
        try:
            if self._cluster is not None:
                for name in self.cluster.pids():
                    self.cluster.kill(name, signal.SIGCONT)
                await self._cluster.stop()
        finally:
            for proxy in self.proxies.values():
                await proxy.stop()
            await asyncio.to_thread(self.database.stop)

    async def query(self, statement: str, *arguments: object) -> list[Any]:
        """On a connection of its own, past the proxies. Raises what asyncpg raises."""
        connection: asyncpg.Connection[Any] = await asyncpg.connect(self.dsn)
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            await connection.close()

    async def owners(self) -> list[Owner]:
        """Living coordinators, the one with most runs first."""
        return [Owner(row["name"], row["incarnation"], row["runs"]) for row in await self.query(OWNERS)]

    async def until_ended(self, incarnation: int) -> None:
        """Until somebody has ended it. Raises NotWhole: nobody does."""
        await self._until("SELECT ended_at IS NOT NULL FROM coordinators WHERE incarnation = $1", incarnation)

    async def until_back(self, name: str, incarnation: int) -> None:
        """Until `name` has a later incarnation that lives. Raises NotWhole."""
        await self._until(
            "SELECT count(*) > 0 FROM coordinators WHERE name = $1 AND incarnation > $2 AND ended_at IS NULL",
            name, incarnation,
        )  # fmt: skip

    async def whole(self) -> None:
        """Until every process is ready, each coordinator has a living incarnation, and the router knows them all.

        Raises: NotWhole, ClusterFailed.
        """
        for proxy in self.proxies.values():
            proxy.unblock()
            proxy.delay_s, proxy.is_deaf = 0.0, False
        await self.cluster.wait_ready(WHOLE_TIMEOUT_S)
        await self._until("SELECT count(*) = $1::int FROM coordinators WHERE ended_at IS NULL", COORDINATORS)

    async def _until(self, question: str, *arguments: object) -> None:
        """Asked over one connection, again and again."""
        connection: asyncpg.Connection[Any] = await asyncpg.connect(self.dsn)
        try:
            async with asyncio.timeout(WHOLE_TIMEOUT_S):
                while not await connection.fetchval(question, *arguments):  # noqa: ASYNC110  it sends no event
                    await asyncio.sleep(POLL_S)
        except TimeoutError as error:
            raise NotWhole(
                f"after {WHOLE_TIMEOUT_S:g} s still not: {question} {arguments}; {self.directory}"
            ) from error
        finally:
            await connection.close()


def embedded(directory: Path, settings: Mapping[str, str] | None = None) -> EmbeddedPostgres:
    """A server below `directory`, with fsync, as in earnest."""
    few = {"max_connections": str(CONNECTIONS_MAX), "shared_buffers": "64MB"}
    return EmbeddedPostgres(directory / "postgres", settings={**few, **(settings or {})})


def address_of(dsn: str) -> tuple[str, int]:
    parts = urlsplit(dsn)
    return parts.hostname or "127.0.0.1", parts.port or 5432
