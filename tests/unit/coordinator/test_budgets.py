"""Shared budgets at work: several coordinators on one memory store, in virtual time; lost replies, deaths, windows.

Whatever happens, what is counted from the runs' logs and from the budgets' streams must agree and stay within the limit
(`testing/sim/ledgers.py`, which does not use the code under test to count).
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec
import pytest

from pointsman.agents.agent import Agent
from pointsman.agents.card import Card
from pointsman.coordinator.budgets.held import RESERVATIONS_MAX, HeldTranche
from pointsman.coordinator.budgets.purse import IDLE_S, PATIENCE_S
from pointsman.coordinator.budgets.recovery import NEXT_IN_LINE_S, ends_of
from pointsman.coordinator.budgets.service import Purses
from pointsman.coordinator.verbs.budgets import CoordinatorBudgets
from pointsman.kernel import events as ev
from pointsman.kernel.errors import InvalidValue, StoreUnavailable
from pointsman.kernel.policy.amounts import Amount, Budget
from pointsman.kernel.policy.budget import LedgerState
from pointsman.ports.event_log import Append, NewEvent, NewRun, Outcome
from pointsman.ports.ownership import Definition
from pointsman.ports.reservations import ReservationRow
from pointsman.ports.system_log import SystemHead
from pointsman.stores.memory.database import MemoryDatabase
from pointsman.stores.memory.store import MemoryStore
from pointsman.testing.sim.clocks import SimClock
from pointsman.testing.sim.ledgers import budget_violations
from pointsman.testing.sim.loop import PROCESS, Process, SimLoop

DEFINITION = Definition("w", 1, "b")
CENT = 10_000
ATTEMPT = Amount(CENT, 0, 1)


def agent_with(budget: Budget | None = None, name: str = "billing") -> Agent:
    return Agent(Card(name=name, budget=budget), signature=None)  # type: ignore[arg-type]


class Worker:
    """A coordinator as far as budgets are concerned: it makes attempts, each recorded as `Driver` does it."""

    def __init__(self, database: MemoryDatabase, name: str, tenant_budgets: dict[str, Budget] | None = None) -> None:
        self.store = MemoryStore(database)
        self.name = name
        self.tenant_budgets = tenant_budgets
        self.purses: Purses
        self.incarnation = 0
        self.sequences: dict[str, int] = {}
        self.epochs: dict[str, int] = {}

    async def start(self) -> Worker:
        await self.store.open()
        lease = await self.store.liveness.register(self.name, "", [DEFINITION], ttl_ms=3_000)
        self.incarnation = lease.incarnation
        self.purses = Purses(self.store, lease.incarnation, self.tenant_budgets)
        await self.purses.start()
        return self

    async def reserve(self, agent: Agent, amount: Amount = ATTEMPT, tenant: str = "t") -> tuple[str, ...] | ev.Failure:
        while True:
            asked = asyncio.get_running_loop().create_future()
            got = self.purses.reserve(agent, tenant, amount, lambda asked=asked: asked.done() or asked.set_result(None))
            if got is not None:
                return got
            await asked

    async def attempt(
        self, agent: Agent, run: str, spent: Amount | None, amount: Amount = ATTEMPT, seconds: float = 0.0,
        number: int = 1,
    ) -> tuple[str, ...] | ev.Failure:  # fmt: skip
        got = await self.reserve(agent, amount)
        if isinstance(got, ev.Failure):
            return got
        reserved = ev.CallReserved(call=run, attempt=number, amount=amount, tranches=got)
        if not await self.append(run, reserved):
            self.purses.release(got, amount)
            return got
        await asyncio.sleep(seconds)
        if await self.append(run, ev.CallCompleted(call=run, output=msgspec.Raw(b"1"), attempt=number, spent=spent)):
            self.purses.settle(got, amount, spent)
        return got

    async def append(self, run: str, *events: ev.Event) -> bool:
        expected = self.sequences.get(run, 0)
        create = None if expected else NewRun("w", 1, "b", 0, "d")
        rows = tuple(
            ReservationRow(tranche, number)
            for number, event in enumerate(events, expected + 1)
            if isinstance(event, ev.CallReserved)
            for tranche in event.tranches
        )
        new = [NewEvent(type(e).__name__, 1, self.store.clock.now(), ev.encode_event(e)) for e in events]
        append = Append(
            run=run, epoch=self.epochs.get(run, 1), expected=expected, nonce=b"12345678", events=new, status="running",
            owner=self.incarnation, create=create, reservations=rows,
        )  # fmt: skip
        moved = (await self.store.log.append([append]))[0].outcome is Outcome.MOVED
        if moved:
            self.sequences[run] = expected + len(events)
        return moved

    async def take_over(self) -> int:
        heads, _ = await self.store.ownership.claim_orphans(self.incarnation, [DEFINITION], limit=100)
        for head in heads:
            self.sequences[head.id], self.epochs[head.id] = head.sequence, head.epoch
        return len(heads)

    def die(self) -> None:
        """What the end of the process is to the others."""
        self.store.database.end(self.incarnation)

    async def stop(self) -> None:
        await self.purses.stop()
        await self.store.close()


class Room:
    """One database in virtual time, and its workers."""

    def __init__(self, loop: SimLoop) -> None:
        self.clock = SimClock(loop)
        self.database = MemoryDatabase(self.clock)
        self.workers: list[Worker] = []

    async def worker(self, tenant_budgets: dict[str, Budget] | None = None) -> Worker:
        worker = Worker(self.database, f"c{len(self.workers)}", tenant_budgets)
        self.workers.append(worker)
        return await worker.start()

    def state(self, scope: str = "agent/billing") -> LedgerState:
        row = self.database.system.get(f"budget/{scope}")
        return LedgerState() if row is None else msgspec.json.decode(row.state, type=LedgerState)

    def tranches(self) -> list[str]:
        """What is out, of any budget."""
        scopes = [name.removeprefix("budget/") for name in self.database.system if name.startswith("budget/")]
        return [tranche for scope in scopes for tranche in self.state(scope).tranches]

    def violations(self) -> list[str]:
        streams = {row.id: row.events for row in self.database.runs.values()}
        budgets = {name: row.events for name, row in self.database.system.items() if name.startswith("budget/")}
        return list(budget_violations(streams, budgets))

    async def until(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        """Time is virtual: this waits for nothing."""
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)


def virtually(test: Callable[[Room], Coroutine[Any, Any, None]], seed: int = 1, loop: SimLoop | None = None) -> Room:
    loop = loop or SimLoop(random.Random(seed))
    room = Room(loop)

    async def run() -> None:
        try:
            await test(room)
        finally:
            for worker in room.workers:
                await worker.stop()
            assert not room.violations()

    try:
        loop.run_until_complete(run())
    finally:
        loop.close()
    return room


def test_no_budget_costs_nothing() -> None:
    async def test(room: Room) -> None:
        one = await room.worker()
        agent = agent_with()
        assert await one.reserve(agent) == ()
        woken: list[str] = []
        assert one.purses.reserve(agent, "t", ATTEMPT, lambda: woken.append("?")) == ()
        assert not woken
        assert not room.database.system
        assert not one.purses.applies(agent, "t")

    virtually(test)


def test_a_budget_applies_at_once_whoever_declares_or_sets_it() -> None:
    async def test(room: Room) -> None:
        one = await room.worker()
        assert await one.reserve(agent_with()) == ()
        assert one.purses.applies(agent_with(Budget(calls=5)), "t")
        assert one.purses.applies(agent_with(), "t"), "another card of an agent that has one"
        assert not one.purses.applies(agent_with(name="other"), "t")
        await CoordinatorBudgets(one.store.system, one.store.clock).set("tenant/t", Budget(calls=5), "me")
        await asyncio.sleep(1.1)
        assert one.purses.applies(agent_with(name="other"), "t")

    virtually(test)


@pytest.mark.parametrize("seed", range(8))
def test_what_three_spend_together_is_never_above_the_limit_and_all_of_it_is_usable(seed: int) -> None:
    """Each spends half of what it reserves, so most of every tranche comes back; at the end next to nothing is left."""
    rng = random.Random(seed)
    results: list[tuple[str, ...] | ev.Failure] = []
    agent = agent_with(Budget(usd=1.0))

    async def work(worker: Worker, name: str) -> None:
        for number in range(60):
            spent = Amount(rng.choice((0, CENT // 2, CENT)), 0, 1)
            got = await worker.attempt(agent, f"{name}-{number}", spent, seconds=rng.random() * 0.2)
            results.append(got)
            if isinstance(got, ev.Failure):
                return

    async def test(room: Room) -> None:
        workers = [await room.worker() for _ in range(3)]
        await asyncio.gather(*(work(w, f"{w.name}.{lane}") for w in workers for lane in range(3)))
        await room.until(lambda: not room.state().tranches)
        refused = [got for got in results if isinstance(got, ev.Failure)]
        assert refused
        assert room.state().settled.usd_micros > 99 * CENT, "a budget is exceeded only when it is used up"
        assert not any(room.database.reservations.values())

    virtually(test, seed)


def test_a_refusal_names_the_budget_and_comes_before_anything_is_spent() -> None:
    async def test(room: Room) -> None:
        one = await room.worker()
        agent = agent_with(Budget(usd=0.05, per=3600))
        failure = await one.reserve(agent, Amount(6 * CENT))
        assert isinstance(failure, ev.Failure)
        assert failure.kind == "budget_exceeded"
        assert not failure.retryable
        assert "agent/billing: the attempt may cost 0.06 USD, free 0.05 USD, limit 0.05 USD" in failure.message
        assert failure.retry_after_ms is not None
        assert 0 < failure.retry_after_ms <= 3_600_000
        assert room.clock.monotonic() < PATIENCE_S, "what can never fit is refused at once"
        assert isinstance(await one.reserve(agent, Amount(5 * CENT)), tuple)

    virtually(test)


def test_an_idle_tranche_goes_back_within_a_second() -> None:
    async def test(room: Room) -> None:
        one, two = await room.worker(), await room.worker()
        agent = agent_with(Budget(calls=10))
        got = await one.attempt(agent, "a", Amount(calls=1), Amount(calls=6))
        assert isinstance(got, tuple)
        asked_at = room.clock.monotonic()
        assert isinstance(await two.reserve(agent, Amount(calls=9)), tuple)
        assert IDLE_S / 2 < room.clock.monotonic() - asked_at < 1.0
        assert room.state().settled == Amount(calls=1)

    virtually(test)


def test_what_is_left_of_a_tranche_goes_back_while_an_attempt_goes_on() -> None:
    async def test(room: Room) -> None:
        one, two = await room.worker(), await room.worker()
        agent = agent_with(Budget(usd=1.0))
        long_call = asyncio.create_task(one.attempt(agent, "long", Amount(CENT, 0, 1), seconds=60))
        await room.until(lambda: "budget/agent/billing" in room.database.system)
        assert room.state().out_at(room.clock.now()).usd_micros == 5 * CENT
        assert isinstance(await two.attempt(agent, "big", Amount(99 * CENT), Amount(99 * CENT)), tuple)
        assert room.clock.monotonic() < 2
        await long_call

    virtually(test)


def test_who_waits_for_what_is_in_use_is_refused_when_patience_ends() -> None:
    async def test(room: Room) -> None:
        one, two = await room.worker(), await room.worker()
        agent = agent_with(Budget(calls=1))
        long_call = asyncio.create_task(one.attempt(agent, "long", None, Amount(calls=1), seconds=20))
        await room.until(lambda: "long" in room.database.runs)
        before = room.clock.monotonic()
        assert isinstance(await two.reserve(agent, Amount(calls=1)), ev.Failure)
        assert PATIENCE_S <= room.clock.monotonic() - before < PATIENCE_S + 0.5
        again = room.clock.monotonic()
        assert isinstance(await two.reserve(agent, Amount(calls=1)), ev.Failure)
        assert room.clock.monotonic() - again < 0.01, "and the next ones at once"
        await long_call

    virtually(test)


def test_a_new_window_is_whole_and_nothing_is_taken_from_an_old_tranche() -> None:
    async def test(room: Room) -> None:
        one = await room.worker()
        agent = agent_with(Budget(calls=2, per=10))
        windows: list[int] = []
        for number in range(6):
            got = await one.reserve(agent)
            while isinstance(got, ev.Failure):
                assert got.retry_after_ms is not None
                await asyncio.sleep(got.retry_after_ms / 1000 + 0.001)
                got = await one.reserve(agent)
            windows.append(room.state().window)
            assert await one.append(f"r{number}", ev.CallReserved(call="c", attempt=1, amount=ATTEMPT, tranches=got))
            assert await one.append(f"r{number}", ev.CallCompleted(call="c", output=msgspec.Raw(b"1"), spent=ATTEMPT))
            one.purses.settle(got, ATTEMPT, ATTEMPT)
        assert len(set(windows)) == 3
        assert all(windows.count(window) == 2 for window in windows)

    virtually(test)


def test_both_the_agents_and_the_tenants_budget_are_taken_from() -> None:
    async def test(room: Room) -> None:
        one = await room.worker({"*": Budget(calls=2), "vip": Budget(calls=5)})
        agent = agent_with(Budget(calls=100))
        got = await one.reserve(agent, tenant="small")
        assert isinstance(got, tuple)
        assert len(got) == 2
        assert isinstance(await one.reserve(agent, tenant="small"), tuple)
        failure = await one.reserve(agent, tenant="small")
        assert isinstance(failure, ev.Failure)
        assert "tenant/small" in failure.message
        for _ in range(5):
            assert isinstance(await one.reserve(agent, tenant="vip"), tuple)
        assert isinstance(await one.reserve(agent, tenant="vip"), ev.Failure)
        one.purses.release(got, ATTEMPT)
        assert isinstance(await one.reserve(agent, tenant="small"), tuple), "what was never made is free again"
        one.die()

    virtually(test)


def test_an_attempt_whose_end_is_unknown_counts_in_full_and_one_that_overspent_counts_all() -> None:
    async def test(room: Room) -> None:
        one = await room.worker()
        agent = agent_with(Budget(usd=1.0))
        await one.attempt(agent, "unknown", None)
        await one.attempt(agent, "overspent", Amount(3 * CENT, 70))
        await room.until(lambda: not room.state().tranches)
        assert room.state().settled == Amount(4 * CENT, 70, 2)

    virtually(test)


# -- operators ---------------------------------------------------------------------------------------------------------


def test_an_operators_budget_stands_above_the_card_and_is_known_everywhere_soon() -> None:
    async def test(room: Room) -> None:
        one, two = await room.worker(), await room.worker()
        agent, plain = agent_with(Budget(calls=2)), agent_with(None, "plain")
        verbs = CoordinatorBudgets(one.store.system, one.store.clock)
        await one.attempt(agent, "a", None)
        assert await two.reserve(plain) == ()
        view = await verbs.set("agent/billing", Budget(calls=4), "ops")
        assert (view.by, view.budget.calls) == ("ops", 4)
        await verbs.set("agent/plain", Budget(calls=0), "ops")
        await asyncio.sleep(1.1)
        assert isinstance(await two.reserve(plain), ev.Failure)
        for number in range(3):
            assert isinstance(await two.attempt(agent, f"b{number}", None), tuple)
        assert isinstance(await two.reserve(agent), ev.Failure)
        await room.until(lambda: not room.state().tranches)
        now = await verbs.get("agent/billing")
        assert now is not None
        assert (now.spent.calls, now.reserved.calls, now.free.calls) == (4, 0, 0)
        assert [entry.scope for entry in await verbs.list()] == ["agent/billing", "agent/plain"]
        assert [entry.scope for entry in await verbs.list(after="agent/billing")] == ["agent/plain"]
        assert await verbs.get("agent/other") is None

    virtually(test)


def test_what_operators_set_is_known_before_the_first_call_of_a_new_coordinator() -> None:
    async def test(room: Room) -> None:
        store = MemoryStore(room.database)
        await store.open()
        await CoordinatorBudgets(store.system, store.clock).set("tenant/t", Budget(calls=0), "ops")
        one = await room.worker()
        assert isinstance(await one.reserve(agent_with()), ev.Failure)

    virtually(test)


@pytest.mark.parametrize(
    ("scope", "budget", "by", "says"),
    [
        ("run/x", Budget(), "ops", "agent/NAME or tenant/NAME"),
        ("agent/", Budget(), "ops", "agent/NAME or tenant/NAME"),
        ("agent/x", Budget(seconds=1), "ops", "per="),
        ("agent/x", Budget(), "", "say who"),
        ("agent/x", Budget(), "declaration", "say who"),
    ],
)
def test_what_no_budget_can_be_is_refused(scope: str, budget: Budget, by: str, says: str) -> None:
    async def test(room: Room) -> None:
        one = await room.worker()
        with pytest.raises(InvalidValue, match=says):
            await CoordinatorBudgets(one.store.system, one.store.clock).set(scope, budget, by)
        with pytest.raises(ValueError, match="tenant 'a'"):
            Purses(one.store, 1, {"a": Budget(seconds=1)})

    virtually(test)


# -- lost replies and deaths
# ---------------------------------------------------------------------------------------------


class Lossy:
    """A system log whose appends go wrong as a seed says: lost, done without a reply, or done long after."""

    def __init__(self, inner: Any, rng: random.Random) -> None:
        self.inner = inner
        self.rng = rng
        self.late: list[asyncio.Task[Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def append(self, stream: str, expected: int, events: Sequence[NewEvent], state: bytes) -> SystemHead:
        fate = self.rng.choice(("well", "well", "lost", "reply", "late"))
        if fate == "late":
            self.late.append(asyncio.create_task(self._later(stream, expected, events, state)))
        elif fate != "lost":
            head: SystemHead = await self.inner.append(stream, expected, events, state)
            if fate == "well":
                return head
        raise StoreUnavailable(fate)

    async def _later(self, *args: Any) -> None:
        await asyncio.sleep(self.rng.random() * 0.5)
        await asyncio.gather(self.inner.append(*args), return_exceptions=True)


@pytest.mark.parametrize("seed", range(12))
def test_a_lost_reply_leaks_no_tranche(seed: int) -> None:
    rng = random.Random(seed)
    agent = agent_with(Budget(usd=0.3))

    async def work(worker: Worker, lane: int) -> None:
        for number in range(12):
            spent = Amount(rng.choice((0, CENT)), 0, 1)
            await worker.attempt(agent, f"{worker.name}-{lane}-{number}", spent, seconds=rng.random() * 0.4)

    async def test(room: Room) -> None:
        workers = [await room.worker() for _ in range(2)]
        for worker in workers:
            worker.store.system = Lossy(worker.store.system, rng)
        await asyncio.gather(*(work(worker, lane) for worker in workers for lane in range(2)))
        await room.until(lambda: not room.state().tranches)

    virtually(test, seed)


class Victim(Process):
    """Stops for ever at its n-th callback, at every await point in turn: the loop looks at `is_held` before each."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.callbacks = 0
        self.is_stopped = self.was_killed = False
        self.on_death: Callable[[], None] = lambda: None
        super().__init__("victim")

    @property
    def is_held(self) -> bool:
        if not self.is_stopped:
            self.callbacks += 1
            if self.callbacks == self.at:
                self.is_stopped = self.was_killed = True
                self.on_death()
        return self.is_stopped

    @is_held.setter
    def is_held(self, value: bool) -> None:
        self.is_stopped = value


def killed_at(callback: int) -> bool:
    """One attempts three times and dies at its n-th callback; two inherits. False: it had ended before."""
    loop, process = SimLoop(random.Random(3)), Victim(callback)
    agent = agent_with(Budget(usd=0.1, calls=50))

    async def victim(worker: Worker, done: asyncio.Future[None]) -> None:
        for number, spent in enumerate((Amount(CENT // 2), None, Amount(0))):
            await worker.attempt(agent, f"a{number}", spent, seconds=0.3)
        await asyncio.sleep(1)
        done.set_result(None)

    async def test(room: Room) -> None:
        two = await room.worker({"t": Budget(usd=0.2)})
        one = Worker(room.database, "victim", {"t": Budget(usd=0.2)})
        process.on_death = one.die
        done, context = loop.create_future(), contextvars.copy_context()
        context.run(PROCESS.set, process)

        async def life() -> None:
            await one.start()
            await victim(one, done)

        task = context.run(asyncio.create_task, life())
        await room.until(lambda: done.done() or process.is_stopped)
        one.die()
        loop.hold(process)
        await asyncio.sleep(0.5)
        while await two.take_over():
            pass
        for run in list(two.sequences):  # the next owner makes each pending call again
            if room.database.runs[run].events[-1].type == "CallReserved":
                assert isinstance(await two.attempt(agent, run, Amount(CENT // 4), number=2), tuple)
            assert await two.append(run, ev.RunCompleted())
        await room.until(lambda: not room.tranches())
        left = 10 * CENT - room.state().settled.usd_micros
        assert isinstance(await two.reserve(agent, Amount(left + 1)), ev.Failure)
        assert isinstance(await two.reserve(agent, Amount(left)), tuple), "nothing has leaked"
        two.die()
        process.at = 0
        loop.release(process)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if hasattr(one, "purses"):
            await one.purses.stop()
        await one.store.close()

    virtually(test, loop=loop)
    return process.was_killed


def test_a_death_at_any_await_point_is_settled_exactly() -> None:
    callback = 1
    while killed_at(callback):
        callback += 1
    assert callback > 60, "the attempts were interrupted at many points"


def test_a_reservation_that_nobody_has_touched_yet_is_waited_for() -> None:
    async def test(room: Room) -> None:
        one, two = await room.worker(), await room.worker()
        agent = agent_with(Budget(usd=1.0))
        task = asyncio.create_task(one.attempt(agent, "a", None, seconds=1_000))
        await room.until(lambda: "a" in room.database.runs)
        task.cancel()
        await one.purses.stop()
        one.die()
        await asyncio.sleep(5)
        assert room.state().out_at(room.clock.now()).usd_micros == 5 * CENT, "it still owns a run"
        assert await two.take_over() == 1
        await room.until(lambda: room.state().out_at(room.clock.now()).usd_micros == CENT)
        await asyncio.sleep(5)
        assert room.state().tranches, "its call is pending"
        assert await two.append("a", ev.CallCancelled(call="a"))
        await room.until(lambda: not room.state().tranches)
        assert room.state().settled == ATTEMPT
        await room.until(lambda: not any(room.database.reservations.values()))

    virtually(test)


def test_the_next_in_line_settles_when_the_first_does_not() -> None:
    async def test(room: Room) -> None:
        first, second, dead = [await room.worker() for _ in range(3)]
        assert await dead.reserve(agent_with(Budget(calls=5)))
        await first.purses.stop()
        dead.die()
        died_at = room.clock.monotonic()
        await room.until(lambda: not room.state().tranches)
        assert NEXT_IN_LINE_S <= room.clock.monotonic() - died_at < NEXT_IN_LINE_S + 3
        assert second.incarnation > first.incarnation

    virtually(test)


def test_what_the_living_hold_is_theirs_although_they_own_no_run() -> None:
    async def test(room: Room) -> None:
        one, _ = await room.worker(), await room.worker()
        got = await one.reserve(agent_with(Budget(calls=5)))
        await asyncio.sleep(6)
        assert list(room.state().tranches) == list(got)

    virtually(test)


def test_who_still_asks_after_the_end_writes_nothing() -> None:
    """Purses stop before the drivers do: what those settle on their way out must not reach the ledger."""

    async def test(room: Room) -> None:
        one = await room.worker()
        agent = agent_with(Budget(calls=1))
        assert await one.reserve(agent_with(None, "plain")) == ()
        asked = asyncio.create_task(one.reserve(agent))
        await asyncio.sleep(0)
        stopping = asyncio.create_task(one.purses.stop())
        woken: list[str] = []
        await stopping
        before = room.database.system_changes
        for _ in range(3):
            assert one.purses.reserve(agent, "t", Amount(), lambda: woken.append("?")) is None
            await asyncio.sleep(1)
        assert room.database.system_changes == before
        assert not any(task.get_name().startswith("budget") for task in asyncio.all_tasks())
        asked.cancel()
        one.die()

    virtually(test)


# -- parts -----------------------------------------------------------------------------------------------------------


def test_nothing_is_taken_from_a_tranche_while_it_goes_back() -> None:
    """The reply to its settling is under way, and a call comes."""

    async def test(room: Room) -> None:
        one = await room.worker()
        agent = agent_with(Budget(calls=100))
        first = await one.reserve(agent)
        assert isinstance(first, tuple)
        one.purses.release(first, ATTEMPT)
        inner, seen = one.store.system, []

        class Slow:
            def __getattr__(self, name: str) -> Any:
                return getattr(inner, name)

            async def append(self, *args: Any) -> SystemHead:
                head = await inner.append(*args)
                seen.append(one.purses.reserve(agent, "t", ATTEMPT, lambda: None))
                return head

        one.purses._agents["billing"].ledger._system = Slow()  # type: ignore[assignment]
        await room.until(lambda: bool(seen))
        assert seen[0] is None

    virtually(test)


def test_a_changed_budget_ends_the_tranches_of_the_old_one() -> None:
    async def test(room: Room) -> None:
        one = await room.worker()
        agent = agent_with(Budget(calls=2_000))
        assert isinstance(await one.reserve(agent), tuple)
        await CoordinatorBudgets(one.store.system, one.store.clock).set(
            "agent/billing", Budget(calls=2_000, tokens=0), "ops"
        )
        for _ in range(12):
            await asyncio.sleep(0.1)
            last = await one.reserve(agent, Amount(tokens=1))
        assert isinstance(last, ev.Failure), "it would have been in use all the time, and had room"
        one.die()

    virtually(test)


def test_a_ledger_never_goes_back() -> None:
    """A poll that took long shows the ledger before a grant; what it does not show is not settled."""

    async def test(room: Room) -> None:
        one = await room.worker()
        agent = agent_with(Budget(calls=5))
        assert isinstance(await one.reserve(agent), tuple)
        ledger = one.purses._agents["billing"].ledger
        before, sequence = ledger.state, ledger.sequence
        ledger.saw(SystemHead("budget/agent/billing", sequence - 1, msgspec.json.encode(LedgerState()), 0))
        assert (ledger.state, ledger.sequence) == (before, sequence)
        one.die()

    virtually(test)


def test_a_tranche_ends_with_its_window_and_after_so_many_reservations() -> None:
    held = HeldTranche("t", Amount(calls=5_000), Budget(calls=9_999, per=10), 20_000, 0.0)
    assert held.can_hold(ATTEMPT, 19_999)
    assert not held.can_hold(ATTEMPT, 20_000)
    for _ in range(RESERVATIONS_MAX):
        assert held.can_hold(ATTEMPT, 0)
        held.reserve(ATTEMPT, 0.0)
    assert not held.can_hold(ATTEMPT, 0)


def test_a_tranche_that_was_overspent_goes_back() -> None:
    held = HeldTranche("t", Amount(3 * CENT), Budget(usd=1), None, 0.0)
    held.reserve(ATTEMPT, 0.0)
    held.settle(ATTEMPT, Amount(4 * CENT, 0, 1), 1.0)
    assert held.is_retired
    assert not held.can_hold(Amount(), 0)
    assert held.spent == Amount(4 * CENT, 0, 1)
    assert not held.give_back()


def rows_of(*events: ev.Event) -> list[ev.Recorded]:
    return [ev.Recorded(n, n, type(e).__name__, 1, ev.encode_event(e)) for n, e in enumerate(events, 1)]


RESERVED = ev.CallReserved(call="c", attempt=1, amount=Amount(CENT))
FAILURE = ev.Failure("timeout")


@pytest.mark.parametrize(
    ("after", "ended"),
    [
        ([], None),
        ([ev.CallCompleted(call="c", output=msgspec.Raw(b"1"), spent=Amount(5))], Amount(5, 0, 1)),
        ([ev.CallCompleted(call="c", output=msgspec.Raw(b"1"))], ATTEMPT),
        ([ev.CallFailed(call="c", failure=FAILURE, spent=Amount(7))], Amount(7, 0, 1)),
        ([ev.AttemptFailed(call="c", attempt=1, failure=FAILURE)], ATTEMPT),
        ([ev.AttemptFailed(call="c", attempt=1, failure=FAILURE, spent=Amount(1, 2, 1))], Amount(1, 2, 1)),
        ([RESERVED], ATTEMPT),
        ([ev.CallSkipped(call="c", output=msgspec.Raw(b"1"), failure=FAILURE)], ATTEMPT),
        ([ev.CallCancelled(call="c")], ATTEMPT),
        ([ev.RunFailed(failure=FAILURE)], ATTEMPT),
        ([ev.RunCompleted()], ATTEMPT),
        ([ev.RunWasCancelled()], ATTEMPT),
        ([ev.CallCompleted(call="other", output=msgspec.Raw(b"1"), spent=Amount(5))], None),
    ],
)
def test_what_an_attempt_used_up_is_what_its_end_says(after: list[ev.Event], ended: Amount | None) -> None:
    assert ends_of(rows_of(RESERVED, *after), [1]) == (([], [ATTEMPT]) if ended is None else ([ended], []))
