"""What the drill does to its cluster in the middle of the load: SIGKILL, SIGSTOP, a restart of PostgreSQL.

One fault after the other: each victim is chosen, and each fault begun, when the runs of the last one have got on with
their new owners. Where faults overlap, a run's takeover would be measured from the first of those that met it. Must not
know the load, nor what is counted afterwards.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import asyncpg

from pointsman.cluster import LocalCluster

PATIENCE_S = 120.0
"""How long the runs of a dead coordinator may be without a new owner before the drill gives up."""

ENOUGH_RUNS = 20
"""A victim owns so many when it is struck, if any comes to own so many."""
SOON_S = 3.0
"""How long it is waited for, while it comes to own more."""

OWNERS = """
SELECT c.name, c.incarnation, count(*) AS runs FROM runs r JOIN coordinators c ON c.incarnation = r.owner
WHERE c.ended_at IS NULL GROUP BY 1, 2 ORDER BY 3 DESC, 1
"""

LEFT = """
SELECT EXISTS (SELECT FROM runs WHERE owner = $1)
    OR EXISTS (SELECT FROM runs WHERE id = ANY ($2) AND ended_at IS NULL AND takeovers > 0)
"""
"""An append clears what a takeover counts."""


@dataclass(frozen=True)
class Plan:
    """What is asked for.

    Attributes:
        kills: coordinators that get SIGKILL and are not started again.
        stops: coordinators that get SIGSTOP, and SIGCONT when their runs were taken over.
        restarts: how often PostgreSQL is stopped and started.
    """

    kills: int = 1
    stops: int = 0
    restarts: int = 0

    @property
    def victims(self) -> int:
        return self.kills + self.stops


@dataclass
class Victim:
    """A coordinator that got SIGKILL or SIGSTOP, and the runs that it owned at that moment, with their epochs."""

    name: str
    pid: int
    wall_ms: float
    orphans: dict[str, int] = field(default_factory=dict)


@dataclass
class Struck:
    """What was done, and what could not be."""

    kills: list[Victim] = field(default_factory=list)
    stops: list[Victim] = field(default_factory=list)
    restarts_ms: list[float] = field(default_factory=list)
    """How long PostgreSQL was away, each time."""
    in_vain: list[str] = field(default_factory=list)


class Faults:
    """Strikes by `plan`; `struck` says what came of it."""

    def __init__(self, cluster: LocalCluster, plan: Plan, say: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._plan = plan
        self._say = say
        self.struck = Struck()

    async def strike(self) -> None:
        for _ in range(self._plan.kills):
            await self._victim(signal.SIGKILL, self.struck.kills)
        for _ in range(self._plan.stops):
            if victim := await self._victim(signal.SIGSTOP, self.struck.stops):
                self._cluster.kill(victim.name, signal.SIGCONT)
                self._say(f"woke {victim.name}; others have its runs")
        for _ in range(self._plan.restarts):
            await self._restart_postgres()

    async def _victim(self, number: signal.Signals, into: list[Victim]) -> Victim | None:
        """Signal whoever owns most runs; back when these have got on elsewhere."""
        connection = await asyncpg.connect(self._cluster.dsn)
        try:
            known = {victim.name for victim in (*self.struck.kills, *self.struck.stops)}
            owners = await self._owners(connection, known)
            if not owners:
                self.struck.in_vain.append("there was no coordinator with runs left to signal: send more tickets")
                return None
            name, incarnation = owners[0]["name"], owners[0]["incarnation"]
            # Before the signal: afterwards others may own them within milliseconds.
            owned = await connection.fetch("SELECT id, epoch FROM runs WHERE owner = $1", incarnation)
            victim = Victim(name, self._cluster.kill(name, number), time.time() * 1000)
            into.append(victim)
            victim.orphans = {row["id"]: row["epoch"] for row in owned}
            self._say(f"{number.name} to {name}, which owned {len(victim.orphans)} runs")
            await self._until_got_on(connection, incarnation, victim)
            return victim
        finally:
            await connection.close()

    async def _owners(self, connection: asyncpg.Connection, known: set[str]) -> list[asyncpg.Record]:
        """Who may be struck, the one with most runs first: as soon as that has enough, or half of what it had."""
        deadline, most = time.perf_counter() + SOON_S, 0
        while True:
            owners = [row for row in await connection.fetch(OWNERS) if row["name"] not in known]
            runs = owners[0]["runs"] if owners else 0
            if runs >= ENOUGH_RUNS or 0 < 2 * runs <= most or time.perf_counter() > deadline:
                return owners
            most = max(most, runs)
            await asyncio.sleep(0.01)

    async def _until_got_on(self, connection: asyncpg.Connection, incarnation: int, victim: Victim) -> None:
        deadline = time.perf_counter() + PATIENCE_S
        while await connection.fetchval(LEFT, incarnation, list(victim.orphans)):
            if time.perf_counter() > deadline:
                self.struck.in_vain.append(f"runs of a dead coordinator were not taken over within {PATIENCE_S:g} s")
                return
            await asyncio.sleep(0.05)

    async def _restart_postgres(self) -> None:
        postgres = self._cluster.postgres
        assert postgres is not None, "the drill starts its own PostgreSQL"
        self._say("PostgreSQL is stopped, and started again")
        began = time.perf_counter()
        await asyncio.to_thread(postgres.stop)
        await asyncio.to_thread(postgres.start)
        self.struck.restarts_ms.append((time.perf_counter() - began) * 1000)
        self._say(f"PostgreSQL is back after {self.struck.restarts_ms[-1] / 1000:.1f} s")
