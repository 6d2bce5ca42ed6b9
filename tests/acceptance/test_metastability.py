"""A system that was down for 8 s comes back by itself, and does as much as before; without its guards it does not.

In virtual time: three coordinators' gates over one memory database, and an agent with room for ten requests that
serves in the order of arrival and does not know which of them nobody waits for any more. That is what keeps such a
system down after its cause is gone: every request is answered too late, tried again, and so answered too late.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import cast

import pytest

from pointsman import App, CoordinatorSettings, Retry, Run, StartRun
from pointsman.agents.agent import Agent, AgentSignature
from pointsman.agents.card import Card
from pointsman.agents.directory import AgentDirectory
from pointsman.coordinator.agents import AgentKeeper
from pointsman.coordinator.gates.service import Gates, GateSettings, Permit
from pointsman.coordinator.verbs.runs import CoordinatorRuns
from pointsman.kernel.events import Failure
from pointsman.kernel.policy.breaker import Breaker
from pointsman.ports.event_log import RunFilter
from pointsman.stores.memory import MemoryDatabase, MemoryStore
from pointsman.testing.sim.clocks import SimClock
from pointsman.testing.sim.loop import SimLoop

ROOM, SERVICE_S = 10, 0.1
SMALL_ROOM = 3
CAPACITY = ROOM / SERVICE_S
LOAD = 0.8 * CAPACITY
TIMEOUT_S = 1.0
ATTEMPTS, BACKOFF_S, HOLD_S = 5, 0.2, 10.0
DOWN_AT, DOWN_S = 20.0, 8.0
RECOVERED_BY, END = 60.0, 90.0
AGENT = Agent(
    Card("billing", timeout=TIMEOUT_S, breaker=Breaker(window=5, calls_min=20, open_for=2, probes=3)),
    cast(AgentSignature, None),
)


class Server:
    """The agent: `ROOM` requests at a time, first come first served."""

    def __init__(self, loop: SimLoop, room: int = ROOM) -> None:
        self._loop = loop
        self._room = room
        self._queue: deque[asyncio.Future[None]] = deque()
        self._busy = 0

    @property
    def is_down(self) -> bool:
        return DOWN_AT <= self._loop.time() < DOWN_AT + DOWN_S

    def ask(self) -> asyncio.Future[None]:
        answer: asyncio.Future[None] = self._loop.create_future()
        self._queue.append(answer)
        self.serve()
        return answer

    def serve(self) -> None:
        """While it is down, what arrives piles up before it."""
        while not self.is_down and self._busy < self._room and self._queue:
            self._busy += 1
            self._loop.call_later(SERVICE_S, self._served, self._queue.popleft())

    def _served(self, answer: asyncio.Future[None]) -> None:
        self._busy -= 1
        if not answer.done():
            answer.set_result(None)
        self.serve()


class Caller:
    priority = 0
    is_continuing = False

    def __init__(self) -> None:
        self.permit: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()

    def admitted(self, permit: Permit) -> None:
        self.permit.set_result(permit)

    def obstructed(self, failure: Failure) -> None:
        pass


@dataclass
class Outcome:
    """Calls by the second in which they ended, and what was asked of the agent."""

    completed: Counter[int] = field(default_factory=Counter)
    asked: Counter[int] = field(default_factory=Counter)
    openings: int = 0
    statuses: Counter[str] = field(default_factory=Counter)

    def throughput(self, begin: float, end: float) -> float:
        return sum(self.completed[second] for second in range(int(begin), int(end))) / (end - begin)


async def admission(gates: Gates) -> Permit | None:
    caller = Caller()
    answer = gates.enter(AGENT, caller)
    if isinstance(answer, Permit):
        return answer
    try:
        async with asyncio.timeout(HOLD_S):
            return await caller.permit
    except TimeoutError:
        gates.leave(AGENT, caller)
        return None


async def call(loop: SimLoop, gates: Gates, server: Server, outcome: Outcome) -> None:
    """One call with its retries, as a driver makes it."""
    for attempt in range(1, ATTEMPTS + 1):
        permit = await admission(gates)
        if permit is None:
            return
        if attempt == 1:
            permit.tried()
        began = loop.time()
        outcome.asked[int(began)] += 1
        done, _ = await asyncio.wait((server.ask(),), timeout=TIMEOUT_S)
        permit.ended(None if done else "timeout", loop.time() - began)
        permit.release()
        if done:
            outcome.completed[int(loop.time())] += 1
            return
        if attempt == ATTEMPTS or not gates.may_retry(AGENT):
            return
        await asyncio.sleep(BACKOFF_S * 2 ** (attempt - 1))


async def scenario(loop: SimLoop, rng: random.Random, *, guarded: bool) -> Outcome:
    database, server, outcome = MemoryDatabase(SimClock(loop)), Server(loop), Outcome()
    settings = GateSettings() if guarded else GateSettings(retry_share=1.0, retry_floor=10**9)
    stores, keepers, nodes = [], [], []
    for number in range(3):
        store = MemoryStore(database, clock=SimClock(loop))
        await store.open()
        lease = await store.liveness.register(f"n{number}", "", [], ttl_ms=3_000)
        directory = AgentDirectory([AGENT], [], None)
        keeper = AgentKeeper(store.system, store.clock, directory)
        await keeper.start()
        nodes.append(Gates(lease.incarnation, store, keeper, directory, settings=settings))
        keeper.on_change = nodes[-1].changed
        stores.append(store)
        keepers.append(keeper)
        await nodes[-1].start()
    if not guarded:
        await keepers[0].pin_breaker("billing", "closed", by="the experimenter")
    loop.call_at(DOWN_AT + DOWN_S, server.serve)
    calls = set()
    while loop.time() < END:
        await asyncio.sleep(rng.expovariate(LOAD))
        calls.add(asyncio.create_task(call(loop, rng.choice(nodes), server, outcome)))
    for task in calls:
        task.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    outcome.openings = sum(gates.stats.breakers_opened for gates in nodes)
    for gates, keeper, store in zip(nodes, keepers, stores, strict=True):
        await gates.stop()
        await keeper.stop()
        await store.close()
    return outcome


def run(seed: int, *, guarded: bool) -> Outcome:
    loop = SimLoop(random.Random(seed), steps_max=3_000_000)
    try:
        return loop.run_until_complete(scenario(loop, random.Random(seed), guarded=guarded))
    finally:
        loop.close()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_after_an_outage_the_guarded_system_does_as_much_as_before(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "pointsman.gates"):
        outcome = run(seed, guarded=True)
    before = outcome.throughput(5, DOWN_AT)
    assert before == pytest.approx(LOAD, rel=0.1)
    assert outcome.throughput(DOWN_AT + 2, DOWN_AT + DOWN_S) < 0.05 * before, "it was down"
    assert outcome.openings >= 1
    assert outcome.throughput(RECOVERED_BY, END) > 0.9 * before
    asked = [outcome.asked[second] for second in range(int(DOWN_AT + 3), int(DOWN_AT + DOWN_S))]
    assert max(asked) < 0.1 * LOAD, "while it is down it is left alone"


async def whole_system(loop: SimLoop, rng: random.Random) -> Outcome:
    """The same with runs: three coordinators drive them, from the call to the retry that the log keeps."""
    database, server, outcome = MemoryDatabase(SimClock(loop)), Server(loop, SMALL_ROOM), Outcome()
    app = App("bank")

    @app.agent(timeout=TIMEOUT_S, retry=Retry(attempts=5, base=BACKOFF_S), breaker=AGENT.described.breaker, hold=HOLD_S)
    async def billing(ticket: int) -> int:
        outcome.asked[int(loop.time())] += 1
        await server.ask()
        outcome.completed[int(loop.time())] += 1
        return ticket

    @app.workflow()
    async def answer(run: Run, ticket: int) -> int:
        return int(await run.call(billing, ticket, default=-1))

    nodes = [
        app.coordinator(MemoryStore(database, clock=SimClock(loop)), CoordinatorSettings(name=f"n{number}"))
        for number in range(3)
    ]
    for node in nodes:
        await node.start()
    loop.call_at(DOWN_AT + DOWN_S, server.serve)
    number = 0
    while loop.time() < END:
        await asyncio.sleep(rng.expovariate(0.8 * SMALL_ROOM / SERVICE_S))
        number += 1
        await CoordinatorRuns(rng.choice(nodes)).start(StartRun("answer", str(number).encode(), id=f"r{number}"))
    await asyncio.sleep(HOLD_S + 30)
    outcome.openings = sum(node.stats.gates.breakers_opened for node in nodes)
    heads, _ = await nodes[0].store.log.list_runs(RunFilter(), limit=10_000)
    outcome.statuses = Counter(head.status for head in heads)
    for node in nodes:
        await node.stop()
    return outcome


def test_coordinators_come_back_by_themselves_too() -> None:
    loop = SimLoop(random.Random(1), steps_max=10_000_000)
    try:
        outcome = loop.run_until_complete(whole_system(loop, random.Random(1)))
    finally:
        loop.close()
    before = outcome.throughput(5, DOWN_AT)
    assert before == pytest.approx(0.8 * SMALL_ROOM / SERVICE_S, rel=0.15)
    assert outcome.throughput(DOWN_AT + 2, DOWN_AT + DOWN_S) < 0.05 * before, "it was down"
    assert outcome.openings >= 1
    assert outcome.throughput(RECOVERED_BY, END) > 0.9 * before
    assert set(outcome.statuses) == {"completed"}, "nothing is lost: answered, or with the default"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_without_breaker_and_retry_budget_it_stays_down(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "pointsman.gates"):
        outcome = run(seed, guarded=False)
    before = outcome.throughput(5, DOWN_AT)
    assert before == pytest.approx(LOAD, rel=0.1), "it manages the load while nothing happens"
    assert outcome.openings == 0
    assert outcome.throughput(RECOVERED_BY, END) < 0.2 * before, "32 s and more after the outage"
