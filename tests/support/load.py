"""Clients of a cluster that count every error: starts, waits, reads, signals and event streams through a router.

Everything that a client would have to deal with counts: a status that is no success, a connection that breaks, a
stream that is cut, an event that is missing or comes twice.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.support.http import Answer, Broken, Connection

STEPS = 3
LONG_STEPS = 12
WAIT_S = 20


@dataclass
class Load:
    """What the clients saw. Latencies are of requests that wait for nothing."""

    port: int
    errors: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    runs: dict[str, object] = field(default_factory=dict)
    """Every run that was acknowledged, and the output that it has to have."""
    gap_s: float = 0.0
    """The longest time in which no request of anybody was answered."""
    slowest_s: float = 0.0
    """The longest time that one request took which waits for nothing."""
    streams_cut: int = 0
    """Streams that ended without an error and without their last event: the client asks again."""
    answered: int = 0
    has_ended: bool = False
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _answered_at: float = field(default_factory=time.monotonic)

    async def ask(
        self, connection: Connection, method: str, path: str, body: object = None, *, key: str | None = None,
        waits: bool = False,
    ) -> Answer | None:  # fmt: skip
        """None: that was an error, and it was counted."""
        began = time.monotonic()
        headers = {} if key is None else {"Idempotency-Key": key}
        try:
            async with asyncio.timeout(2 * WAIT_S):
                answer = await connection.request(method, path, body, headers)
        except (Broken, OSError) as error:
            return self.wrong(f"{method} {path} after {time.monotonic() - began:.3f} s: {error!r}")
        now = time.monotonic()
        self.gap_s = max(self.gap_s, now - self._answered_at)
        self._answered_at = now
        self.answered += 1
        if not waits:
            self.slowest_s = max(self.slowest_s, now - began)
        if answer.status >= 300:
            return self.wrong(f"{method} {path}: {answer.status} {answer.body[:200]!r}")
        return answer

    async def answers(self, count: int) -> None:
        """Until so many more requests were answered."""
        wanted = self.answered + count
        async with asyncio.timeout(2 * WAIT_S):
            while self.answered < wanted:
                await asyncio.sleep(0.01)

    def wrong(self, what: str) -> None:
        if not self.has_ended:
            self.errors.append(what)

    def new_id(self) -> str:
        return f"load-{next(self._numbers)}"

    # -- what clients do --------------------------------------------------------------------------------------------

    async def start_and_wait(self, connection: Connection) -> None:
        """One request: a start with a key that waits for the result."""
        body = {"workflow": "steps", "input": STEPS}
        answer = await self.ask(connection, "POST", f"/v1/runs?wait={WAIT_S}", body, key=self.new_id(), waits=True)
        if answer is not None:
            view = answer.json()
            self.runs[view["id"]] = STEPS
            self.check(view, STEPS)
            self.done["start and wait"] += 1

    async def start_read_wait(self, connection: Connection) -> None:
        answer = await self.ask(
            connection, "POST", "/v1/runs", {"workflow": "steps", "input": STEPS}, key=self.new_id()
        )
        if answer is None:
            return
        run = answer.json()["id"]
        self.runs[run] = STEPS
        for path in (f"/v1/runs/{run}", f"/v1/runs/{run}/events", "/v1/runs?limit=5"):
            if await self.ask(connection, "GET", path) is not None:
                self.done["read"] += 1
        result = await self.ask(connection, "GET", f"/v1/runs/{run}/result?timeout={WAIT_S}", waits=True)
        if result is not None:
            self.check(result.json(), STEPS)
            self.done["wait"] += 1

    async def signal(self, connection: Connection) -> None:
        answer = await self.ask(connection, "POST", "/v1/runs", {"workflow": "waits", "input": None}, key=self.new_id())
        if answer is None:
            return
        run = answer.json()["id"]
        self.runs[run] = "now"
        if await self.ask(connection, "POST", f"/v1/runs/{run}/signals/go", "now") is not None:
            self.done["signal"] += 1
        result = await self.ask(connection, "GET", f"/v1/runs/{run}/result?timeout={WAIT_S}", waits=True)
        if result is not None:
            self.check(result.json(), "now")

    async def follow(self, connection: Connection) -> None:
        """Every event of a run, each once, in order, to the last."""
        body = {"workflow": "steps", "input": LONG_STEPS}
        answer = await self.ask(connection, "POST", "/v1/runs", body, key=self.new_id())
        if answer is None:
            return None
        run = answer.json()["id"]
        self.runs[run] = LONG_STEPS
        seen, last = 0, ""
        while not self.has_ended:
            own = Connection(self.port)
            try:
                answer, chunks = await own.stream(f"/v1/runs/{run}/stream", {"Last-Event-ID": str(seen)})
                if answer.status != 200:
                    return self.wrong(f"stream of {run}: {answer.status}")
                async for sequence, kind in _frames(chunks):
                    if kind == "end":
                        self.done["stream"] += 1
                        return None if last == "RunCompleted" else self.wrong(f"stream of {run}: end after {last}")
                    if sequence != seen + 1:
                        return self.wrong(f"stream of {run}: event {sequence} ({kind}) after {seen}")
                    seen, last = sequence, kind
                self.streams_cut += 1
            except (Broken, OSError) as error:
                return self.wrong(f"stream of {run}: {error!r}")
            finally:
                own.close()
        return None

    def check(self, view: dict[str, object], wanted: object) -> None:
        if (view["status"], view.get("output")) != ("completed", wanted):
            self.wrong(f"run {view.get('id')}: {view['status']}, {view.get('output')!r}")

    async def client(self, does: Callable[[Connection], Awaitable[None]]) -> None:
        connection = Connection(self.port)
        try:
            while not self.has_ended:
                await does(connection)
        finally:
            connection.close()


@asynccontextmanager
async def load(port: int, *, each: int) -> AsyncIterator[Load]:
    """`each` clients of every kind, until the block ends; what they are at is then finished."""
    clients = Load(port)
    kinds = (clients.start_and_wait, clients.start_read_wait, clients.signal, clients.follow)
    tasks = [asyncio.create_task(clients.client(kind)) for kind in kinds for _ in range(each)]
    try:
        yield clients
        clients.has_ended = True
        await asyncio.wait(tasks, timeout=2 * WAIT_S)
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                clients.errors.append(repr(result))


async def _frames(chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, str]]:
    """(sequence, type) of each frame of an event stream; comments are passed over."""
    rest = b""
    async for chunk in chunks:
        *frames, rest = (rest + chunk).split(b"\n\n")
        for frame in frames:
            fields = dict(line.split(b": ", 1) for line in frame.split(b"\n") if not line.startswith(b":"))
            if b"event" in fields:
                json.loads(fields[b"data"])
                yield int(fields.get(b"id", b"0")), fields[b"event"].decode()
