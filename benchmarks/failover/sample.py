"""One measurement: a cluster of its own, all runs on their way, SIGKILL to whoever owns most, and the wait for the end.

A new cluster each time: a coordinator that was started again, or tables that have grown, would make the samples differ.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec

from benchmarks.failover.app import WORKFLOW, Work
from benchmarks.failover.figures import CallOutcome, Seen
from benchmarks.meter import machine_cpu_s
from benchmarks.triage.load import Connection
from pointsman.cluster import LocalCluster
from pointsman.demo import journal
from pointsman.demo.faults import Victim

APP: Final = "benchmarks.failover.app:app"
ROOT: Final = Path(__file__).parents[2]
COORDINATORS: Final = 3
CLIENTS: Final = 32
"""Connections that start runs: the start is no part of what is measured, only to be over soon."""
POLL_S: Final = 0.1
IN_FLIGHT_TIMEOUT_S: Final = 30.0
PATIENCE_S: Final = 60.0
"""A run that has not ended so long after it should have without a kill is lost."""


class NotInFlight(Exception):
    """Not all runs were on their way at the same time, so a kill would measure something else: the machine is too slow
    for so many runs, or too busy now. Try again when it is quiet."""


class RunNotStarted(Exception):
    """The API did not accept a run; its answer is in the message."""


class Sample:
    """One kill in `directory`, which must be empty and reachable by the embedded server's user."""

    def __init__(self, directory: Path, runs: int, work: Work, *, store: str | None = None) -> None:
        self._runs = runs
        self._work = work
        self._journal = directory / "calls.jsonl"
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        self._cluster = LocalCluster(
            APP, COORDINATORS, directory=directory, store=store, restart=False,
            environment={journal.JOURNAL: str(self._journal), "PYTHONPATH": paths},
        )  # fmt: skip
        self._prefix = f"failover-{os.urandom(3).hex()}"
        self.facts: dict[str, Any] = {}

    async def run(self) -> Seen:
        """Start, kill, wait, read, stop. `facts` then says what else there is to know.

        Raises:
            NotInFlight, RunNotStarted, JournalDamaged, and what `LocalCluster.start` raises.
        """
        await self._cluster.start()
        try:
            connection = await asyncpg.connect(self._cluster.dsn)
            try:
                began = time.perf_counter()
                await self._start_all()
                started_s = time.perf_counter() - began
                incarnation, kill = await self._kill_busiest(connection)
                cpu_s, killed = machine_cpu_s(), time.perf_counter()
                await self._until_ended(connection)
                ended = time.perf_counter()
                self.facts |= {
                    "killed": kill.name,
                    "detected_ms": await self._detected_ms(connection, incarnation, kill),
                    "started_s": round(started_s, 2),
                    "killed_to_end_s": round(ended - killed, 2),
                    "cores_busy": round((machine_cpu_s() - cpu_s) / (ended - killed), 2),
                    "postgresql": await connection.fetchval("SHOW server_version"),
                    "fsync": await connection.fetchval("SHOW fsync"),
                }
                return await self._read(connection, kill, ended - began)
            finally:
                await connection.close()
        finally:
            await self._cluster.stop()

    # -- the load -----------------------------------------------------------------------------------------------------

    async def _start_all(self) -> None:
        host, _, port = self._cluster.url.removeprefix("http://").rpartition(":")
        numbers = iter(range(self._runs))
        async with asyncio.TaskGroup() as clients:
            for _ in range(min(CLIENTS, self._runs)):
                clients.create_task(self._start_some(Connection(host, int(port)), numbers))

    async def _start_some(self, connection: Connection, numbers: Iterator[int]) -> None:
        try:
            for number in numbers:
                body = {"workflow": WORKFLOW, "id": f"{self._prefix}-{number}", "input": self._work}
                status, answer = await connection.post("/v1/runs", msgspec.json.encode(body))
                if status not in (200, 201):
                    raise RunNotStarted(f"{status}: {answer[:200].decode(errors='replace')}")
        finally:
            connection.close()

    # -- the kill -----------------------------------------------------------------------------------------------------

    async def _kill_busiest(self, connection: asyncpg.Connection[Any]) -> tuple[int, Victim]:
        """Once all runs have an owner and have gone on for a step's time, so that none is at its start."""
        deadline = time.perf_counter() + IN_FLIGHT_TIMEOUT_S
        while sum(row["runs"] for row in await self._owners(connection)) < self._runs:
            if time.perf_counter() > deadline:
                raise NotInFlight(f"{self._runs} runs of {self._work}: not all have an owner. {NotInFlight.__doc__}")
            await asyncio.sleep(POLL_S)
        await asyncio.sleep(self._work.step_s)
        owners = await self._owners(connection)
        if sum(row["runs"] for row in owners) < self._runs:
            raise NotInFlight(f"{self._runs} runs of {self._work}: some have ended. {NotInFlight.__doc__}")
        name, incarnation = owners[0]["name"], owners[0]["incarnation"]
        self.facts["owned"] = {row["name"]: row["runs"] for row in owners}
        self.facts["load_average_at_kill"] = [round(load, 2) for load in os.getloadavg()]
        # Before the kill: afterwards others may own them within milliseconds. None of them ends in between.
        owned = await connection.fetch("SELECT id, epoch FROM runs WHERE owner = $1", incarnation)
        now = time.time()
        kill = Victim(name, self._cluster.kill(name), now * 1000)
        kill.orphans = {row["id"]: row["epoch"] for row in owned}
        return incarnation, kill

    async def _owners(self, connection: asyncpg.Connection[Any]) -> list[asyncpg.Record]:
        """Living coordinators and the number of runs that each owns, most first."""
        return await connection.fetch(
            "SELECT c.name, c.incarnation, count(*) AS runs FROM runs r JOIN coordinators c ON c.incarnation = r.owner"
            " WHERE r.id LIKE $1 AND r.ended_at IS NULL AND c.ended_at IS NULL GROUP BY 1, 2 ORDER BY 3 DESC, 1",
            f"{self._prefix}-%",
        )

    # -- the end ------------------------------------------------------------------------------------------------------

    async def _until_ended(self, connection: asyncpg.Connection[Any]) -> None:
        """Until no run is under way, or patience is over: the statuses tell which."""
        deadline = time.perf_counter() + self._work.steps * self._work.step_s + PATIENCE_S
        while time.perf_counter() < deadline:
            under_way = await connection.fetchval(
                "SELECT count(*) FROM runs WHERE id LIKE $1 AND ended_at IS NULL", f"{self._prefix}-%"
            )
            if not under_way:
                return
            await asyncio.sleep(POLL_S)

    async def _detected_ms(self, connection: asyncpg.Connection[Any], incarnation: int, kill: Victim) -> float | None:
        """From the kill until somebody ended the dead incarnation."""
        ended: datetime | None = await connection.fetchval(
            "SELECT ended_at FROM coordinators WHERE incarnation = $1", incarnation
        )
        return None if ended is None else round(ended.timestamp() * 1000 - kill.wall_ms, 1)

    async def _read(self, connection: asyncpg.Connection[Any], kill: Victim, seconds: float) -> Seen:
        like = f"{self._prefix}-%"
        statuses = await connection.fetch("SELECT status, count(*) AS n FROM runs WHERE id LIKE $1 GROUP BY 1", like)
        outcomes = await connection.fetch(
            "SELECT run, epoch, at, body->>'call' AS call FROM events"
            " WHERE run LIKE $1 AND type IN ('CallCompleted', 'CallFailed')",
            like,
        )
        return Seen(
            self._runs, self._work.steps, kill, {row["status"]: row["n"] for row in statuses},
            list(journal.read(self._journal)),
            [CallOutcome(row["run"], row["call"], row["epoch"], row["at"]) for row in outcomes], seconds,
        )  # fmt: skip
