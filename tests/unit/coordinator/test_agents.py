"""The keeper of the agents and their health checks: several coordinators on one database, on a virtual clock."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec
import pytest

from pointsman import App
from pointsman.agents import record as rec
from pointsman.agents.addresses import AddressRefused, AgentAddresses
from pointsman.agents.card import Health
from pointsman.agents.schema import InvalidSchema
from pointsman.coordinator.agents import TRIES_MAX, AgentKeeper, append
from pointsman.coordinator.health import WAIT_S, HealthWatch
from pointsman.kernel.errors import InvalidValue, StoreUnavailable, WrongExpectedSequence
from pointsman.kernel.policy.breaker import Sums
from pointsman.ports.agents import AgentDeclared, AgentNotFound, InvalidCard
from pointsman.ports.event_log import NewEvent
from pointsman.ports.liveness import Lease
from pointsman.ports.system_log import SystemHead, new_events
from pointsman.stores.memory.database import MemoryDatabase
from pointsman.stores.memory.store import MemoryStore
from pointsman.testing.sim.clocks import SimClock
from pointsman.testing.sim.loop import SimLoop

URL = "https://clerk.example.org/"


def simulated(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test on the virtual clock, under several orders of what is ready."""

    def run() -> None:
        for seed in range(5):
            with asyncio.Runner(loop_factory=lambda seed=seed: SimLoop(random.Random(seed))) as runner:  # type: ignore[misc]
                runner.run(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def card(name: str = "clerk", **fields: Any) -> bytes:
    return msgspec.json.encode({"name": name, "url": URL, **fields})


class Patient:
    """A health check that a test makes well or ill; it remembers who asked, and when."""

    def __init__(self) -> None:
        self.is_well = True
        self.asked: list[tuple[str, float]] = []

    async def check(self, by: str) -> None:
        self.asked.append((by, asyncio.get_running_loop().time()))
        if not self.is_well:
            raise ConnectionError("status 500")

    def by(self, since: float = 0.0) -> set[str]:
        return {who for who, at in self.asked if at >= since}


class Node:
    """One coordinator, as far as agents go."""

    def __init__(self, database: MemoryDatabase, name: str, patient: Patient | None = None) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        self.name = name
        self.changed: list[str] = []
        self.store = MemoryStore(database, clock=SimClock(loop))
        self.patient = patient or Patient()
        app = App("desk", generalist="anybody")

        @app.agent
        async def anybody(text: str) -> str:
            return text

        self.directory = app.directory
        self.keeper = AgentKeeper(
            self.store.system, self.store.clock, self.directory, on_change=self.changed.append,
            sums=lambda agent: Sums(9, 3, 1) if agent == "anybody" else Sums(),
        )  # fmt: skip
        self.lease: Lease | None = None
        self.health = HealthWatch(
            self.keeper, self.directory, self.store.clock, self.store.liveness,
            incarnation=lambda: self.lease.incarnation if self.lease is not None else 0,
            probe=lambda url, timeout: self.patient.check(self.name), jitter=lambda: 0.5,
        )  # fmt: skip

    async def start(self) -> Node:
        await self.store.open()
        self.lease = await self.store.liveness.register(self.name, "", [], ttl_ms=3_000)
        await self.keeper.start()
        self.health.start()
        self.watcher = asyncio.create_task(self.watch_others(self.lease.incarnation))
        return self

    async def watch_others(self, own: int) -> None:
        """End the incarnations of the dead, as every coordinator does."""
        while True:
            await self.store.liveness.next_death(own)

    async def stop(self) -> None:
        self.watcher.cancel()
        await self.health.stop()
        await self.keeper.stop()
        if self.lease is not None:
            await self.lease.release()
        await self.store.close()

    async def die(self) -> None:
        """Like a killed process: nothing is given up, nothing is said."""
        self.watcher.cancel()
        for _, task in self.health._watches.values():
            task.cancel()
        assert self.health._task is not None
        self.health._task.cancel()
        await self.keeper.stop()
        await self.store.close()

    def problem(self, name: str = "clerk") -> str | None:
        found = self.directory.problem(name, self.store.clock.now())
        return found.kind if found is not None else None


def database() -> MemoryDatabase:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    return MemoryDatabase(SimClock(loop))


async def cluster(*names: str, patient: Patient | None = None) -> list[Node]:
    shared = database()
    return [await Node(shared, name, patient).start() for name in names]


async def stop(nodes: Sequence[Node]) -> None:
    for node in nodes:
        await node.stop()


@simulated
async def test_all_coordinators_see_a_registration_within_a_second_and_the_next_one_at_once() -> None:
    one, two = nodes = await cluster("one", "two")
    registered = await one.keeper.register(card(capabilities=["law"]), ttl_s=60)
    assert (registered.created, registered.view.registered, registered.view.problem) == (True, True, None)
    assert registered.view.expires_at == one.store.clock.now() + 60_000
    assert one.directory.agent("clerk") is not None
    await asyncio.sleep(0.5)
    chosen = two.directory.select(["law"])
    assert chosen is not None
    assert chosen.agent == "clerk"
    assert two.changed == ["clerk"]
    assert not (await two.keeper.register(card(capabilities=["law"]), ttl_s=60)).created
    three = await Node(one.store.database, "three").start()
    assert three.directory.agent("clerk") is not None, "known before anything is driven"
    await stop([*nodes, three])


@simulated
async def test_an_agent_that_leaves_or_does_not_renew_gets_no_calls() -> None:
    one, two = nodes = await cluster("one", "two")
    await one.keeper.register(card(capabilities=["law"]), ttl_s=5)
    await asyncio.sleep(4)
    await two.keeper.renew("clerk", ttl_s=5)
    await asyncio.sleep(4)
    assert (one.problem(), two.problem()) == (None, None)
    await asyncio.sleep(1)
    assert (one.problem(), two.problem()) == ("departed", "departed")
    chosen = one.directory.select(["law"])
    assert chosen is not None
    assert chosen.agent == "anybody"
    assert one.directory.agent("clerk") is not None
    with pytest.raises(AgentNotFound, match="register it again"):
        await one.keeper.renew("clerk", ttl_s=5)
    assert (await one.keeper.register(card(), ttl_s=5)).created
    assert await two.keeper.leave("clerk")
    assert not await one.keeper.leave("clerk")
    await asyncio.sleep(0.5)
    assert (one.problem(), two.problem()) == ("departed", "departed")
    assert (await one.keeper.get("clerk")).problem == "departed"
    await stop(nodes)


@simulated
async def test_an_operator_switches_agents_off_and_on_for_all() -> None:
    one, two = nodes = await cluster("one", "two")
    assert not (await one.keeper.disable("anybody", reason="wrong answers", by="ann")).enabled
    await asyncio.sleep(0.5)
    failure = two.directory.problem("anybody", two.store.clock.now())
    assert failure is not None
    assert (failure.kind, failure.message) == ("disabled", "anybody is switched off: wrong answers")
    assert two.directory.select(["law"]) is None
    assert (await two.keeper.enable("anybody")).enabled
    await asyncio.sleep(0.5)
    assert one.problem("anybody") is None
    await stop(nodes)


@simulated
async def test_a_breaker_is_pinned_for_all_and_its_view_has_the_counts() -> None:
    one, two = nodes = await cluster("one", "two")
    pinned = await one.keeper.pin_breaker("anybody", "open", by="ann")
    assert (pinned.state, pinned.pinned, pinned.calls, pinned.failures, pinned.slow) == ("open", "open", 9, 3, 1)
    assert pinned.since == one.store.clock.now()
    await asyncio.sleep(0.5)
    assert two.problem("anybody") == "breaker_open"
    assert [view.breaker for view in await two.keeper.list()] == ["open"]
    await two.keeper.pin_breaker("anybody", "closed")
    assert two.problem("anybody") is None
    view = await two.keeper.unpin_breaker("anybody")
    assert (view.state, view.pinned) == ("closed", None)
    assert [v.agent for v in await one.keeper.breakers()] == ["anybody"]
    with pytest.raises(ValueError, match="pinned"):
        await one.keeper.pin_breaker("anybody", "ajar")
    await stop(nodes)


@simulated
async def test_what_may_not_register() -> None:
    (one,) = nodes = await cluster("one")
    for given, error in (
        (card("anybody"), AgentDeclared),
        (card("no good"), InvalidCard),
        (card(url="http://169.254.169.254/"), AddressRefused),
        (card(health={"url": "http://localhost/health"}), AddressRefused),
        (card(input_schema={"$ref": "http://x.org/"}), InvalidSchema),
        (card(output_schema={"type": 1}), InvalidSchema),
        (card(fallback=["clerk"]), InvalidCard),
        (b"{", InvalidCard),
    ):
        with pytest.raises(error):
            await one.keeper.register(given, ttl_s=60)
    for ttl_s in (0, -1, 10**9, float("nan"), float("inf")):
        with pytest.raises(InvalidValue, match="seconds"):
            await one.keeper.register(card(), ttl_s=ttl_s)
    assert await one.store.system.heads(rec.PREFIX) == [], "nothing of it is recorded"
    for verb in (one.keeper.get, one.keeper.enable, one.keeper.disable, one.keeper.unpin_breaker):
        for name in ("nobody", "../x", ""):
            with pytest.raises(AgentNotFound):
                await verb(name)
    with pytest.raises(AgentDeclared):
        await one.keeper.renew("anybody", ttl_s=60)
    assert not await one.keeper.leave("nobody")
    assert await one.store.system.heads(rec.PREFIX) == []
    await stop(nodes)


@simulated
async def test_the_allowlist_is_the_operators() -> None:
    (one,) = nodes = await cluster("one")
    keeper = AgentKeeper(one.store.system, one.store.clock, one.directory, addresses=AgentAddresses(("10.0.0.0/8",)))
    await keeper.register(card(url="http://10.1.2.3/"), ttl_s=60)
    with pytest.raises(AddressRefused, match="allowlist"):
        await keeper.register(card(), ttl_s=60)
    await stop(nodes)


# -- appends ----------------------------------------------------------------------------------------------------------


@simulated
async def test_who_loses_a_race_decides_again_on_what_it_reads_then() -> None:
    one, two = nodes = await cluster("one", "two")
    await asyncio.gather(
        *(node.keeper.disable("anybody", by=f"{node.name}-{n}") for node in nodes for n in range(5)),
        *(node.keeper.register(card(), ttl_s=60) for node in nodes),
    )
    for name in ("anybody", "clerk"):
        log = await one.store.system.read(rec.stream_of(name))
        folded = rec.AgentRecord()
        for recorded in log:
            folded.evolve(rec.read_event(recorded), recorded.at)
        head = await two.store.system.head(rec.stream_of(name))
        assert head is not None
        assert rec.write_record(folded) == head.state
        assert len(log) == (10 if name == "anybody" else 2)
    await stop(nodes)


class Contested:
    """A system log in which another is always first."""

    def __init__(self) -> None:
        self.tries = 0

    async def head(self, stream: str) -> SystemHead | None:
        return None

    async def append(self, stream: str, expected: int, events: Sequence[NewEvent], state: bytes) -> SystemHead:
        self.tries += 1
        raise WrongExpectedSequence


async def test_races_that_are_always_lost_end() -> None:
    log = Contested()
    with pytest.raises(WrongExpectedSequence):
        await append(log, "agent/x", lambda record: [rec.AgentEnabled()], lambda: 0)  # type: ignore[arg-type]
    assert log.tries == TRIES_MAX


@simulated
async def test_what_was_read_before_an_append_of_its_own_does_not_undo_it() -> None:
    (one,) = nodes = await cluster("one")
    await one.keeper.disable("anybody")
    (old,) = await one.store.system.heads(rec.PREFIX)
    await one.keeper.enable("anybody")
    one.keeper._take([old])
    assert one.problem("anybody") is None
    await stop(nodes)


@simulated
async def test_one_record_that_can_not_be_read_does_not_hide_the_others() -> None:
    (one,) = nodes = await cluster("one")
    new = new_events([rec.AgentEnabled()], 0)
    await one.store.system.append("agent/alien", 0, new, b'{"from":"the future"}')
    await one.keeper.register(card("zoe"), ttl_s=60)
    two = await Node(one.store.database, "two").start()
    assert two.directory.agent("zoe") is not None
    assert two.directory.agent("alien") is None
    await stop([*nodes, two])


@simulated
async def test_an_unreachable_store_ends_nothing() -> None:
    one, two = nodes = await cluster("one", "two")
    two.store._session.is_open = False
    await asyncio.sleep(1)
    with pytest.raises(StoreUnavailable):
        await two.keeper.disable("anybody")
    await one.keeper.register(card(), ttl_s=60)
    await asyncio.sleep(1)
    assert two.directory.agent("clerk") is None
    two.store._session.is_open = True
    await asyncio.sleep(1)
    assert two.directory.agent("clerk") is not None
    await stop(nodes)


@simulated
async def test_a_database_that_was_put_back_is_read_afresh() -> None:
    (one,) = nodes = await cluster("one")
    for _ in range(3):
        await one.keeper.disable("anybody")
        await one.keeper.enable("anybody")
    await asyncio.sleep(1)
    shared = one.store.database
    shared.system.clear()
    shared.system_changes = 0
    other = await Node(shared, "other").start()
    await other.keeper.disable("anybody")
    await asyncio.sleep(1)
    assert one.problem("anybody") == "disabled"
    await stop([*nodes, other])


# -- health -----------------------------------------------------------------------------------------------------------


HEALTH = {"url": "https://clerk.example.org/health"}


@simulated
async def test_one_coordinator_asks_every_five_seconds() -> None:
    patient = Patient()
    nodes = await cluster("one", "two", "three", patient=patient)
    await nodes[0].keeper.register(card(health=HEALTH), ttl_s=3_600)
    await asyncio.sleep(301)
    assert len(patient.by()) == 1
    assert 59 <= len(patient.asked) <= 61
    assert {(await node.keeper.get("clerk")).health for node in nodes} == {"healthy"}
    events = await nodes[0].store.system.read("agent/clerk")
    assert len(events) <= 25, "checks that change nothing are not recorded; turns are"
    await stop(nodes)


@simulated
async def test_three_misses_are_unhealthy_and_two_successes_healthy() -> None:
    patient = Patient()
    one, two = nodes = await cluster("one", "two", patient=patient)
    await one.keeper.register(card(health=HEALTH, capabilities=["law"]), ttl_s=3_600)
    await asyncio.sleep(2)
    patient.is_well = False
    before = len(patient.asked)
    while len(patient.asked) < before + 2:
        await asyncio.sleep(0.1)
    await asyncio.sleep(1)
    assert (one.problem(), two.problem()) == (None, None)
    await asyncio.sleep(5)
    assert (one.problem(), two.problem()) == ("unhealthy", "unhealthy")
    failure = two.directory.problem("clerk", two.store.clock.now())
    assert failure is not None
    assert "ConnectionError: status 500" in failure.message
    chosen = two.directory.select(["law"])
    assert chosen is not None
    assert chosen.agent == "anybody"
    patient.is_well = True
    await asyncio.sleep(5)
    assert one.problem() == "unhealthy"
    await asyncio.sleep(5.5)
    assert (one.problem(), two.problem()) == (None, None)
    await stop(nodes)


@simulated
async def test_the_turn_passes_on_when_its_holder_stops_or_dies() -> None:
    patient = Patient()
    nodes = await cluster("one", "two", "three", patient=patient)
    await nodes[0].keeper.register(card(health=HEALTH), ttl_s=3_600)
    loop = asyncio.get_running_loop()
    left = {node.name: node for node in nodes}
    for how in ("stop", "die"):
        await asyncio.sleep(12)
        (holder,) = patient.by(loop.time() - 10)
        node = left.pop(holder)
        await (node.stop() if how == "stop" else node.die())
        gone = loop.time()
        await asyncio.sleep(5 * WAIT_S)
        (heir,) = patient.by(gone)
        assert heir != holder
        first = min(at for who, at in patient.asked if at >= gone)
        assert first - gone <= (1.2 * WAIT_S if how == "stop" else 4 + 1.2 * WAIT_S), "not only when the turn lapses"
    await stop(list(left.values()))


@simulated
async def test_a_check_under_way_ends_when_its_coordinator_stops() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    class Slow(Patient):
        async def check(self, by: str) -> None:
            begun.set()
            try:
                await asyncio.sleep(1)
            finally:
                ended.set()

    (one,) = await cluster("one", patient=Slow())
    await one.keeper.register(card(health=HEALTH), ttl_s=3_600)
    await begun.wait()
    (task,) = [task for _, task in one.health._watches.values()]
    await one.stop()
    assert ended.is_set()
    assert task.cancelled()


@simulated
async def test_who_has_no_incarnation_asks_nobody_and_who_left_is_not_asked() -> None:
    patient = Patient()
    (one,) = nodes = await cluster("one", patient=patient)
    lease, one.lease = one.lease, None
    await one.keeper.register(card(health=HEALTH), ttl_s=3_600)
    await asyncio.sleep(20)
    assert patient.asked == []
    one.lease = lease
    await asyncio.sleep(20)
    assert patient.asked != []
    await one.keeper.leave("clerk")
    await asyncio.sleep(1)
    count = len(patient.asked)
    await asyncio.sleep(20)
    assert len(patient.asked) == count
    await stop(nodes)


@simulated
async def test_a_verdict_that_could_not_be_recorded_is_recorded_later() -> None:
    patient = Patient()
    (one,) = nodes = await cluster("one", patient=patient)
    await one.keeper.register(card(health=HEALTH), ttl_s=3_600)
    await asyncio.sleep(2)
    patient.is_well = False
    one.store._session.is_open = False
    await asyncio.sleep(12)
    assert one.problem() is None
    one.store._session.is_open = True
    await asyncio.sleep(12)
    assert one.problem() == "unhealthy"
    await stop(nodes)


def health_of(check: Callable[[], Any], timeout: float = 0.05) -> tuple[App, Callable[[], HealthWatch]]:
    app = App("desk")
    policy = Health(timeout=timeout)

    @app.agent(health=check, health_policy=policy)
    async def clerk() -> None: ...

    async def probe(url: str, timeout: float) -> None:
        raise AssertionError("it has no URL")

    def watch() -> HealthWatch:
        store = MemoryStore()
        keeper = AgentKeeper(store.system, store.clock, app.directory)
        return HealthWatch(keeper, app.directory, store.clock, store.liveness, incarnation=lambda: 1, probe=probe)

    return app, watch


async def ask(check: Callable[[], Any], timeout: float = 0.05) -> str | None:
    app, watch = health_of(check, timeout)
    agent = app.directory.agent("clerk")
    assert agent is not None
    return await watch()._ask(agent, Health(timeout=timeout))


async def test_functions_are_asked_sync_and_async() -> None:
    async def well() -> None: ...

    async def slow() -> None:
        await asyncio.sleep(60)

    async def quits() -> None:
        raise asyncio.CancelledError

    async def ends() -> None:
        raise SystemExit(3)

    def stops() -> None:
        raise StopIteration

    def ill() -> None:
        raise ValueError("no disk")

    assert await ask(well) is None
    assert await ask(lambda: None, 5) is None
    assert await ask(lambda: well(), 5) is None
    assert await ask(slow) == "no answer within 0.05 s"
    assert await ask(quits) == "the check cancelled itself"
    assert await ask(ends) == "SystemExit: 3"
    assert await ask(ill, 5) == "ValueError: no disk"
    assert (await ask(stops, 5) or "").startswith("RuntimeError")
    assert await ask(lambda: threading.current_thread().daemon or ill(), 5) is None


async def test_a_check_that_hangs_has_one_thread_and_misses_until_it_ends() -> None:
    release, begun = threading.Event(), []

    def hangs() -> None:
        begun.append(1)
        release.wait(30)

    app, watch = health_of(hangs)
    agent = app.directory.agent("clerk")
    assert agent is not None
    health = watch()
    try:
        assert await health._ask(agent, Health(timeout=0.05)) == "no answer within 0.05 s"
        assert await health._ask(agent, Health(timeout=0.05)) == "the check before has not ended"
        assert begun == [1]
    finally:
        release.set()
    await asyncio.to_thread(health._threads["clerk"].join, 10)
    assert await health._ask(agent, Health(timeout=5)) is None


@simulated
async def test_a_stale_view_of_who_lives_takes_no_turn() -> None:
    """Whoever found the holder dead, and meanwhile another took the turn, must not take it from that one."""
    one, two = nodes = await cluster("one", "two")
    await one.keeper.append("x", lambda record: [rec.HealthTurnTaken(99, one.store.clock.now() + 30_000)])
    assert two.lease is not None
    heir = two.lease.incarnation
    members = one.store.liveness.members

    async def meanwhile() -> Any:
        living = await members()
        await two.keeper.append("x", lambda record: [rec.HealthTurnTaken(heir, one.store.clock.now() + 30_000)])
        return [member for member in living if member.incarnation != heir]

    one.store.liveness.members = meanwhile  # type: ignore[method-assign]
    assert not await one.health._has_turn("x", Health())
    record = rec.read_record((await one.store.system.heads("agent/x"))[0].state)
    assert record.turn is not None
    assert record.turn.incarnation == heir
    await stop(nodes)
