"""The drill: a cluster of processes, tickets through its router, SIGKILL to a coordinator in the middle, and a count.

It trusts nobody's word: what was repeated is read from the agents' own journal, what was lost from the tables, and
when each orphaned run went on from both. A repeated call is one whose agent was started more than once; it is a
fault only when its outcome had been committed before.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from pointsman.cluster import LocalCluster
from pointsman.demo import data, failing, journal, outage
from pointsman.demo.models import Ticket

APP = "pointsman.demo.workflow:app"
KILL_AFTER = 0.35
"""Share of the tickets that is done when the first coordinator is killed."""
FAIL_AFTER = 0.1
"""Share of the tickets that is done when an agent is made to fail, and for how many seconds: few enough for its
breaker to close again before an ordinary drill is over."""
FAIL_S = 3.0
RESULT_TIMEOUT_S = 60.0
PATIENCE_S = 120.0
"""How long a single ticket may take before the drill calls it lost."""

OnProgress = Callable[[int, str], None]
"""(tickets done, what is going on)."""


@dataclass
class Kill:
    """One SIGKILL, and the runs that the victim owned at that moment, with their epochs."""

    name: str
    pid: int
    wall_ms: float
    orphans: dict[str, int] = field(default_factory=dict)


@dataclass
class Observed:
    """What the drill saw."""

    tickets: int
    seconds: float
    latencies_s: list[float]
    client_errors: list[str]
    kills: list[Kill]
    statuses: dict[str, int]
    journal_lines: list[journal.Line]
    outcome_epochs: dict[str, int]
    """By idempotency key: the epoch under which the call's outcome was committed."""
    first_events_ms: dict[str, float]
    """By orphan: time of the first event that its new owner appended."""
    failing: dict[str, int]
    """See `outage.count`. Empty: no agent was made to fail."""


class Drill:
    """One run of the drill, in `directory`, which must be empty and reachable by the database's user."""

    def __init__(
        self, corpus: data.Corpus, directory: Path, *, tickets: int, coordinators: int, kills: int, in_flight: int,
        on_progress: OnProgress, fail: str | None = None, fail_s: float = FAIL_S,
    ) -> None:  # fmt: skip
        self._corpus = corpus
        self._tickets = tickets
        self._kills_wanted = kills
        self._in_flight = in_flight
        self._on_progress = on_progress
        self._fail = fail
        self._fail_s = fail_s
        self._switch = directory / "failing"
        self._journal = directory / "agents.jsonl"
        environment = {
            journal.JOURNAL: str(self._journal), data.SOURCE: corpus.source, failing.FAILING: str(self._switch),
        }  # fmt: skip
        environment = {**os.environ, **environment}
        self._cluster = LocalCluster(APP, coordinators, directory=directory, restart=False, environment=environment)
        self._prefix = f"ticket-{os.urandom(3).hex()}"
        self._done = 0
        self._latencies: list[float] = []
        self._errors: list[str] = []
        self._kills: list[Kill] = []
        self._half_way = asyncio.Event()
        self._soon = asyncio.Event()

    async def run(self) -> Observed:
        """Start, send, kill, wait, count, stop."""
        self._on_progress(0, "starting PostgreSQL, router and coordinators")
        await self._cluster.start()
        try:
            assert self._cluster.dsn is not None
            connection = await asyncpg.connect(self._cluster.dsn)
            try:
                began = time.perf_counter()
                killer = asyncio.create_task(self._kill_some(connection))
                failer = asyncio.create_task(self._fail_for_a_while())
                await self._send_all()
                seconds = time.perf_counter() - began
                self._half_way.set()
                self._soon.set()
                await asyncio.gather(killer, failer)
                return await self._count(connection, seconds)
            finally:
                await connection.close()
        finally:
            self._on_progress(self._done, "stopping")
            await self._cluster.stop()

    # -- the load -------------------------------------------------------------------------------------------------

    async def _send_all(self) -> None:
        """Each sender has a client of its own: the pool that httpx shares costs 5 ms a request at 100 connections."""
        queue = iter(enumerate(self._corpus.cycle(self._tickets)))
        timeout = httpx.Timeout(RESULT_TIMEOUT_S + 30)

        async def sender() -> None:
            url = self._cluster.url
            async with httpx.AsyncClient(base_url=url, timeout=timeout, trust_env=False, verify=False) as client:
                for number, ticket in queue:
                    await self._send(client, f"{self._prefix}-{number}", ticket)

        await asyncio.gather(*(sender() for _ in range(self._in_flight)))

    async def _send(self, client: httpx.AsyncClient, run: str, ticket: Ticket) -> None:
        began = time.perf_counter()
        body = {"workflow": "support", "id": run, "input": ticket.model_dump(mode="json")}
        if not await self._ask(lambda: client.post("/v1/runs", json=body), (200, 201)):
            return
        path = f"/v1/runs/{run}/result?timeout={RESULT_TIMEOUT_S:.0f}"
        while time.perf_counter() - began < PATIENCE_S:
            if await self._ask(lambda: client.get(path), (200,)):
                break
        self._latencies.append(time.perf_counter() - began)
        self._done += 1
        if self._done >= self._tickets * FAIL_AFTER:
            self._soon.set()
        if self._done >= self._tickets * KILL_AFTER:
            self._half_way.set()
        self._on_progress(self._done, "answering tickets")

    async def _ask(self, request: Callable[[], Awaitable[httpx.Response]], good: tuple[int, ...]) -> bool:
        """One request; whatever is no success is counted, because behind the router there should be none."""
        try:
            response = await request()
        except httpx.HTTPError as error:
            self._errors.append(f"{type(error).__name__}: {error}")
            return False
        if response.status_code not in (*good, 202):
            self._errors.append(f"{response.status_code}: {response.text[:200]}")
        return response.status_code in good

    # -- the failing agent ----------------------------------------------------------------------------------------

    async def _fail_for_a_while(self) -> None:
        if self._fail is None:
            return
        await self._soon.wait()
        self._switch.write_text(self._fail)
        self._on_progress(self._done, f"{self._fail} is made to fail")
        await asyncio.sleep(self._fail_s)
        self._switch.unlink()
        self._on_progress(self._done, f"{self._fail} is well again")

    # -- the kill -------------------------------------------------------------------------------------------------

    async def _kill_some(self, connection: asyncpg.Connection) -> None:
        await self._half_way.wait()
        for _ in range(self._kills_wanted):
            rows = await connection.fetch(
                "SELECT c.name, c.incarnation, count(*) AS runs"
                " FROM runs r JOIN coordinators c ON c.incarnation = r.owner"
                " WHERE c.ended_at IS NULL GROUP BY 1, 2 ORDER BY 3 DESC, 1"
            )
            victims = [row for row in rows if row["name"] not in {kill.name for kill in self._kills}]
            if not victims:
                self._errors.append("there was no coordinator with runs left to kill: send more tickets")
                return
            name, incarnation = victims[0]["name"], victims[0]["incarnation"]
            # Before the kill: afterwards others may own them within milliseconds.
            owned = await connection.fetch("SELECT id, epoch FROM runs WHERE owner = $1", incarnation)
            kill = Kill(name, self._cluster.kill(name), time.time() * 1000)
            self._kills.append(kill)
            kill.orphans = {row["id"]: row["epoch"] for row in owned}
            self._on_progress(self._done, f"killed {name} with {len(kill.orphans)} runs")
            await self._until_none_owned(connection, incarnation)

    async def _until_none_owned(self, connection: asyncpg.Connection, incarnation: int) -> None:
        """One death after the other: the next victim is chosen when this one's runs have new owners."""
        deadline = time.perf_counter() + PATIENCE_S
        while time.perf_counter() < deadline:
            if not await connection.fetchval("SELECT count(*) FROM runs WHERE owner = $1", incarnation):
                return
            await asyncio.sleep(0.05)

    # -- the count ------------------------------------------------------------------------------------------------

    async def _count(self, connection: asyncpg.Connection, seconds: float) -> Observed:
        self._on_progress(self._done, "counting")
        like = self._prefix + "-%"
        statuses = await connection.fetch("SELECT status, count(*) AS n FROM runs WHERE id LIKE $1 GROUP BY 1", like)
        outcomes = await connection.fetch(
            "SELECT run, epoch, body->>'call' AS call FROM events"
            " WHERE run LIKE $1 AND type IN ('CallCompleted', 'CallFailed') AND codec = 0",
            like,
        )
        firsts: dict[str, float] = {}
        for kill in self._kills:
            for run, epoch in kill.orphans.items():
                at = await connection.fetchval("SELECT min(at) FROM events WHERE run = $1 AND epoch > $2", run, epoch)
                if at is not None:
                    firsts[run] = float(at)
        return Observed(
            tickets=self._tickets, seconds=seconds, latencies_s=self._latencies, client_errors=self._errors,
            kills=self._kills, statuses={row["status"]: row["n"] for row in statuses},
            journal_lines=list(journal.read(self._journal)),
            outcome_epochs={f"{row['run']}/1/{row['call']}": row["epoch"] for row in outcomes}, first_events_ms=firsts,
            failing={} if self._fail is None else await outage.count(connection, self._fail, like),
        )  # fmt: skip


def takeover_ms(observed: Observed) -> list[float]:
    """For each orphan: from the kill to its first dispatch or outcome by its new owner."""
    starts: dict[str, list[journal.Line]] = {}
    for line in observed.journal_lines:
        if line.event == "start":
            starts.setdefault(line.run, []).append(line)
    times = []
    for kill in observed.kills:
        for run, epoch in kill.orphans.items():
            seen = [line.wall_ms for line in starts.get(run, ()) if line.epoch > epoch and line.pid != kill.pid]
            if run in observed.first_events_ms:
                seen.append(observed.first_events_ms[run])
            if seen:
                times.append(max(min(seen) - kill.wall_ms, 0.0))
    return times


def completed_calls_repeated(lines: Iterable[journal.Line], outcome_epochs: dict[str, int]) -> set[str]:
    """Keys whose agent was started again although the outcome was committed.

    Told by epochs, not by clocks: a start under a later epoch than the outcome's came after a claim, and so after the
    outcome was in the log; and under one epoch an attempt starts once.
    """
    seen: set[tuple[str, int, int]] = set()
    faults: set[str] = set()
    for line in lines:
        if line.event != "start":
            continue
        attempt = (line.key, line.epoch, line.attempt)
        if line.epoch > outcome_epochs.get(line.key, 2**62) or attempt in seen:
            faults.add(line.key)
        seen.add(attempt)
    return faults


def figures(observed: Observed, accuracy: dict[str, Any], source: str) -> dict[str, Any]:
    """The drill's result as plain data: what `--json` prints."""
    counted = journal.count(observed.journal_lines)
    takeovers = sorted(takeover_ms(observed))
    latencies = sorted(latency * 1000 for latency in observed.latencies_s)
    completed = observed.statuses.get("completed", 0)
    failed = observed.statuses.get("failed", 0) + observed.statuses.get("cancelled", 0)
    return {
        "tickets": observed.tickets, "source": source, "completed": completed, "failed": failed,
        "lost": observed.tickets - completed - failed,
        "calls": counted.calls, "calls_repeated": counted.calls_repeated,
        "completed_calls_repeated": len(completed_calls_repeated(observed.journal_lines, observed.outcome_epochs)),
        "client_errors": len(observed.client_errors),
        "kills": len(observed.kills), "orphaned": sum(len(kill.orphans) for kill in observed.kills),
        "takeover_ms": {"p50": rank(takeovers, 50), "p99": rank(takeovers, 99), "max": rank(takeovers, 100)},
        "throughput_per_s": round(observed.tickets / observed.seconds, 1),
        "latency_ms": {"p50": rank(latencies, 50), "p95": rank(latencies, 95), "p99": rank(latencies, 99)},
        "selection_accuracy": accuracy, "failing": observed.failing,
    }  # fmt: skip


def rank(ordered: list[float], percent: float) -> float | None:
    """Nearest-rank percentile; None of nothing."""
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))], 1) if ordered else None


def went_well(result: dict[str, Any], kills: int) -> bool:
    """All answered, none lost, nothing done twice that was done, and the kill really happened."""
    return bool(
        result["completed"] == result["tickets"]
        and result["lost"] == 0
        and result["completed_calls_repeated"] == 0
        and result["kills"] == kills
    )
