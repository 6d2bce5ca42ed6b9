"""A small, real `Runs` in memory, and raw HTTP over a socket, for what no client library would send."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import msgspec

from pointsman.api import ApiServer, ApiSettings
from pointsman.api.app import Api
from pointsman.api.waiting import Waiting
from pointsman.coordinator.verbs.budgets import CoordinatorBudgets
from pointsman.kernel import values
from pointsman.kernel.errors import (
    DuplicateMail,
    InvalidValue,
    NotQuarantined,
    NotRedrivable,
    RunConflict,
    RunEnded,
    UnknownRun,
    UnknownWorkflow,
)
from pointsman.kernel.events import Failure
from pointsman.ports.agents import Agents, Attempts
from pointsman.ports.budgets import Budgets
from pointsman.ports.event_log import ENDED_STATUSES, Head, RunFilter
from pointsman.ports.inbox import Inbox
from pointsman.ports.modes import AUTO, ModeChange, Modes, ModeView, SignalView
from pointsman.ports.runs import Accepted, EventView, Redrive, Redriven, RunView, Started, StartRun, StateView
from pointsman.stores.inprocess.clock import SystemClock
from pointsman.stores.memory.database import MemoryDatabase
from pointsman.stores.memory.session import Session
from pointsman.stores.memory.system_log import MemorySystemLog
from tests.support.documented import Documented
from tests.unit.api.memory_agents import MemoryAgents, MemoryAttempts
from tests.unit.api.memory_inbox import MemoryInbox
from tests.unit.api.memory_workers import MemoryWorkers

NOW_MS = 1_767_225_600_007


class Entry:
    def __init__(self, head: Head, data: bytes) -> None:
        self.head = head
        self.data = data
        self.view = RunView(head)
        self.events: list[EventView] = []
        self.mail: dict[str, tuple[str, bytes]] = {}
        self.changed = asyncio.Condition()


class MemoryRuns:
    """`echo` completes with its input, `break` fails, `patient` waits for the signal `go`."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.requests: list[StartRun] = []
        self.listed: list[tuple[RunFilter, int, str | None]] = []
        self.waiting = asyncio.Event()
        self.failure: Exception | None = None
        self.states: dict[str, StateView] = {}

    async def start(self, request: StartRun) -> Started:
        if self.failure is not None:
            raise self.failure
        self.requests.append(request)
        if request.workflow not in ("echo", "break", "patient"):
            raise UnknownWorkflow
        data = values.encode(values.decode(request.input))
        run = request.id or f"run-{len(self.entries)}"
        found = self.entries.get(run)
        if found is not None:
            if (found.head.workflow, found.data) != (request.workflow, data):
                raise RunConflict
            return Started(found.view, created=False)
        entry = self.entries[run] = Entry(_head(run, request), data)
        await self._append(entry, "RunStarted", data)
        if request.workflow == "echo":
            await self._end(entry, "completed", "RunCompleted", output=data)
        elif request.workflow == "break":
            await self._end(entry, "failed", "RunFailed", failure=Failure("boom", "it broke", retryable=False))
        return Started(entry.view, created=True)

    async def get(self, run: str) -> RunView:
        return self._entry(run).view

    async def state(self, run: str) -> StateView:
        if run not in self.entries:
            raise UnknownRun
        return self.states.get(run, StateView(run))

    async def wait(self, run: str, *, timeout_s: float) -> RunView:
        entry = self._entry(run)
        self.waiting.set()
        try:
            async with asyncio.timeout(timeout_s), entry.changed:
                await entry.changed.wait_for(lambda: entry.view.head.status in ENDED_STATUSES)
        except TimeoutError:
            pass
        finally:
            self.waiting.clear()
        return entry.view

    async def list(
        self, where: RunFilter, *, limit: int, cursor: str | None = None
    ) -> tuple[Sequence[Head], str | None]:
        self.listed.append((where, limit, cursor))
        heads = [entry.view.head for entry in self.entries.values()][::-1]
        start = int(cursor or 0)
        return heads[start : start + limit], str(start + limit) if len(heads) > start + limit else None

    async def events(
        self, run: str, *, after: int = 0, limit: int = 1000, inputs: bool = False, bytes_max: int | None = None
    ) -> Sequence[EventView]:
        page: list[EventView] = []
        for event in self._entry(run).events[after : after + limit]:
            page.append(event)
            if bytes_max is not None and sum(len(one.data) for one in page) >= bytes_max:
                break
        return page

    async def follow(self, run: str, *, after: int = 0) -> AsyncIterator[Sequence[EventView]]:
        entry = self._entry(run)
        while True:
            async with entry.changed:
                ended = entry.view.head.status in ENDED_STATUSES
                if not ended and len(entry.events) <= after:
                    self.waiting.set()
                    await entry.changed.wait()
                batch = entry.events[after:]
                ended = entry.view.head.status in ENDED_STATUSES
            if batch:
                yield batch
                after = batch[-1].sequence
            if ended:
                return

    async def signal(self, run: str, name: str, payload: bytes, *, key: str) -> Accepted:
        values.decode(payload)
        entry = self._entry(run)
        if key in entry.mail:
            if entry.mail[key] != (name, payload):
                raise DuplicateMail
            return Accepted(run, key, repeated=True)
        self._check_open(entry)
        entry.mail[key] = (name, payload)
        await self._append(entry, "SignalReceived", payload)
        if name == "go":
            await self._end(entry, "completed", "RunCompleted", output=payload)
        return Accepted(run, key)

    async def cancel(self, run: str, *, reason: str = "") -> Accepted:
        entry = self._entry(run)
        self._check_open(entry)
        await self._end(entry, "cancelled", "RunWasCancelled", output=None)
        return Accepted(run, "cancel")

    async def release(self, run: str) -> RunView:
        entry = self._entry(run)
        if entry.head.status != "quarantined":
            raise NotQuarantined
        entry.head = msgspec.structs.replace(entry.head, status="running")
        entry.view = RunView(entry.head)
        return entry.view

    def quarantine(self, run: str) -> None:
        entry = self._entry(run)
        entry.head = msgspec.structs.replace(entry.head, status="quarantined")

    async def redrive(self, wish: Redrive) -> Redriven:
        plan = await self.redrive_plan(wish.run)
        entry = self._entry(wish.run)
        entry.view = RunView(msgspec.structs.replace(entry.head, status="running"))
        await self._append(entry, "RunRedriven", b"{}")
        return plan

    async def redrive_plan(self, run: str) -> Redriven:
        if self._entry(run).view.head.status != "failed":
            raise NotRedrivable
        return Redriven(run, 1, 1, ("work",), failure=Failure("exception", "boom"))

    def _entry(self, run: str) -> Entry:
        if run not in self.entries:
            raise UnknownRun
        return self.entries[run]

    def _check_open(self, entry: Entry) -> None:
        if entry.view.head.status in ENDED_STATUSES:
            raise RunEnded

    async def _append(self, entry: Entry, kind: str, data: bytes) -> None:
        async with entry.changed:
            entry.events.append(EventView(len(entry.events) + 1, NOW_MS, kind, 1, msgspec.Raw(data)))
            entry.changed.notify_all()

    async def _end(
        self,
        entry: Entry,
        status: str,
        kind: str,
        *,
        output: bytes | None = None,
        failure: Failure | None = None,
    ) -> None:
        head = msgspec.structs.replace(entry.head, status=status, ended_at=NOW_MS)
        raw = None if output is None else msgspec.Raw(output)
        entry.view = RunView(head, raw, failure)
        await self._append(entry, kind, output or b"null")


class FixedStatus:
    def __init__(self, *, ready: bool = True) -> None:
        self.ready = ready

    def is_ready(self) -> tuple[bool, str]:
        return self.ready, "all is well" if self.ready else "the store can't be reached"

    def describe(self) -> Mapping[str, Any]:
        return {"name": "c1", "limits": {"lanes": 2}}

    def metrics(self) -> str:
        return "pointsman_up 1\n"


def _head(run: str, request: StartRun) -> Head:
    return Head(
        id=run,
        workflow=request.workflow,
        version=request.version or 1,
        build="b",
        status="running",
        sequence=1,
        epoch=1,
        owner=1,
        mail=0,
        folded=0,
        takeovers=0,
        wake_at=None,
        tenant=request.tenant,
        attributes=request.attributes,
        digest="d",
        bucket=0,
        parent=None,
        created_at=NOW_MS,
        updated_at=NOW_MS,
        ended_at=None,
    )


def memory_budgets() -> Budgets:
    """The real verbs, on a store that needs no opening."""
    session = Session(MemoryDatabase())
    session.is_open = True
    return CoordinatorBudgets(MemorySystemLog(session), SystemClock())


class MemoryModes:
    """A mode that nothing is measured for."""

    def __init__(self) -> None:
        self.view = ModeView("full", "full", None, None, "", "", [SignalView("lag", 0.25, 0.5, 2.0)], [])

    async def get(self) -> ModeView:
        return self.view

    async def set(self, mode: str, *, by: str, reason: str = "") -> ModeView:
        if mode not in ("full", "degraded", "emergency", AUTO):
            raise InvalidValue(f"{mode!r} is no mode")
        pinned = None if mode == AUTO else mode
        changes = [ModeChange(1, 1_000, "ModePinned", msgspec.Raw(msgspec.json.encode({"by": by})))]
        self.view = ModeView(pinned or "full", "full", pinned, 1_000, reason, by, self.view.signals, changes)
        return self.view


class Bench:
    """An API over `MemoryRuns`, and a client that needs no socket."""

    def __init__(self, **settings: Any) -> None:
        self.runs = MemoryRuns()
        self.status = FixedStatus()
        self.waiting = Waiting()
        self.seen: list[tuple[str, str, int, float]] = []
        self.agents = MemoryAgents()
        self.attempts = MemoryAttempts()
        self.inbox = MemoryInbox()
        self.budgets = memory_budgets()
        self.modes = MemoryModes()
        self.workers = MemoryWorkers()
        self.api = Api(
            self.runs,
            self.status,
            ApiSettings(**settings),
            agents=self.agents,
            attempts=self.attempts,
            inbox=self.inbox,
            budgets=self.budgets,
            modes=self.modes,
            workers=self.workers,
            waiting=self.waiting,
            observer=lambda *what: self.seen.append(what),
        )
        transport = httpx.ASGITransport(app=Documented(self.api))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")

    async def start(self, workflow: str = "echo", data: Any = 1, **fields: Any) -> httpx.Response:
        return await self.client.post("/v1/runs", json={"workflow": workflow, "input": data, **fields})


@asynccontextmanager
async def served(
    runs: MemoryRuns, *, agents: Agents | None = None, attempts: Attempts | None = None, inbox: Inbox | None = None,
    budgets: Budgets | None = None, modes: Modes | None = None, **settings: Any,
) -> AsyncIterator[ApiServer]:  # fmt: skip
    server = ApiServer(
        runs, FixedStatus(), ApiSettings(**settings), agents=agents, attempts=attempts, inbox=inbox, budgets=budgets,
        modes=modes,
    )  # fmt: skip
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


class Wire:
    """One raw connection. Every read has a limit: a server that never answers fails one test."""

    LIMIT_S = 10.0

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.opened_at = time.monotonic()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def until(self, mark: bytes) -> bytes:
        async with asyncio.timeout(self.LIMIT_S):
            return await self.reader.readuntil(mark)

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        async with asyncio.timeout(self.LIMIT_S):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    async def response(self) -> tuple[int, bytes]:
        head = await self.until(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return int(head.split()[1]), await self.reader.readexactly(length)

    def age_s(self) -> float:
        return time.monotonic() - self.opened_at


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
