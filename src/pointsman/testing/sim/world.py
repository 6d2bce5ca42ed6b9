"""One schedule: a seed in, a report out. Builds a cluster, torments it, heals it, and has it checked."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pointsman.agents.context import Context
from pointsman.coordinator.budgets.ledger import PREFIX, state_of
from pointsman.kernel.events import Recorded
from pointsman.ports.event_log import ENDED_STATUSES
from pointsman.stores.memory import MemoryDatabase
from pointsman.stores.memory.database import SystemRow
from pointsman.testing.sim.checkers import check
from pointsman.testing.sim.client import Clients
from pointsman.testing.sim.evidence import Evidence
from pointsman.testing.sim.faulty import Faults, Trace
from pointsman.testing.sim.loop import PROCESS, Deadlock, Livelock, SimLoop
from pointsman.testing.sim.nemesis import Nemesis
from pointsman.testing.sim.node import Node
from pointsman.testing.sim.shape import draw
from pointsman.testing.sim.store import EPOCH_MS, SimClock
from pointsman.testing.sim.workload import JOURNAL, Invocation, Journal


@dataclass
class Report:
    """What came of a schedule. `digest` is the same whenever the seed is."""

    seed: int
    violations: list[str] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    operations: int = 0
    runs_completed: int = 0
    runs: int = 0
    takeovers: int = 0
    invocations: int = 0
    repeated: int = 0
    """Attempts that were started more than once, by two owners."""
    steps: int = 0
    virtual_s: float = 0.0
    digest: str = ""
    trace: list[str] = field(default_factory=list)


class StampedFeed(list[tuple[str, Recorded]]):
    """The database's feed, which also notes when each event was committed."""

    def __init__(self, loop: SimLoop) -> None:
        super().__init__()
        self._loop = loop
        self.stamps: list[int] = []

    def append(self, event: tuple[str, Recorded]) -> None:
        self.stamps.append(EPOCH_MS + int(self._loop.time() * 1000))
        super().append(event)


class World:
    """Everything in one schedule."""

    def __init__(self, seed: int, loop: SimLoop, *, is_traced: bool) -> None:
        self.loop = loop
        self.rng = random.Random(f"world {seed}")
        self.shape = draw(self.rng)
        self.faults = Faults()
        self.trace = Trace(loop, is_on=is_traced)
        self.database = MemoryDatabase(SimClock(loop))
        self.feed = StampedFeed(loop)
        self.database.feed = self.feed
        self.journal = Journal(self._fork(), self._invocation)
        JOURNAL.set(self.journal)
        self.nodes: list[Node] = []
        self.past: list[Node] = []
        self.is_healed = False
        self.is_over = False
        self.errors: list[str] = []
        self.clients = Clients(self, self._fork(), span_s=self.shape.span_s, runs=self.shape.runs)
        self.nemesis = Nemesis(self, self._fork(), self.faults, self.trace)

    def _fork(self) -> random.Random:
        """A chance of its own for each part, so that one drawing more does not shift the others."""
        return random.Random(self.rng.getrandbits(64))

    # -- what its parts ask of it ------

    @property
    def ttl_s(self) -> float:
        return self.shape.ttl_s

    @property
    def position(self) -> int:
        return len(self.feed)

    def say(self, what: str) -> None:
        self.trace.say("client", what)

    def any_node(self, rng: random.Random) -> Node:
        return rng.choice(self.nodes)

    def replace(self, node: Node) -> None:
        """A new process under a dead one's name."""
        if node in self.nodes:
            self.past.append(node)
            self.nodes[self.nodes.index(node)] = self._begin(node.name)

    def _begin(self, name: str) -> Node:
        life = sum(1 for node in self.past if node.name == name) + 1
        node = Node(self.shape.settings(name), life, self.loop, self._fork(), self.database, self.faults, self.trace)
        node.start()
        return node

    def _invocation(self, context: Context, text: str) -> Invocation:
        process = PROCESS.get()
        name = process.name if process is not None else "?"
        row = self.database.runs.get(context.run)
        if self.trace.is_on:
            self.trace.say(
                name,
                f"CALL {context.run} {context.call} attempt {context.attempt} epoch {context.epoch}: {text[:60]}",
            )
        return Invocation(
            context.run, context.call, context.attempt, context.idempotency_key, context.epoch, name,
            self.loop.time(), self.position, self.loop.was_held, row.epoch if row is not None else 0,
        )  # fmt: skip

    # -- the schedule ------

    async def run(self) -> None:
        """Torment, heal, and wait for the end of every run."""
        self.nodes = [self._begin(f"n{number}") for number in range(self.shape.nodes)]
        working = self.loop.create_task(self.clients.work())
        await self.nemesis.work(self.shape.span_s)
        await self.nemesis.heal()
        self.is_healed = True
        self.say("HEALED")
        deadline = self.loop.time() + self.shape.healed_s
        finishing = self.loop.create_task(self.clients.finish())
        while self.loop.time() < deadline:
            await asyncio.sleep(0.05)
            if working.done() and finishing.done() and not self._open_runs() and self._budgets_are_home():
                self.is_over = True
                break
        for task in (working, finishing):
            if task.done():
                task.result()

    def _open_runs(self) -> list[str]:
        return [row.id for row in self.database.runs.values() if row.status not in ENDED_STATUSES]

    def _budgets_are_home(self) -> bool:
        """What is not needed goes back, also from the dead; it takes seconds, so that not every schedule waits."""
        return not self.shape.waits_for_budgets or not any(state_of(row.head()).tranches for row in self._budgets())

    def _budgets(self) -> list[SystemRow]:
        return [row for row in self.database.system.values() if row.stream.startswith(PREFIX)]

    def evidence(self) -> Evidence:
        rows = self.database.runs.values()
        stamped = zip(self.feed, self.feed.stamps, strict=True)
        return Evidence(
            streams={row.id: tuple(row.events) for row in rows},
            heads={row.id: row.head() for row in rows},
            mails={row.id: tuple(row.letters.values()) for row in rows},
            feed=[(run, event.sequence, at) for (run, event), at in stamped],
            acks=tuple(self.clients.acks), invocations=tuple(self.journal.invocations),
            unfinished=tuple(self.clients.unfinished), errors=tuple(self.errors), is_over=self.is_over,
            waited_for_budgets=self.shape.waits_for_budgets,
            budgets={row.stream: tuple(row.events) for row in self._budgets()},
        )  # fmt: skip

    def report(self, seed: int) -> Report:
        """Count, and check."""
        everyone = [*self.past, *self.nodes]
        rows = self.database.runs.values()
        tried = [(i.run, i.call, i.attempt) for i in self.journal.invocations]
        report = Report(
            seed, faults=dict(sorted(self.trace.faults.items())), operations=self.clients.operations,
            runs=len(rows),
            runs_completed=sum(row.status in ENDED_STATUSES for row in rows),
            takeovers=sum(node.coordinator.stats.runs_taken_over for node in everyone),
            invocations=len(tried), repeated=len(tried) - len(set(tried)), steps=self.loop.steps,
            virtual_s=round(self.loop.time(), 3), trace=self.trace.lines,
        )  # fmt: skip
        report.violations = check(self.evidence(), random.Random(f"checks {seed}"), prefixes=self.shape.replays)
        digest = hashlib.sha256(repr((report.faults, report.operations, report.steps)).encode())
        for run, event in self.feed:
            digest.update(f"{run} {event.sequence} {event.at} {event.type} ".encode() + event.body)
        report.digest = digest.hexdigest()[:32]
        return report

    async def end(self) -> None:
        """Let every task leave, so that nothing of this schedule is left in the interpreter."""
        for node in [*self.past, *self.nodes]:
            node.network.is_severed = True
            self.loop.release(node.process)
        own = asyncio.current_task()
        for _ in range(50):
            others = [task for task in asyncio.all_tasks() if task is not own]
            if not others:
                break
            for task in others:
                task.cancel()
            await asyncio.wait(others, timeout=1.0)
        for node in [*self.past, *self.nodes]:
            node.bury()


def simulate(seed: int, *, is_traced: bool = False) -> Report:
    """Run one schedule. Deterministic in `seed`, and in nothing else."""
    loop = SimLoop(random.Random(f"loop {seed}"))
    was_enabled = gc.isenabled()
    gc.disable()
    world = World(seed, loop, is_traced=is_traced)
    loop.set_exception_handler(lambda _, context: world.errors.append(_described(context)))
    try:
        with _listening(world.errors):
            try:
                loop.run_until_complete(world.run())
            except (Livelock, Deadlock) as error:
                world.errors.append(f"{type(error).__name__}: {error}")
            report = world.report(seed)
            loop.steps_max = 2 * loop.steps_max
            loop.run_until_complete(world.end())
    finally:
        loop.close()
        if was_enabled:
            gc.enable()
    return report


@contextmanager
def _listening(errors: list[str]) -> Iterator[None]:
    """Whatever the program under test logs as an error is a violation; nothing is printed."""

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            cause = f": {record.exc_info[1]!r}" if record.exc_info else ""
            errors.append(f"logged: {record.getMessage()}{cause}")

    logger, listener = logging.getLogger("pointsman"), Listener()
    before = logger.level, logger.propagate
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    logger.addHandler(listener)
    try:
        yield
    finally:
        logger.removeHandler(listener)
        logger.setLevel(before[0])
        logger.propagate = before[1]


def _described(context: dict[str, Any]) -> str:
    return f"loop: {context.get('message')}: {context.get('exception')!r}"
