"""The clients of a schedule: start runs (also twice, on different nodes), signal, cancel, read and wait.

They note every answer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from pointsman.coordinator.runs import CoordinatorRuns
from pointsman.kernel.errors import (
    Draining,
    DuplicateMail,
    PointsmanError,
    RunConflict,
    RunEnded,
    StoreUnavailable,
    UnknownRun,
)
from pointsman.ports.event_log import ENDED_STATUSES
from pointsman.ports.runs import StartRun
from pointsman.testing.sim.evidence import Ack
from pointsman.testing.sim.node import Node
from pointsman.testing.sim.workload import NAMES

T = TypeVar("T")

TRIES_MAX = 400
"""Of one operation; what has no answer after so many has none although everything is healed."""


class Surroundings(Protocol):
    """What clients need of their world."""

    @property
    def position(self) -> int: ...
    @property
    def is_healed(self) -> bool: ...
    def any_node(self, rng: random.Random) -> Node: ...
    def say(self, what: str) -> None: ...


class Clients:
    """See the module.

    Attributes:
        acks: answers, in the order in which they came.
        operations: how many operations were begun.
        unfinished: operations under way or given up.
    """

    def __init__(self, world: Surroundings, rng: random.Random, *, span_s: float, runs: int) -> None:
        self.acks: list[Ack] = []
        self.operations = 0
        self.unfinished: dict[str, None] = {}
        self.runs: dict[str, str] = {}
        self._world = world
        self._rng = rng
        self._span_s = span_s
        self._count = runs

    # -- the schedule ------

    async def work(self) -> None:
        """Everything that clients do of themselves; returns when each operation is over."""
        tasks: list[Coroutine[Any, Any, None]] = []
        for number in range(self._count):
            run = f"r{number}"
            workflow = self.runs[run] = self._rng.choice(NAMES)
            size = self._rng.randrange(1, 4)
            begin = self._rng.random() * self._span_s * 0.6
            for again in range(self._rng.choice((1, 2, 2, 3))):
                other = size + (again > 0 and self._rng.random() < 0.2)
                tasks.append(self._after(begin + self._rng.random() * 0.3 * again, self.start, run, workflow, other))
            tasks += self._pestering(run, workflow, begin)
        await asyncio.gather(*tasks)

    def _pestering(self, run: str, workflow: str, begin: float) -> list[Coroutine[Any, Any, None]]:
        """Signals (also twice under one key, also to runs that do not wait), cancels, reads and waits."""
        rng, span, out = self._rng, self._span_s, []
        for number in range(rng.choice((3, 4)) if workflow == "waiter" else rng.choice((0, 1, 2))):
            key = f"k{rng.randrange(3)}" if rng.random() < 0.3 else f"n{number}"
            out.append(self._after(begin + rng.random() * span, self.signal, run, "go", key, f'"{key}"'))
        if rng.random() < 0.15:
            at = begin + rng.random() * span
            out += [self._after(at + rng.random() * 0.2, self.cancel, run) for _ in range(rng.choice((1, 2)))]
        for _ in range(rng.choice((0, 1, 2, 3))):
            out.append(self._after(begin + rng.random() * span, self.read, run))
        if rng.random() < 0.5:
            out.append(self._after(begin + rng.random() * span, self.result, run))
        return out

    async def finish(self) -> None:
        """What the runs still need to end: the last signal of each waiter."""
        waiters = [run for run, workflow in self.runs.items() if workflow == "waiter"]
        await asyncio.gather(*(self.signal(run, "done", "done", '"over"') for run in waiters))

    async def _after(self, seconds: float, operation: Callable[..., Awaitable[None]], *args: Any) -> None:
        await asyncio.sleep(seconds)
        await operation(*args)

    # -- operations ------

    async def start(self, run: str, workflow: str, size: int) -> None:
        request = StartRun(workflow=workflow, input=str(size).encode(), id=run)
        await self._operation("start", run, str(size), lambda runs: runs.start(request))

    async def signal(self, run: str, name: str, key: str, payload: str) -> None:
        await self._operation("signal", run, key, lambda runs: runs.signal(run, name, payload.encode(), key=key))

    async def cancel(self, run: str) -> None:
        await self._operation("cancel", run, "", lambda runs: runs.cancel(run, reason="enough"))

    async def result(self, run: str) -> None:
        async def ended(runs: CoordinatorRuns) -> str:
            view = await runs.wait(run, timeout_s=1.5)
            if view.head.status not in ENDED_STATUSES:
                raise StoreUnavailable("not yet")
            output = bytes(view.output).decode() if view.output is not None else ""
            return f"{view.head.status} {output}{view.failure.kind if view.failure else ''}"

        await self._operation("result", run, "", ended)

    async def read(self, run: str) -> None:
        async def events(runs: CoordinatorRuns) -> tuple[tuple[int, str], ...]:
            return tuple((event.sequence, event.type) for event in await runs.events(run))

        await self._operation("read", run, "", events)

    async def _operation(self, what: str, run: str, key: str, ask: Callable[[CoordinatorRuns], Awaitable[Any]]) -> None:
        """Ask one node after another until one answers, and note the answer."""
        self.operations += 1
        name = f"{what} {run} {key} #{self.operations}"
        self.unfinished[name] = None
        for _ in range(TRIES_MAX):
            await asyncio.sleep(0.0005 + self._rng.random() * 0.004)
            was_started = self._is_started(run)
            try:
                answer, seen = await self._ask(ask)
            except (StoreUnavailable, Draining, TimeoutError):
                await asyncio.sleep(0.03 + self._rng.random() * 0.2)
                continue
            if answer == "unknown" and not was_started:
                await asyncio.sleep(0.1 + self._rng.random() * 0.2)
                continue
            self._world.say(f"{name}: {answer}")
            self.acks.append(Ack(what, run, answer, self._world.position, key, seen))
            del self.unfinished[name]
            return

    async def _ask(self, ask: Callable[[CoordinatorRuns], Awaitable[T]]) -> tuple[str, tuple[tuple[int, str], ...]]:
        node = self._world.any_node(self._rng)
        try:
            answer = await node.ask(ask, timeout_s=2.0, hangs_up=self._rng.random() < 0.5)
        except RunEnded:
            return "ended", ()
        except DuplicateMail:
            return "duplicate", ()
        except RunConflict:
            return "conflict", ()
        except UnknownRun:
            return "unknown", ()
        except (StoreUnavailable, Draining):
            raise
        except PointsmanError as error:
            return f"error {error.code}: {error}", ()
        return (answer, ()) if isinstance(answer, str) else ("accepted", answer if isinstance(answer, tuple) else ())

    def _is_started(self, run: str) -> bool:
        return any(ack.what == "start" and ack.run == run for ack in self.acks)
