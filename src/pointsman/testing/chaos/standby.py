"""A primary and a standby, and a site before which the standby is promoted when the primary is killed.

Responsible for: seeding a standby, promoting it, making the dead primary the next standby. Its database blocks, as the
embedded server does; the link between the two is a proxy, so that replication can be made to fall behind.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg

from pointsman.stores.postgres.embedded import EmbeddedPostgres
from pointsman.stores.postgres.embedded_binaries import run, runnable_binaries
from pointsman.testing.chaos.own import CONNECTIONS_MAX, OwnSite
from pointsman.testing.chaos.proxy import Proxy
from pointsman.testing.chaos.site import NotWhole, address_of

SETTINGS: Final = {"max_connections": str(CONNECTIONS_MAX), "shared_buffers": "64MB", "wal_keep_size": "128MB"}
IN_STEP: Final = {
    True: "SELECT count(*) > 0 FROM pg_stat_replication WHERE sync_state = 'sync'",
    False: "SELECT count(*) > 0 FROM pg_stat_replication WHERE state = 'streaming'",
}
"""By whether it is synchronous: does the standby follow?"""
IN_STEP_TIMEOUT_S: Final = 30.0
POLL_S: Final = 0.05


class StandbyFailed(NotWhole):
    """The standby could not be made, or does not follow; the message says what PostgreSQL said."""

    code = "standby_failed"


class Pair:
    """Two servers below `directory`, one of which is the primary; the standby reaches it over `link`, which has
    started."""

    def __init__(self, directory: Path, link: Proxy, *, is_synchronous: bool) -> None:
        self._directory = directory
        self._link = link
        self._is_synchronous = is_synchronous
        self._names = ["a", "b"]
        """The primary's first."""
        self.dsn = ""

    def start(self) -> str:
        """Both, the standby in step. Returns the primary's DSN. Raises: StandbyFailed, EmbeddedPostgresFailed."""
        self.dsn = self._primary.start()
        self._link.point_at(*address_of(self.dsn))
        self.follow()
        return self.dsn

    def stop(self) -> None:
        for name in self._names:
            EmbeddedPostgres(self._directory / name).stop()

    def kill(self) -> None:
        """The primary alone."""
        self._primary.kill()

    def promote(self) -> str:
        """The standby is the primary from now on, and waits for no standby as long as it has none. Its DSN."""
        self._names.reverse()
        self.dsn = _reached_at(self.dsn, self._port(self._names[0]))
        _execute(self.dsn, "SELECT pg_promote(true, 30)")
        _execute(self.dsn, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
        return self.dsn

    def follow(self) -> None:
        """The other becomes the primary's standby, from scratch, and keeps step. Raises: StandbyFailed."""
        directory = self._directory / self._names[1]
        directory.mkdir(parents=True, exist_ok=True)
        owner = self._primary.directory.stat()
        account = pwd.getpwuid(owner.st_uid) if os.geteuid() == 0 else None
        _remove(directory / "data")
        shutil.copy2(self._primary.directory / "password", directory / "password")
        if account is not None:
            for path in (directory, directory / "password"):
                os.chown(path, account.pw_uid, account.pw_gid)
        binaries = runnable_binaries(directory, account)
        link = _reached_at(self.dsn, self._link.port)
        said = run(
            [binaries / "pg_basebackup", "-D", directory / "data", "-d", link, "-X", "stream", "-c", "fast", "-R"],
            directory, account,
        )  # fmt: skip
        if said.returncode != 0:
            raise StandbyFailed(f"pg_basebackup: {said.stderr.strip()}")
        EmbeddedPostgres(directory, settings=SETTINGS).start()
        if self._is_synchronous:
            names = "ALTER SYSTEM SET synchronous_standby_names = '*'"
            _execute(self.dsn, names, "SELECT pg_reload_conf()")
        _until(self.dsn, IN_STEP[self._is_synchronous])

    @property
    def _primary(self) -> EmbeddedPostgres:
        return EmbeddedPostgres(self._directory / self._names[0], settings=SETTINGS)

    def _port(self, name: str) -> int:
        return int((self._directory / name / "port").read_text())


class PairSite(OwnSite):
    """A site before a primary and its standby."""

    def __init__(self, directory: Path, *, is_synchronous: bool) -> None:
        self.link = Proxy("127.0.0.1", 0)
        self.pair = Pair(directory / "pair", self.link, is_synchronous=is_synchronous)
        super().__init__(directory, database=self.pair)

    async def start(self) -> None:
        """Raises: StandbyFailed, and what `OwnSite.start` raises."""
        await self.link.start()
        await super().start()

    async def stop(self) -> None:
        try:
            await super().stop()
        finally:
            await self.link.stop()

    async def fail_over(self, until: Awaitable[None]) -> None:
        """The link stops, and after `until` the primary is killed; the standby is promoted, and is where the primary
        was: an address that moved."""
        self.link.block()
        await until
        await asyncio.to_thread(self.pair.kill)
        self.link.cut()
        self.dsn = await asyncio.to_thread(self.pair.promote)
        for proxy in self.proxies.values():
            proxy.point_at(*address_of(self.dsn))

    async def follow(self) -> None:
        """The dead primary becomes the standby of the new one. Raises: StandbyFailed."""
        self.link.unblock()
        self.link.point_at(*address_of(self.dsn))
        await asyncio.to_thread(self.pair.follow)


def synchronous_pair(directory: Path) -> PairSite:
    """Nothing is acknowledged before the standby has it."""
    return PairSite(directory, is_synchronous=True)


def asynchronous_pair(directory: Path) -> PairSite:
    """The standby follows as fast as it can: what it does not have yet is lost with the primary."""
    return PairSite(directory, is_synchronous=False)


def _reached_at(dsn: str, port: int) -> str:
    parts = urlsplit(dsn)
    return parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{port}").geturl()


def _execute(dsn: str, *statements: str) -> None:
    async def all_of_them() -> None:
        connection: asyncpg.Connection[Any] = await asyncpg.connect(dsn)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(all_of_them())


def _until(dsn: str, question: str) -> None:
    async def ask() -> None:
        connection: asyncpg.Connection[Any] = await asyncpg.connect(dsn)
        try:
            async with asyncio.timeout(IN_STEP_TIMEOUT_S):
                while not await connection.fetchval(question):  # noqa: ASYNC110  it sends no event
                    await asyncio.sleep(POLL_S)
        except TimeoutError as error:
            raise StandbyFailed(f"the standby does not follow after {IN_STEP_TIMEOUT_S:g} s") from error
        finally:
            await connection.close()

    asyncio.run(ask())


def _remove(data: Path) -> None:
    """Backends of a killed server may still write while they leave."""
    deadline = time.monotonic() + IN_STEP_TIMEOUT_S
    while data.exists():
        shutil.rmtree(data, ignore_errors=True)
        if time.monotonic() > deadline:
            raise StandbyFailed(f"{data} can't be removed")
