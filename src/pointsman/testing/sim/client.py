"""The clients of a schedule: start runs (also twice, on different nodes), signal, cancel, read and wait.

They note every answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from pointsman.doctor.repair import NotRepairable
from pointsman.kernel import values
from pointsman.kernel.errors import (
    Draining,
    DuplicateMail,
    NotQuarantined,
    NotRedrivable,
    Overloaded,
    PointsmanError,
    RunConflict,
    RunEnded,
    StoreUnavailable,
    TaskAnswered,
    TaskClosed,
    UnknownRun,
    UnknownTask,
)
from pointsman.ports.event_log import ENDED_STATUSES
from pointsman.ports.runs import StartRun
from pointsman.testing.sim.databases import SimDatabase
from pointsman.testing.sim.evidence import Ack
from pointsman.testing.sim.node import Node
from pointsman.testing.sim.scenario import Start

T = TypeVar("T")

TRIES_MAX = 400
"""Of one operation; what has no answer after so many has none although everything is healed."""


class Surroundings(Protocol):
    """What clients need of their world."""

    @property
    def database(self) -> SimDatabase: ...
    @property
    def position(self) -> int: ...
    @property
    def is_healed(self) -> bool: ...
    def any_node(self, rng: random.Random) -> Node: ...
    def say(self, what: str) -> None: ...


class Clients:
    """The clients of one schedule, who note every answer.

    Attributes:
        acks: answers, in the order in which they came.
        operations: how many operations were begun.
        unfinished: operations under way or given up, and how many events the database held when each asked last.
    """

    def __init__(
        self, world: Surroundings, rng: random.Random, starts: Sequence[Start], *, span_s: float,
        answer: Callable[[random.Random, str], Any],
    ) -> None:  # fmt: skip
        self.acks: list[Ack] = []
        self.operations = 0
        self.unfinished: dict[str, int] = {}
        self._world = world
        self._rng = rng
        self._span_s = span_s
        self._starts = {f"r{number}": start for number, start in enumerate(starts)}
        self._answer = answer
        self._answered: set[str] = set()

    # -- the schedule ------

    async def work(self) -> None:
        """Everything that clients do of themselves; returns when each operation is over."""
        tasks: list[Coroutine[Any, Any, None]] = []
        for run, start in self._starts.items():
            begin = self._rng.random() * self._span_s * 0.6
            for again in range(self._rng.choice((1, 1, 2, 3))):
                is_other = again > 0 and self._rng.random() < 0.2
                tasks.append(self.after(begin + self._rng.random() * 0.3 * again, self.start, run, start, is_other))
            tasks += self._pestering(run, start, begin)
        tasks.append(self._answer_now_and_then())
        await asyncio.gather(*tasks)

    def _pestering(self, run: str, start: Start, begin: float) -> list[Coroutine[Any, Any, None]]:
        """Signals (also twice under one key, also to runs that do not wait), cancels, reads and waits."""
        rng, span, out = self._rng, self._span_s, []
        for number in range(rng.choice((0, 0, 1, 2)) + len(start.signals)):
            name, payload = start.signals[number % len(start.signals)] if start.signals else ("go", b'"nobody waits"')
            key = f"k{rng.randrange(3)}" if rng.random() < 0.3 else f"n{number}"
            out.append(self.after(begin + rng.random() * span, self.signal, run, name, key, payload))
        if rng.random() < start.cancelled:
            at = begin + rng.random() * span
            out += [self.after(at + rng.random() * 0.2, self.cancel, run) for _ in range(rng.choice((1, 2)))]
        for _ in range(rng.choice((0, 0, 1, 2))):
            out.append(self.after(begin + rng.random() * span, self.read, run))
        if rng.random() < 0.4:
            out.append(self.after(begin + rng.random() * span, self.result, run))
        if rng.random() < 0.2:
            out.append(self.after(begin + rng.random() * span, self.follow, run))
        return out

    async def finish(self) -> None:
        """What the runs still need to end: their last signals, and answers to people's questions."""
        lasts = [
            self.signal(run, name, f"last {number}", payload)
            for run, start in self._starts.items() for number, (name, payload) in enumerate(start.last)
        ]  # fmt: skip
        await asyncio.gather(*lasts)

    async def _answer_now_and_then(self) -> None:
        for _ in range(3):
            await asyncio.sleep(self._rng.random() * self._span_s)
            await self.answer_all()

    async def keep_answering(self) -> None:
        """Until nobody asks any more."""
        while True:
            await self.answer_all()
            await asyncio.sleep(0.15)

    async def answer_all(self) -> None:
        """Answer every question that is open, sometimes two people at once."""
        for row in self._world.database.reader.open_tasks():
            if (task := row.id) not in self._answered:
                self._answered.add(task)
                said = [self._answer(self._rng, row.question) for _ in range(self._rng.choice((1, 2)))]
                async with asyncio.TaskGroup() as people:  # waits for each of them, also when the schedule is over
                    asked = [
                        people.create_task(self.answer(row.run, task, f"p{n}", value)) for n, value in enumerate(said)
                    ]
                if all(one.result() != "accepted" for one in asked):  # its run had ended; asked again if redriven
                    self._answered.discard(task)

    async def after(self, seconds: float, operation: Callable[..., Awaitable[None]], *args: Any) -> None:
        await asyncio.sleep(seconds)
        await operation(*args)

    def forget(self, position: int) -> None:
        """The database goes on from so many events: nobody has heard, nor asked, of one behind that."""
        self.acks[:] = [
            replace(ack, position=min(ack.position, position), asked=min(ack.asked, position)) for ack in self.acks
        ]
        self.unfinished = {name: min(asked, position) for name, asked in self.unfinished.items()}

    # -- operations ------

    async def start(self, run: str, start: Start, is_other: bool) -> None:
        data = start.other if is_other else start.input
        request = StartRun(workflow=start.workflow, input=data, id=run, budget=start.budget, tenant=start.tenant)
        await self.operate(
            "start", run, values.encode(values.decode(data)).decode(), lambda node: node.runs.start(request)
        )

    async def signal(self, run: str, name: str, key: str, payload: bytes) -> None:
        await self.operate("signal", run, key, lambda node: node.runs.signal(run, name, payload, key=key))

    async def cancel(self, run: str) -> None:
        await self.operate("cancel", run, "", lambda node: node.runs.cancel(run, reason="enough"))

    async def answer(self, run: str, task: str, by: str, value: Any) -> str:
        """A person answers what they saw, or refuses."""

        async def said(node: Node) -> object:
            view = await node.inbox.get(task)
            if value is None:
                return await node.inbox.refuse(task, reason="not mine", by=by, digest=view.digest)
            return await node.inbox.answer(view.task.id, values.encode(value), by=by, digest=view.digest)

        return await self.operate("answer", run, task, said)

    async def result(self, run: str) -> None:
        async def ended(node: Node) -> str:
            view = await node.runs.wait(run, timeout_s=1.5)
            if view.head.status not in ENDED_STATUSES:
                raise StoreUnavailable("not yet")
            output = bytes(view.output).decode() if view.output is not None else ""
            return f"{view.head.status} {output}{view.failure.kind if view.failure else ''}"

        await self.operate("result", run, "", ended)

    async def read(self, run: str) -> None:
        async def events(node: Node) -> tuple[tuple[int, str], ...]:
            inputs = self._rng.random() < 0.3
            return tuple((event.sequence, event.type) for event in await node.runs.events(run, inputs=inputs))

        await self.operate("read", run, "", events)

    async def follow(self, run: str) -> None:
        """Read events as they come, for a second."""

        async def events(node: Node) -> tuple[tuple[int, str], ...]:
            seen: list[tuple[int, str]] = []
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    async for batch in node.runs.follow(run):
                        seen += [(event.sequence, event.type) for event in batch]
            return tuple(seen)

        await self.operate("read", run, "", events)

    async def operate(self, what: str, run: str, key: str, ask: Callable[[Node], Awaitable[Any]]) -> str:
        """Ask one node after another until one answers, and note the answer."""
        self.operations += 1
        name = f"{what} {run} {key} #{self.operations}"
        self.unfinished[name] = self._world.position
        try:
            return await self._operate(name, what, run, key, ask)
        except asyncio.CancelledError:  # the schedule is over
            del self.unfinished[name]
            raise

    async def _operate(self, name: str, what: str, run: str, key: str, ask: Callable[[Node], Awaitable[Any]]) -> str:
        for _ in range(TRIES_MAX):
            await asyncio.sleep(0.0005 + self._rng.random() * 0.004)
            was_started, self.unfinished[name] = self._is_started(run), self._world.position
            try:
                answer, seen = await self._ask(ask)
            except (StoreUnavailable, Draining, Overloaded, TimeoutError):
                await asyncio.sleep(0.03 + self._rng.random() * 0.2)
                continue
            if answer == "unknown" and run in self._starts and not was_started:
                await asyncio.sleep(0.1 + self._rng.random() * 0.2)
                continue
            self._world.say(f"{name}: {answer}")
            asked = self.unfinished.pop(name)
            self.acks.append(Ack(what, run, answer, self._world.position, key, seen, asked))
            return answer
        return "nothing"

    async def _ask(self, ask: Callable[[Node], Awaitable[T]]) -> tuple[str, tuple[tuple[int, str], ...]]:
        node = self._world.any_node(self._rng)
        try:
            answer = await node.ask(ask, timeout_s=2.0, hangs_up=self._rng.random() < 0.5)
        except RunEnded:
            return "ended", ()
        except (TaskAnswered, TaskClosed, UnknownTask):  # unknown: the database that had it is gone
            return "too late", ()
        except DuplicateMail:
            return "duplicate", ()
        except RunConflict:
            return "conflict", ()
        except UnknownRun:
            return "unknown", ()
        except (NotRedrivable, NotQuarantined, NotRepairable) as error:
            return f"refused: {error.code}", ()
        except (StoreUnavailable, Draining, Overloaded):
            raise
        except PointsmanError as error:
            return f"error {error.code}: {error}", ()
        return (answer, ()) if isinstance(answer, str) else ("accepted", answer if isinstance(answer, tuple) else ())

    def _is_started(self, run: str) -> bool:
        return any(ack.what == "start" and ack.run == run for ack in self.acks)
