"""A cluster of the drill's own: PostgreSQL, a router, coordinators, and between each of these and PostgreSQL a proxy.

Responsible for: starting all of it, being whole again after a fault, stopping. Must not know: faults, load, figures.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from pointsman.cluster import LocalCluster
from pointsman.stores.postgres.embedded import EmbeddedPostgres
from pointsman.testing.chaos.app import JOURNAL, SWITCHES
from pointsman.testing.chaos.proxy import Proxy
from pointsman.testing.chaos.site import WHOLE_TIMEOUT_S, Offer, Site, address_of

WITHOUT_ROOT: Final[frozenset[Offer]] = frozenset({"processes", "database", "own"})
WITH_ROOT: Final[frozenset[Offer]] = WITHOUT_ROOT | {"root"}
APP: Final = "pointsman.testing.chaos.app:app"
COORDINATORS: Final = 3
CONNECTIONS_MAX: Final = 60
"""Few enough to use up all of them in a moment; three coordinators take about thirty."""


class Database(Protocol):
    """A PostgreSQL of the site's own. Its methods block."""

    def start(self) -> str:
        """Running, and its DSN."""
        ...

    def stop(self) -> None: ...

    def kill(self) -> None:
        """Like a crash."""
        ...


class OwnSite(Site):
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
        self.offers = WITH_ROOT if os.geteuid() == 0 else WITHOUT_ROOT
        self.dsn = ""
        self.proxies: dict[str, Proxy] = {}
        self._app = app
        self._cluster: LocalCluster | None = None

    @property
    def cluster(self) -> LocalCluster:
        if self._cluster is None:
            raise RuntimeError("the site has not started")
        return self._cluster

    def pids(self) -> dict[str, int]:
        return self.cluster.pids()

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
        self.url = self._cluster.url

    async def stop(self) -> None:
        try:
            if self._cluster is not None:
                for name in self.pids():
                    self.kill(name, signal.SIGCONT)
                await self._cluster.stop()
        finally:
            for proxy in self.proxies.values():
                await proxy.stop()
            await asyncio.to_thread(self.database.stop)

    async def stop_database(self) -> None:
        await asyncio.to_thread(self.database.stop)

    async def kill_database(self) -> None:
        await asyncio.to_thread(self.database.kill)

    async def start_database(self) -> None:
        await asyncio.to_thread(self.database.start)

    async def whole(self) -> None:
        """Until every process is ready, each coordinator has a living incarnation, and the router knows them all.

        Raises: NotWhole, ClusterFailed.
        """
        for proxy in self.proxies.values():
            proxy.unblock()
            proxy.delay_s, proxy.is_deaf = 0.0, False
        await self.cluster.wait_ready(WHOLE_TIMEOUT_S)
        await self._until("SELECT count(*) = $1::int FROM coordinators WHERE ended_at IS NULL", COORDINATORS)


def embedded(directory: Path, settings: Mapping[str, str] | None = None) -> EmbeddedPostgres:
    """A server below `directory`, with fsync, as in earnest."""
    few = {"max_connections": str(CONNECTIONS_MAX), "shared_buffers": "64MB"}
    return EmbeddedPostgres(directory / "postgres", settings={**few, **(settings or {})})
