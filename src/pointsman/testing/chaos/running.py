"""A cluster that runs already: found, not started, and left as it is.

Must not know: what runs on it. Its agents write down nothing for a drill, so what they were asked twice is not counted.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from pointsman.cluster.local import PROCESSES
from pointsman.kernel.errors import PointsmanError
from pointsman.stores.postgres.embedded import EmbeddedPostgres
from pointsman.testing.chaos.site import NotWhole, Site

LIVING = "SELECT count(*) >= $1::int FROM coordinators WHERE ended_at IS NULL AND expires_at > now()"


class NotRunning(PointsmanError):
    """Start one with `pointsman up --data DIR`, or give both --url and --store."""

    code = "not_running"


class RunningSite(Site):
    """By its router and its database, and by the directory of `pointsman up` where it runs on this machine.

    Args:
        directory: for what the drill itself writes.
        data: of `pointsman up`. Its processes can then be signalled, and its embedded PostgreSQL stopped.
        url, dsn: found in `data` where they are not given.

    Raises:
        NotRunning
    """

    def __init__(self, directory: Path, *, data: Path | None, url: str | None, dsn: str | None) -> None:
        self._data = data
        self._living = 0
        self._postgres: EmbeddedPostgres | None = None
        self.directory = directory
        self.journal = directory / "invocations.jsonl"
        self.offers = frozenset()
        if data is not None:
            self.offers |= {"processes"}
            url = url or str(self._state()["url"])
            if dsn is None and (data / "postgres").is_dir():
                self._postgres = EmbeddedPostgres(data / "postgres")
                dsn = self._postgres.start()
                self.offers |= {"database"}
        if url is None or dsn is None:
            raise NotRunning(f"not both the URL and the store of a cluster are known. {NotRunning.__doc__}")
        self.url, self.dsn = url, dsn

    def _state(self) -> dict[str, object]:
        assert self._data is not None
        try:
            state: dict[str, object] = json.loads((self._data / PROCESSES).read_text())
        except FileNotFoundError as error:
            raise NotRunning(f"no cluster runs on {self._data}. {NotRunning.__doc__}") from error
        return state

    async def start(self) -> None:
        """See how many coordinators there are: so many must be there after each drill."""
        self._living = len(await self.owners())
        if not self._living:
            raise NotRunning(f"no coordinator lives at {self.url}. {NotRunning.__doc__}")

    async def stop(self) -> None:
        """It goes on."""

    def pids(self) -> dict[str, int]:
        if self._data is None:
            raise NotRunning(f"whose processes are not known. {NotRunning.__doc__}")
        found = self._state()["processes"]
        assert isinstance(found, dict)
        return found

    async def stop_database(self) -> None:
        await asyncio.to_thread(self._embedded.stop)

    async def kill_database(self) -> None:
        await asyncio.to_thread(self._embedded.kill)

    async def start_database(self) -> None:
        await asyncio.to_thread(self._embedded.start)

    @property
    def _embedded(self) -> EmbeddedPostgres:
        if self._postgres is None:
            raise NotWhole("its PostgreSQL is not one of ours to stop")
        return self._postgres

    async def whole(self) -> None:
        await self._until(LIVING, self._living)
