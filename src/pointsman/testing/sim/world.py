"""One schedule: a seed in, a report out. Builds a cluster, torments it, heals it, and has it checked."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import replace
from typing import Any

from pointsman.agents import record as records
from pointsman.agents.card import HTTP, LOCAL
from pointsman.agents.context import Context
from pointsman.agents.directory import AgentDirectory
from pointsman.agents.transport import Transport
from pointsman.coordinator.budgets.ledger import PREFIX, state_of
from pointsman.ports.event_log import ENDED_STATUSES
from pointsman.ports.system_log import SystemHead
from pointsman.ports.telling import Teller
from pointsman.testing.sim.checkers import check
from pointsman.testing.sim.client import Clients
from pointsman.testing.sim.clocks import SimClock, skewed
from pointsman.testing.sim.databases import OpenRun, as_appended, has_past
from pointsman.testing.sim.deploying import Deploying, Release
from pointsman.testing.sim.evidence import Evidence
from pointsman.testing.sim.faulty import Faults, Trace
from pointsman.testing.sim.journal import JOURNAL, Effect, Invocation, Journal
from pointsman.testing.sim.loop import PROCESS, Deadlock, Livelock, Process, SimLoop
from pointsman.testing.sim.node import Node
from pointsman.testing.sim.notices import happened
from pointsman.testing.sim.operators import Operators, serve
from pointsman.testing.sim.report import Report, listening
from pointsman.testing.sim.rescue import Rescue
from pointsman.testing.sim.scenario import Scenario
from pointsman.testing.sim.shape import draw
from pointsman.testing.sim.stores import MEMORY, STORES
from pointsman.testing.sim.transport import SimHttp, SimLocal
from pointsman.testing.sim.webhook import Receiver
from pointsman.testing.sim.wire import pass_on
from pointsman.testing.sim.workers import Workforce
from pointsman.testing.sim.workload import OWN

SKIPPED_MS_MIN = 3_000
"""Rests that are shorter are waited for."""
AGE_MS = 9 * 24 * 3600 * 1000
"""More than a week, so that the bucket in which everything began is past."""
SOONER_MS = 500
AGED_S = 10.0
"""Virtual seconds more for a schedule that ages."""


class World:
    """Everything in one schedule."""

    def __init__(self, seed: int, loop: SimLoop, scenario: Scenario, *, store: str, is_traced: bool) -> None:
        self.loop = loop
        self.scenario = scenario
        self.app = scenario.app
        self.rng = random.Random(f"world {seed}")
        self.store = STORES[store]
        self.shape = draw(self.rng, nodes_max=self.store.nodes_max)
        if scenario.ages:
            self.shape = replace(self.shape, ages=True, waits_for_budgets=True)
        self.faults = Faults()
        self.trace = Trace(loop, is_on=is_traced)
        self.database = self.store.new_database(SimClock(loop))
        self.journal = Journal(self._fork(), self._invocation, self._effect, self._poison)
        JOURNAL.set(self.journal)
        self.transports: Mapping[str, Transport] = {
            LOCAL: SimLocal(self.journal, delay_s=scenario.delay_s), HTTP: SimHttp(self.journal, self._serve),
        }  # fmt: skip
        self.receiver = Receiver(loop, self._fork(), self.trace) if self.shape.has_webhook else None
        self.nodes: list[Node] = []
        self.past: list[Node] = []
        self._lives: dict[str, int] = {}
        self._context = copy_context()
        self._to_tell: tuple[int, set[tuple[str, str]]] = (0, set())
        """At a position of the database: what a webhook has to be told."""
        self.is_healed = False
        self.is_over = False
        self.aged_at = 0
        self.errors: list[str] = []
        starts = scenario.starts(self.rng, self.shape)
        self.clients = Clients(self, self._fork(), starts, span_s=self.shape.span_s, answer=scenario.answer)
        self.operators = Operators(self.clients, self._fork(), span_s=self.shape.span_s)
        self.rescue = Rescue(self, self.clients, self._fork(), span_s=self.shape.span_s)
        self.nemesis = self.store.nemesis(self, self._fork(), self.faults, self.trace)
        self.deploying = Deploying(self, self._fork(), self.trace, scenario.releases(starts))
        self.workforce = Workforce(self, self._fork()) if scenario.needs_workers(starts) else None

    def _fork(self) -> random.Random:
        """A chance of its own for each part, so that one drawing more does not shift the others."""
        return random.Random(self.rng.getrandbits(64))

    # -- what its parts ask of it ------

    @property
    def ttl_s(self) -> float:
        return self.shape.ttl_s

    @property
    def position(self) -> int:
        return self.database.position

    def forget(self, position: int) -> None:
        """The database goes on from what its standby has. What it will hold behind that, nobody has seen any of yet."""
        for all_made in (self.journal.invocations, self.journal.laid_out):
            all_made[:] = [made._replace(position=min(made.position, position)) for made in all_made]
        self.clients.forget(position)

    def say(self, what: str) -> None:
        self.trace.say("client", what)

    def any_node(self, rng: random.Random) -> Node:
        return rng.choice(self.nodes)

    def replace(self, node: Node) -> None:
        """A new process under a dead one's name."""
        if node in self.nodes:
            self.past.append(node)
            self.nodes[self.nodes.index(node)] = self._begin(node.name)

    def begin_beside(self, node: Node) -> Node:
        """A second process under the same name. Nobody asks it anything."""
        return self._begin(node.name)

    def end_beside(self, second: Node) -> None:
        second.crash()
        self.past.append(second)

    def _begin(self, name: str) -> Node:
        self._lives[name] = self._lives.get(name, 0) + 1
        node = Node(self.shape.settings(name), self._lives[name], self._fork(), self)
        node.start()
        return node

    def _invocation(self, context: Context, agent: str, data: bytes) -> Invocation:
        process = PROCESS.get()
        name = process.name if process is not None else "?"
        if self.trace.is_on:
            about = f"{context.run} {context.call} attempt {context.attempt} epoch {context.epoch}"
            self.trace.say(name, f"CALL {agent} {about}: {data[:80].decode(errors='replace')}")
        return Invocation(
            context.run, context.call, context.attempt, context.idempotency_key, context.epoch, name,
            self.loop.time(), self.position, self.loop.was_held, self.database.epoch_of(context.run), agent,
        )  # fmt: skip

    def _effect(self, seen: Effect) -> None:
        key = f"under the key {seen.key}" if seen.key is not None else "without a key"
        self.trace.say(seen.by.node, f"EFFECT {seen.name!r} of {seen.by.run} {seen.by.call}, {key}")

    def _poison(self, run: str) -> None:
        process = PROCESS.get()
        node = next((node for node in self.nodes if node.process is process and not node.is_dead), None)
        if node is not None and run not in self.rescue.cured:
            self.nemesis.poison(node, lambda work: self.loop.create_task(work, context=self._context))

    async def _serve(self, context: Context) -> bytes:
        """A service behind a URL, which reports to any coordinator while it is at work."""
        return await serve(self.any_node, self.journal, context)

    async def forward(self, address: str, path: str, body: Mapping[str, Any]) -> None:
        """Pass a report on to the coordinator that has the attempt. Raises AttemptOver, StoreUnavailable."""
        await pass_on(next((node for node in self.nodes if node.name == address), None), path, body)

    def new_directory(self) -> AgentDirectory:
        """Of a coordinator that begins now."""
        return self.deploying.current()

    def teller(self, process: Process) -> Teller | None:
        """Who tells people's webhook for a process."""
        return None if self.receiver is None else self.receiver.teller(process)

    # -- the schedule ------

    async def run(self) -> None:
        """Torment, heal, and wait for the end of every run."""
        self.nodes = [self._begin(f"n{number}") for number in range(self.shape.nodes)]
        working = self.loop.create_task(self._work())
        rescuing = self.loop.create_task(self.rescue.keep_looking())
        deploying = self.loop.create_task(self.deploying.work(self.shape.span_s))
        labouring = None if self.workforce is None else self.loop.create_task(self.workforce.work(self.shape.span_s))
        await self.nemesis.work(self.shape.span_s)
        await deploying
        await self.nemesis.heal()
        await self._heal_the_rest(labouring)
        self.is_healed = True
        self.say("HEALED")
        deadline = self.loop.time() + self.shape.healed_s
        finishing = self.loop.create_task(self.clients.finish())
        answering = self.loop.create_task(self.clients.keep_answering())
        while self.loop.time() < deadline:
            await asyncio.sleep(0.05)
            opened = self.database.open_runs_now()
            deadline += self._skip_rest(opened)
            if working.done() and self.shape.ages and not self.aged_at and self._may_age():
                await self._age()
                deadline += AGED_S
            if working.done() and finishing.done() and not opened and self._is_tidy():
                self.is_over = True
                break
        answering.cancel()
        rescuing.cancel()
        await asyncio.wait((answering, rescuing))
        for task in (working, finishing):
            if task.done():
                task.result()

    async def _heal_the_rest(self, labouring: asyncio.Task[None] | None) -> None:
        if self.receiver is not None:
            self.receiver.is_well = True
        if labouring is not None and self.workforce is not None:
            await labouring
            await self.workforce.heal()

    async def _age(self) -> None:
        """Nine days later: what ended before is deleted, while the rest goes on, and not everything goes well."""
        self.aged_at = self.database.true_clock.now()
        self.database.skip(AGE_MS)
        self.say("NINE DAYS LATER")
        self.faults.lost_reply = self.faults.lost = 0.1
        await self.nemesis.strike_once(self.any_node(self.rng))
        self.faults.heal()

    def _may_age(self) -> bool:
        """Nothing is on its way that would come nine days late: no append, no start of a run, no budget's tranche."""
        is_busy = any(node.seat.is_busy or node.is_creating for node in [*self.past, *self.nodes])
        return not is_busy and self._budgets_are_home()

    def _is_tidy(self) -> bool:
        """What has to come back has come back, and what had to be deleted is."""
        is_due = bool(self.aged_at) and has_past(self.database, self.aged_at)
        return not is_due and self._budgets_are_home() and not self._left_over() and self._is_told()

    def _left_over(self) -> list[str]:
        """Calls that wait for workers, or are at them."""
        if self.workforce is None:
            return []
        at_desks = [f"{node.process.name}: {what}" for node in self.nodes for what in node.desk.left_over()]
        return at_desks + self.workforce.left_over()

    def _is_told(self) -> bool:
        """What a webhook has to be told is told; else the next try is due sooner. To be asked when every run has
        ended."""
        if self.receiver is None:
            return True
        if self._to_tell[0] != self.position:
            evidence = self.evidence()
            self._to_tell = self.position, {what for run in evidence.streams for what in happened(evidence.events(run))}
        is_told = self._to_tell[1] <= self.receiver.heard
        if not is_told:
            self.database.skip(SOONER_MS)
        return is_told

    async def _work(self) -> None:
        tasks = [self.clients.work()]
        if self.scenario.operators:
            tasks += [self.operators.work(), self.rescue.work()]
        await asyncio.gather(*tasks)

    def _skip_rest(self, opened: Sequence[OpenRun]) -> float:
        """When every open run rests until a time far away, that time is now: a workflow may sleep for a month.
        Returns: virtual seconds by which the schedule may last longer."""
        if not opened or any(run.status != "parked" or run.wake_at is None for run in opened):
            return 0.0
        left_ms = min(run.wake_at or 0 for run in opened) - self.database.true_clock.now()
        if left_ms < SKIPPED_MS_MIN:
            return 0.0
        self.say(f"everything rests: {left_ms / 1000:.1f} s later")
        self.database.skip(left_ms)
        return 5.0

    def _budgets_are_home(self) -> bool:
        """What is not needed goes back, also from the dead; it takes seconds, so that not every schedule waits."""
        return not self.shape.waits_for_budgets or not any(state_of(head).tranches for head in self._budgets())

    def _budgets(self) -> list[SystemHead]:
        return self.database.reader.system_heads(PREFIX)

    def evidence(self) -> Evidence:
        database, reader = self.database, self.database.reader
        heads, gone = reader.heads(), {one.head.id: one for one in database.erased}
        return Evidence(
            streams={head.id: as_appended(database, head.id) for head in heads}
            | {run: tuple(one.stream) for run, one in gone.items()},
            heads={head.id: head for head in heads} | {run: one.head for run, one in gone.items()},
            mails={head.id: tuple(reader.mails(head.id)) for head in heads}
            | {run: tuple(one.mails) for run, one in gone.items()},
            feed=[(run, event.sequence, at) for run, event, at in database.committed()],
            acks=tuple(self.clients.acks), invocations=tuple(self.journal.invocations),
            effects=tuple(self.journal.effects), directory=self._directory(self.deploying.current),
            releases_before=[self._directory(release) for release in self.deploying.releases[:-1]],
            early_ms=max(node.clock.early_ms for node in [*self.past, *self.nodes]),
            unfinished=tuple(self.clients.unfinished), errors=tuple(self.errors), is_over=self.is_over,
            waited_for_budgets=self.shape.waits_for_budgets,
            budgets={head.stream: tuple(reader.system_stream(head.stream)) for head in self._budgets()},
            damaged={run: event.sequence for run, event in database.damaged.items()},
            erased=tuple(database.erased), aged_at=self.aged_at,
            takeovers_max=self.shape.settings("any").takeovers_max,
            laid_out=tuple(self.journal.laid_out), shifts=tuple(self.journal.shifts), left_over=self._left_over(),
            told=None if self.receiver is None else tuple(self.receiver.told),
        )  # fmt: skip

    def _directory(self, release: Release) -> AgentDirectory:
        """Of one that knows every agent that ever registered."""
        directory = release()
        streams = self.database.reader.system_heads(records.PREFIX)
        directory.apply({h.stream.removeprefix(records.PREFIX): records.read_record(h.state) for h in streams})
        return directory

    def report(self, seed: int) -> Report:
        """Count, and check."""
        evidence = self.evidence()
        everyone = [*self.past, *self.nodes]
        tried = [(i.run, i.call, i.attempt) for i in self.journal.invocations]
        report = Report(
            seed, faults=dict(sorted(self.trace.faults.items())), operations=self.clients.operations,
            runs=len(evidence.heads),
            runs_completed=sum(head.status in ENDED_STATUSES for head in evidence.heads.values()),
            takeovers=sum(node.coordinator.stats.runs_taken_over for node in everyone),
            invocations=len(tried), repeated=len(tried) - len(set(tried)), steps=self.loop.steps,
            virtual_s=round(self.loop.time(), 3), trace=self.trace.lines,
        )  # fmt: skip
        report.violations = check(evidence, random.Random(f"checks {seed}"), prefixes=self.shape.replays)
        for invariant in self.scenario.invariants:
            report.violations += [f"{name_of(invariant)}: {what}" for what in invariant(evidence)]
        digest = hashlib.sha256(repr((report.faults, report.operations, report.steps)).encode())
        for run, event, _ in self.database.committed():
            digest.update(f"{run} {event.sequence} {event.at} {event.type} ".encode() + event.body)
        report.digest = digest.hexdigest()[:32]
        return report

    async def end(self) -> None:
        """Let every task leave, so that nothing of this schedule is left in the interpreter."""
        for node in [*self.past, *self.nodes]:
            node.seat.crash()
            self.loop.release(node.process)
        if self.workforce is not None:
            self.workforce.end()
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


def simulate(
    seed: int, scenario: Scenario = OWN, *, store: str = MEMORY, is_traced: bool = False, keeps: bool = False
) -> Report:
    """Run one schedule. Deterministic in its arguments, and in nothing else.

    Args:
        store: one of `STORES`.
        keeps: give the logs too.
    """
    loop = SimLoop(random.Random(f"loop {seed}"))
    was_enabled = gc.isenabled()
    gc.disable()
    world = World(seed, loop, scenario, store=store, is_traced=is_traced)
    loop.set_exception_handler(lambda _, context: world.errors.append(_described(context)))
    try:
        with listening(world.errors), skewed(loop, random.Random(f"clocks {seed}")):
            try:
                loop.run_until_complete(world.run())
            except (Livelock, Deadlock) as error:
                world.errors.append(f"{type(error).__name__}: {error}")
            report = world.report(seed)
            if keeps:
                reader = world.database.reader
                report.streams = {f"{seed} {head.id}": reader.stream(head.id) for head in reader.heads()}
            loop.steps_max = 2 * loop.steps_max
            loop.run_until_complete(world.end())
    finally:
        world.database.close()
        loop.close()
        if was_enabled:
            gc.enable()
    return report


def _described(context: dict[str, Any]) -> str:
    return f"loop: {context.get('message')}: {context.get('exception')!r}"


def name_of(invariant: Callable[..., Any]) -> str:
    return getattr(invariant, "__name__", "invariant")
