"""What a schedule may ask of the cluster that a drill happens to, wherever it is: a look into its database, a signal to
one of its processes, and whether all is whole again.

own.py starts one, running.py finds one. Must not know: faults, load, figures.
"""

from __future__ import annotations

import asyncio
import os
import signal
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import asyncpg
import msgspec

from pointsman.kernel.errors import PointsmanError

Offer = Literal["processes", "database", "own", "root"]
"""What can be done: to processes on this machine; to PostgreSQL itself; only to a cluster of one's own, with its
network, its agents and its disk; only by root."""
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


class NotWhole(PointsmanError):
    """The cluster did not come back after a fault; the message says what is missing."""

    code = "not_whole"


class Site(ABC):
    """The cluster that a drill happens to.

    Attributes:
        directory: for what the drill itself writes.
        url: the router's. dsn: the database's.
        journal: where agents write down their calls, if they do.
        offers: what can be done to it.
    """

    directory: Path
    url: str
    dsn: str
    journal: Path
    offers: frozenset[Offer]

    @abstractmethod
    async def start(self) -> None:
        """Raises what the kind of site says."""

    @abstractmethod
    async def stop(self) -> None:
        """Leave nothing behind."""

    @abstractmethod
    def pids(self) -> dict[str, int]:
        """Of the living processes, by name."""

    @abstractmethod
    async def stop_database(self) -> None:
        """In order."""

    @abstractmethod
    async def kill_database(self) -> None:
        """At once."""

    @abstractmethod
    async def start_database(self) -> None:
        """And wait until it answers."""

    @abstractmethod
    async def whole(self) -> None:
        """Until it is as it was before the fault. Raises: NotWhole, ClusterFailed."""

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal one process. Raises: KeyError (it has none), ProcessLookupError."""
        os.kill(self.pids()[name], number)

    async def until_replaced(self, name: str, pid: int) -> None:
        """Until `name` is another process than `pid`. Raises: NotWhole."""
        for _ in range(round(WHOLE_TIMEOUT_S / POLL_S)):
            if self.pids().get(name, pid) != pid:
                return
            await asyncio.sleep(POLL_S)
        raise NotWhole(f"after {WHOLE_TIMEOUT_S:g} s nobody has started {name} again")

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

    async def _until(self, question: str, *arguments: object) -> None:
        """Asked over one connection, again and again."""
        connection: asyncpg.Connection[Any] = await asyncpg.connect(self.dsn)
        try:
            async with asyncio.timeout(WHOLE_TIMEOUT_S):
                while not await connection.fetchval(question, *arguments):  # noqa: ASYNC110  it sends no event
                    await asyncio.sleep(POLL_S)
        except TimeoutError as error:
            raise NotWhole(f"after {WHOLE_TIMEOUT_S:g} s still not: {question} {arguments}") from error
        finally:
            await connection.close()


def address_of(dsn: str) -> tuple[str, int]:
    parts = urlsplit(dsn)
    return parts.hostname or "127.0.0.1", parts.port or 5432
