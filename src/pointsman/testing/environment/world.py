"""What stands behind a workflow environment: one coordinator on a memory store, in a loop whose time is skipped.

The loop runs only while the test asks for something, in a thread of its own, so that the test may live in any loop or
in none. Between two questions time stands still.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

import msgspec
from pydantic_core import to_jsonable_python

from pointsman.agents.agent import Agent
from pointsman.agents.workflow import Workflow
from pointsman.app import App
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.coordinator.verbs.inbox import CoordinatorInbox
from pointsman.coordinator.verbs.runs import CoordinatorRuns
from pointsman.kernel import values
from pointsman.kernel.events import Recorded
from pointsman.kernel.policy.amounts import Budget
from pointsman.ports.event_log import ENDED_STATUSES
from pointsman.ports.human_tasks import HumanTask, TaskFilter
from pointsman.ports.runs import RunView, StartRun
from pointsman.stores.memory import MemoryDatabase, MemoryStore
from pointsman.testing.environment.loop import SkippingClock, SkippingLoop
from pointsman.testing.environment.scripts import ScriptedTransport, Scripts
from pointsman.testing.sim.node import SimIds

T = TypeVar("T")

LOOK_S = 0.05
"""How often what a test waits for is looked at, in the environment's time."""
HELD = ("stopped", "quarantined")
TASKS_MAX = 500


class RunNotCompleted(AssertionError):
    """The run gave no result: it failed, was cancelled or stopped, or waits for what nobody will do.

    Attributes:
        run: its id. status: as `runs show` says it.
        kind, message: of its failure; empty where it has none.
    """

    def __init__(self, view: RunView, why: str = "") -> None:
        failure = view.failure
        self.run = view.head.id
        self.status = view.head.status
        self.kind = failure.kind if failure is not None else ""
        self.message = failure.message if failure is not None else ""
        said = why or f"{self.kind}: {self.message}".strip(": ")
        super().__init__(f"run {self.run} of {view.head.workflow} is {self.status}{': ' if said else ''}{said}")


class World:
    """The coordinator, store and loop behind a workflow environment. Every coroutine of it runs in `loop`, by
    `submit`.
    """

    def __init__(self, app: App, *, started_ms: int, seed: int, patience_s: float) -> None:
        self.app = app
        self.scripts = Scripts()
        self._patience_s = patience_s
        self._started_ms = started_ms
        self._rng = random.Random(seed)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="workflow environment")
        self._loop: SkippingLoop
        self._database: MemoryDatabase

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Let time run until `work` is done."""
        return self._thread.submit(lambda: self._loop.run_until_complete(work))

    # -- life -----------------------------------------------------------------------------------------------------

    def open(self) -> Future[None]:
        return self._thread.submit(self._open)

    def _open(self) -> None:
        self._loop = SkippingLoop()
        self._loop.has_outside_work = lambda: self.scripts.outside > 0
        self.clock = SkippingClock(self._loop, self._started_ms)
        self._database = MemoryDatabase(self.clock)
        self._loop.run_until_complete(self._start())

    async def _start(self) -> None:
        coordinator = self.app.coordinator(MemoryStore(self._database), CoordinatorSettings(name="environment"))
        coordinator.ids = SimIds(self._rng)
        coordinator.transports = {
            kind: ScriptedTransport(inner, self.scripts) for kind, inner in coordinator.transports.items()
        }
        self._coordinator = coordinator
        self._runs = CoordinatorRuns(coordinator, bytes_max=self.app.value_bytes_max)
        self._inbox = CoordinatorInbox(coordinator, bytes_max=self.app.value_bytes_max)
        await coordinator.start()

    def close(self) -> Future[None]:
        return self._thread.submit(self._close)

    def _close(self) -> None:
        try:
            self._loop.run_until_complete(self._stop())
        finally:
            self._loop.close()
            self._thread.shutdown(wait=False)

    async def _stop(self) -> None:
        self._coordinator.hurry()
        await self._coordinator.stop()
        own = asyncio.current_task()
        left = [task for task in asyncio.all_tasks() if task is not own]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    # -- runs -----------------------------------------------------------------------------------------------------

    async def start(
        self, workflow: str | Workflow, given: Any, *, run: str | None, version: int | None, tenant: str,
        attributes: dict[str, Any], budget: Budget | None,
    ) -> str:  # fmt: skip
        if isinstance(workflow, Workflow):
            version = workflow.version
            workflow = workflow.name
        wish = StartRun(
            workflow, _json(given), id=run, version=version, tenant=tenant, attributes=attributes, budget=budget
        )
        return (await self._runs.start(wish)).view.head.id

    async def result(self, run: str) -> Any:
        """Raises: RunNotCompleted, ScriptEnded."""
        give_up = time.monotonic() + self._patience_s
        while (view := await self._runs.get(run)).head.status not in ENDED_STATUSES:
            if view.head.status in HELD:
                raise RunNotCompleted(view)
            if not await self._pass_time(None):
                why = await self._waits_for(run)
                raise RunNotCompleted(await self._runs.get(run), why)
            if time.monotonic() > give_up:
                raise RunNotCompleted(view, f"no end after {self._patience_s:g} s of the machine's time")
        if self.scripts.overrun is not None:
            overrun, self.scripts.overrun = self.scripts.overrun, None
            raise overrun
        if view.head.status != "completed" or view.output is None:
            raise RunNotCompleted(view)
        declared = self.app.directory.workflow(view.head.workflow, view.head.version)
        data = bytes(view.output)
        return msgspec.json.decode(data) if declared is None else declared.signature.decode_output(data)

    async def view(self, run: str) -> RunView:
        return await self._runs.get(run)

    async def events(self, run: str) -> list[tuple[str, Any]]:
        views = await self._runs.events(run, limit=100_000, inputs=True)
        return [(event.type, msgspec.json.decode(event.data)) for event in views]

    async def history(self, run: str) -> list[Recorded]:
        await self._runs.get(run)
        return list(self._database.runs[run].events)

    async def signal(self, run: str, name: str, payload: Any, key: str | None) -> None:
        await self._runs.signal(run, name, _json(payload), key=key or f"{self._rng.getrandbits(64):016x}")

    async def cancel(self, run: str, reason: str) -> None:
        await self._runs.cancel(run, reason=reason)

    # -- people ---------------------------------------------------------------------------------------------------

    async def tasks(self, run: str | None) -> list[HumanTask]:
        """Questions that are open when everything rests."""
        await self.settle()
        found, _ = await self._inbox.list(TaskFilter(status=("open",), run=run), limit=TASKS_MAX)
        return list(found)

    async def answer(self, run: str, value: Any, by: str) -> None:
        await self._inbox.answer((await self._only_task(run)).id, _json(value), by=by)

    async def refuse(self, run: str, reason: str, by: str) -> None:
        await self._inbox.refuse((await self._only_task(run)).id, reason=reason, by=by)

    async def _only_task(self, run: str) -> HumanTask:
        found = await self.tasks(run)
        if len(found) != 1:
            raise AssertionError(f"run {run} has {len(found)} open questions to people, not one: see `tasks`")
        return found[0]

    # -- time -----------------------------------------------------------------------------------------------------

    async def sleep(self, seconds: float) -> None:
        """Time that passes, with everything that is due in it."""
        until = self.clock.now() + round(seconds * 1000)
        while self.clock.now() < until:
            if not await self._pass_time(until):
                self.clock.skip(until - self.clock.now())
                self._coordinator.claims.look()
                await asyncio.sleep(0)

    async def settle(self) -> None:
        """Until every run has ended, is held back, or waits for a time that has not come or for somebody."""
        give_up = time.monotonic() + self._patience_s
        while not self._rests():
            if time.monotonic() > give_up:
                raise TimeoutError(f"runs are still at work after {self._patience_s:g} s of the machine's time")
            await asyncio.sleep(LOOK_S)

    def _rests(self) -> bool:
        """Nobody drives anything, and nothing is due."""
        now = self.clock.now()
        return all(
            row.status in HELD or (row.status == "parked" and row.owner is None and (row.wake_at or now + 1) > now)
            for row in self._database.open_runs.values()
        )

    async def _pass_time(self, until_ms: int | None) -> bool:
        """A moment of time; or all of it that is left until something is due, where every run rests. False: nothing
        will ever happen by itself, or not until then."""
        if not self._rests():
            await asyncio.sleep(LOOK_S)
            return True
        wakes = [row.wake_at for row in self._database.open_runs.values() if row.wake_at is not None]
        if not wakes or (until_ms is not None and min(wakes) > until_ms):
            return False
        self.clock.skip(max(min(wakes) - self.clock.now(), 0))
        self._coordinator.claims.look()
        await asyncio.sleep(LOOK_S)
        return True

    async def _waits_for(self, run: str) -> str:
        asked = await self.tasks(run)
        if asked:
            return f"it waits for a person to answer {asked[0].question!r}: see `answer`"
        signals = [body["name"] for kind, body in await self.events(run) if kind == "SignalAwaited"]
        if signals:
            return f"it waits for a signal, the last one asked for is {signals[-1]!r}: see `signal`"
        return "it waits for something that nobody will do"


def name_of(agent: str | Agent) -> str:
    return agent if isinstance(agent, str) else agent.name


def seconds_of(duration: float | timedelta) -> float:
    """Raises ValueError: time does not go back."""
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
    if not seconds >= 0:
        raise ValueError(f"{duration!r}: time does not go back")
    return seconds


def abandon(world: World) -> None:
    """Close without a word about what went wrong on the way: something worse is on its way out."""
    with suppress(Exception):
        world.close().result()


def _json(value: Any) -> bytes:
    """Raises InvalidValue."""
    return values.encode(to_jsonable_python(value))
