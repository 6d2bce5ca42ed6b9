"""The cluster under load: started as `pointsman up` starts one, a coordinator killed in the middle, the event log read.

What became of the tickets is told by the log alone; only how long a client waited is told by the client.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec

from benchmarks.meter import machine_cpu_s, processes
from benchmarks.triage.agents import SETUP, Setup, prepare, start_clock
from benchmarks.triage.data import Ticket
from benchmarks.triage.figures import Outcome
from benchmarks.triage.ledger import Account, Ledger, Seen
from benchmarks.triage.load import Load
from pointsman.cluster import LocalCluster
from pointsman.stores import payload

APP: Final = "benchmarks.triage.app:app"
ROOT: Final = Path(__file__).parents[2]
COORDINATORS: Final = 3


class Kill(msgspec.Struct):
    """`at_ms`: wall clock. `orphans`: the runs that the victim owned."""

    name: str
    at_ms: float
    after_s: float
    orphans: frozenset[str]


class Cluster:
    """One measurement in `directory`, which must be empty and reachable by the embedded server's user."""

    def __init__(self, directory: Path, setup: Setup, *, store: str | None = None) -> None:
        self._setup = setup
        self._path = prepare(directory, setup)
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        self._cluster = LocalCluster(
            APP, COORDINATORS, directory=directory, store=store,
            environment={SETUP: str(self._path), "PYTHONPATH": paths},
        )  # fmt: skip
        self._prefix = f"triage-{os.urandom(3).hex()}"
        self._enough = asyncio.Event()
        self.kill: Kill | None = None
        self.facts: dict[str, Any] = {}

    async def run(self, tickets: Sequence[Ticket]) -> tuple[list[Outcome], float]:
        """What became of the tickets, and the seconds from the first arrival to the last end.

        Raises:
            What `LocalCluster.start` raises.
        """
        await self._cluster.start()
        try:
            assert self._cluster.dsn is not None
            connection = await asyncpg.connect(self._cluster.dsn)
            try:
                load = Load(
                    self._cluster.url, tickets, prefix=self._prefix, per_second=self._setup.per_second
                )  # fmt: skip
                cpu_before = self._cpu_s()
                started = start_clock(self._path)
                killer = asyncio.create_task(self._kill_busiest(connection, started))
                await load.run(lambda done: self._count(done, len(tickets)))
                await killer
                self.facts["cpu_s"] = {
                    name: round(s - cpu_before.get(name, 0.0), 2) for name, s in self._cpu_s().items()
                }
                accounts = await self._accounts(connection, tickets)
                await self._look(connection, load)
                met = Counter(kind for account in accounts for kind in account.failures)
                self.facts["failures_met"] = dict(met.most_common())
            finally:
                await connection.close()
        finally:
            await self._cluster.stop()
        opened = [account.open_ms / 1000 - started for account in accounts if account.open_ms is not None]
        answered = [sent.ended_s for sent in load.sent.values() if sent.ended_s is not None]
        outcomes = [self._outcome(*each, load) for each in zip(range(len(tickets)), tickets, accounts, strict=True)]
        return outcomes, max(opened + answered, default=0.0)

    def _cpu_s(self) -> dict[str, float]:
        """CPU seconds so far, of the processes that live now, and of the whole machine, whoever used them."""
        living = processes()
        of = {name: living[pid][1] for name, pid in self._cluster.pids().items() if pid in living}
        own = os.times()
        said = {"clients": own.user + own.system, "router": of.pop("router", 0.0), "coordinators": sum(of.values())}
        if self._cluster.postgres is not None:
            pid_file = self._cluster.postgres.data / "postmaster.pid"
            postmaster = int(pid_file.read_text().split()[0])
            said["postgresql"] = sum(cpu_s for parent, cpu_s in living.values() if parent == postmaster)
        return {**said, "machine": machine_cpu_s()}

    def _count(self, done: int, tickets: int) -> None:
        if done >= tickets * self._setup.plan.kill_at:
            self._enough.set()

    async def _kill_busiest(self, connection: asyncpg.Connection[Any], started: float) -> None:
        await self._enough.wait()
        row = await connection.fetchrow(
            "SELECT c.name, c.incarnation FROM runs r JOIN coordinators c ON c.incarnation = r.owner"
            " WHERE c.ended_at IS NULL GROUP BY 1, 2 ORDER BY count(*) DESC, 1 LIMIT 1"
        )
        if row is None:
            return
        # Before the kill: afterwards others may own them within milliseconds.
        owned = await connection.fetch("SELECT id FROM runs WHERE owner = $1", row["incarnation"])
        self._cluster.kill(row["name"])
        now = time.time()
        self.kill = Kill(row["name"], now * 1000, now - started, frozenset(run["id"] for run in owned))

    async def _accounts(self, connection: asyncpg.Connection[Any], tickets: Sequence[Ticket]) -> list[Account]:
        rows = await connection.fetch(
            "SELECT run, at, epoch, type, body::text AS body, packed, codec FROM events"
            " WHERE run LIKE $1 ORDER BY run, sequence",
            f"{self._prefix}-%",
        )
        events = {run: [_seen(row) for row in mine] for run, mine in groupby(rows, key=lambda row: row["run"])}
        self.facts["events"] = len(rows)
        return [
            Ledger(self._setup.plan, ticket.row, self._kill_ms(number)).read(events.get(self._run(number), ()))
            for number, ticket in enumerate(tickets)
        ]

    def _run(self, number: int) -> str:
        return f"{self._prefix}-{number}"

    def _kill_ms(self, number: int) -> float | None:
        is_orphan = self.kill is not None and self._run(number) in self.kill.orphans
        return self.kill.at_ms if self.kill is not None and is_orphan else None

    async def _look(self, connection: asyncpg.Connection[Any], load: Load) -> None:
        """What else a reader of the figures may ask."""
        self.facts |= {
            "coordinators": COORDINATORS,
            "postgresql": await connection.fetchval("SHOW server_version"),
            "fsync": await connection.fetchval("SHOW fsync"),
            "client_errors": len(load.errors),
            "client_errors_first": load.errors[:3],
            "under_way_most": load.under_way_most,
            "killed": None if self.kill is None else self.kill.name,
            "killed_after_s": None if self.kill is None else round(self.kill.after_s, 2),
        }

    def _outcome(self, number: int, ticket: Ticket, account: Account, load: Load) -> Outcome:
        has_answer = account.status in ("answered", "static")
        return Outcome(
            ticket, account.status, account.saved_by, load.sent[number].latency_s if has_answer else None,
            account.agent_s, account.waits_s, account.named, self._kill_ms(number) is not None,
        )  # fmt: skip


def _seen(row: asyncpg.Record) -> Seen:
    body = payload.load(row["body"].encode(), row["packed"], row["codec"])
    return Seen(row["at"], row["epoch"], row["type"], msgspec.json.decode(body.partition(b"\n")[0]))
