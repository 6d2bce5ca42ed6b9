"""The drill: a cluster of processes, tickets through its router, faults in the middle, and a count."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import httpx

from pointsman.cluster import LocalCluster
from pointsman.demo import counting, data, failing, journal, outage
from pointsman.demo.counting import Observed
from pointsman.demo.faults import PATIENCE_S, Faults, Plan
from pointsman.demo.models import Ticket

APP = "pointsman.demo.workflow:app"
STRIKE_AFTER = 0.35
"""Share of the tickets that is done when the first fault strikes."""
FAIL_AFTER = 0.1
"""Share of the tickets that is done when an agent is made to fail, and for how many seconds: few enough for its
breaker to close again before an ordinary drill is over."""
FAIL_S = 3.0
RESULT_TIMEOUT_S = 60.0
RETRY_S = 0.2
"""Between two tries of a client whose request was answered 503, or not at all."""

OnProgress = Callable[[int, str], None]
"""(tickets done, what is going on)."""


class Drill:
    """One run of the drill, in `directory`, which must be empty and reachable by the database's user."""

    def __init__(
        self, corpus: data.Corpus, directory: Path, *, tickets: int, coordinators: int, plan: Plan, in_flight: int,
        on_progress: OnProgress, fail: str | None = None, fail_s: float = FAIL_S,
    ) -> None:  # fmt: skip
        self._corpus = corpus
        self._tickets = tickets
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
        self._faults = Faults(self._cluster, plan, lambda what: self._on_progress(self._done, what))
        self._prefix = f"ticket-{os.urandom(3).hex()}"
        self._done = 0
        self._latencies: list[float] = []
        self._errors: list[str] = []
        self._half_way = asyncio.Event()
        self._soon = asyncio.Event()

    async def run(self) -> Observed:
        """Start, send, kill, wait, count, stop."""
        self._on_progress(0, "starting PostgreSQL, router and coordinators")
        await self._cluster.start()
        try:
            began = time.perf_counter()
            striker = asyncio.create_task(self._strike())
            failer = asyncio.create_task(self._fail_for_a_while())
            await self._send_all()
            seconds = time.perf_counter() - began
            self._half_way.set()
            self._soon.set()
            await asyncio.gather(striker, failer)
            return await self._count(seconds)
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
        path = f"/v1/runs/{run}/result?timeout={RESULT_TIMEOUT_S:.0f}"
        # Both may be sent again: the start has its id. A client that is told 503 does so.
        for request, good in (
            (lambda: client.post("/v1/runs", json=body), (200, 201)),
            (lambda: client.get(path), (200,)),
        ):
            while not await self._ask(request, good):
                if time.perf_counter() - began > PATIENCE_S:
                    return
                await asyncio.sleep(RETRY_S)
        self._latencies.append(time.perf_counter() - began)
        self._done += 1
        if self._done >= self._tickets * FAIL_AFTER:
            self._soon.set()
        if self._done >= self._tickets * STRIKE_AFTER:
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

    # -- the faults -----------------------------------------------------------------------------------------------

    async def _strike(self) -> None:
        await self._half_way.wait()
        await self._faults.strike()
        self._errors += self._faults.struck.in_vain

    # -- the count ------------------------------------------------------------------------------------------------

    async def _count(self, seconds: float) -> Observed:
        self._on_progress(self._done, "counting")
        like = self._prefix + "-%"
        struck = self._faults.struck
        connection = await asyncpg.connect(self._cluster.dsn)
        try:
            return Observed(
                tickets=self._tickets, seconds=seconds, latencies_s=self._latencies, client_errors=self._errors,
                struck=struck, statuses=await counting.read_statuses(connection, like),
                journal_lines=list(journal.read(self._journal)),
                outcome_epochs=await counting.read_outcome_epochs(connection, like),
                first_events_ms=await counting.read_first_events_ms(connection, [*struck.kills, *struck.stops]),
                failing={} if self._fail is None else await outage.count(connection, self._fail, like),
            )  # fmt: skip
        finally:
            await connection.close()
