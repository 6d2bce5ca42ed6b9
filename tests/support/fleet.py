"""Routers and coordinators as processes of their own, on one database: started, signalled, replaced by tests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from pointsman.node import hash_seed
from pointsman.stores.postgres.migrate import migrate
from tests.support.http import Connection

COMMAND = (sys.executable, "-m", "pointsman.cli.main")
START_TIMEOUT_S = 90.0


@dataclass
class Member:
    """One process, and what it said of itself when it was ready."""

    name: str
    process: asyncio.subprocess.Process
    said: dict[str, Any] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return str(self.said["address"])

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    async def says(self) -> dict[str, Any]:
        """The next line that it prints."""
        assert self.process.stdout is not None
        async with asyncio.timeout(START_TIMEOUT_S):
            line = await self.process.stdout.readline()
        assert line, f"{self.name} said nothing"
        said: dict[str, Any] = json.loads(line)
        return said

    async def leave(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Its exit code, and how long it took (s)."""
        began = time.monotonic()
        self.process.send_signal(number)
        async with asyncio.timeout(START_TIMEOUT_S):
            return await self.process.wait(), time.monotonic() - began


class Fleet:
    """See the module. Use `fleet(...)`."""

    def __init__(self, dsn: str, app: str, directory: Path, seed: int) -> None:
        self.dsn = dsn
        self.members: dict[str, Member] = {}
        self._app = app
        self._directory = directory
        self._environment = {**os.environ, "POINTSMAN_STORE": dsn, "PYTHONHASHSEED": str(seed)}

    async def router(self, name: str = "router", *, port: int = 0) -> Member:
        return await self.start(name, "router", "--port", str(port))

    async def coordinator(self, name: str, *options: str, routers: Sequence[Member]) -> Member:
        to = [word for router in routers for word in ("--router", f"http://{router.address}")]
        return await self.start(name, "coordinator", self._app, "--name", name, *to, *options)

    async def start(self, name: str, *arguments: str) -> Member:
        with (self._directory / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *COMMAND, *arguments, "--json", stdout=asyncio.subprocess.PIPE, stderr=log, env=self._environment
            )
        member = self.members[name] = Member(name, process)
        member.said = await member.says()
        return member

    def log(self, name: str) -> str:
        return (self._directory / f"{name}.log").read_text()

    async def known(self, router: Member, wanted: set[str]) -> None:
        """Until this router sends to exactly these coordinators."""
        connection = Connection(router.port)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while True:
                    answer = await connection.request("GET", "/router/coordinators")
                    rows = answer.json()["coordinators"]
                    if {row["name"] for row in rows if row["state"] == "live"} == wanted:
                        return
                    await asyncio.sleep(0.01)
        finally:
            connection.close()

    async def query(self, statement: str, *values: Any) -> list[Any]:
        connection = await asyncpg.connect(self.dsn)
        try:
            return list(await connection.fetch(statement, *values))
        finally:
            await connection.close()

    async def end(self) -> None:
        for member in self.members.values():
            if member.process.returncode is None:
                member.process.kill()
        for member in self.members.values():
            await member.process.wait()
            # A pipe that nobody read to its end would be closed by the garbage collector, with a warning.
            member.process._transport.close()  # type: ignore[attr-defined]


@asynccontextmanager
async def fleet(dsn: str, app: str, directory: Path) -> AsyncIterator[Fleet]:
    await migrate(dsn)
    members = Fleet(dsn, app, directory, await hash_seed(dsn))
    try:
        yield members
    finally:
        await members.end()
