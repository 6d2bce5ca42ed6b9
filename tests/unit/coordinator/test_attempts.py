"""Attempts as a coordinator makes them: held back, handed on, timed out, recorded once, paid for."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import pytest

from pointsman import AgentError, App, Budget, CallError, Context, Cost, Retry, Run, StartRun
from pointsman.coordinator.driving.admission import Admission
from pointsman.coordinator.driving.attempt import Caller, ignore_end
from pointsman.coordinator.service import Coordinator
from pointsman.coordinator.verbs.reports import CoordinatorAttempts
from pointsman.coordinator.verbs.runs import CoordinatorRuns
from pointsman.kernel import events as ev
from pointsman.kernel.errors import StoreUnavailable
from pointsman.kernel.policy.amounts import Amount
from pointsman.kernel.upcast import read_event
from pointsman.ports.agents import AttemptOver, CallAddress
from pointsman.ports.event_log import Append, AppendResult
from pointsman.ports.runs import Redrive
from pointsman.stores.memory.database import MemoryDatabase
from tests.unit.coordinator.test_service import coordinator, result, start, types, until

ONCE = Retry(attempts=1)


class Shop:
    """An app whose agents fail on demand."""

    def __init__(self) -> None:  # noqa: C901, PLR0915  a list of agents
        self.app = App("shop")
        self.calls: Counter[str] = Counter()
        self.charges: list[str] = []
        self.go = asyncio.Event()
        self.hold = threading.Event()
        app = self.app

        @app.agent(retry=ONCE, hold=0.3)
        async def clerk(n: int) -> int:
            self.calls["clerk"] += 1
            return n

        @app.agent(retry=ONCE)
        async def deputy(n: int) -> int:
            self.calls["deputy"] += 1
            return 10 * n

        @app.agent(retry=ONCE)
        async def poet(n: int) -> str:
            return f"{n} roses"

        @app.agent(retry=ONCE, timeout=0.05)
        def slow(n: int) -> int:
            self.calls["slow"] += 1
            self.hold.wait(10)
            return n

        @app.agent(retry=ONCE, heartbeat=0.1, timeout=20)
        async def pulse(beats: int, ctx: Context) -> int:
            for _ in range(beats):
                await asyncio.sleep(0.03)
                ctx.heartbeat()
            if beats < 5:
                await asyncio.Event().wait()
            return beats

        @app.agent(retry=Retry(attempts=3, base=0.01))
        async def charge(n: int, ctx: Context) -> str:
            async def pay() -> str:
                self.charges.append(ctx.idempotency_key)
                return f"receipt {len(self.charges)}"

            receipt = str(await ctx.once("pay", pay))
            if ctx.attempt < 3:
                raise AgentError("after the charge")
            return receipt

        @app.agent(retry=ONCE)
        async def stuck(n: int, ctx: Context) -> str:
            receipt = str(await ctx.once("pay", lambda: self.charges.append(ctx.idempotency_key) or "paid"))
            self.calls["stuck"] += 1
            await self.go.wait()
            return receipt

        @app.agent(retry=Retry(attempts=3, base=0.01), idempotent=False)
        async def fragile(n: int) -> int:
            self.calls["fragile"] += 1
            await self.go.wait()
            return n

        @app.agent(retry=ONCE, cost=Cost(usd=0.01, usd_most=0.04))
        async def dear(usd: float, ctx: Context) -> str:
            self.calls["dear"] += 1
            if usd:
                ctx.spend(usd=usd)
            await self.go.wait()
            return "done"

        @app.workflow()
        async def ask(run: Run, what: tuple[str, int]) -> object:
            try:
                return await run.call(what[0], what[1])
            except CallError as error:
                return error.kind

        @app.workflow()
        async def ask_clerk(run: Run, fallback: list[str]) -> object:
            return await run.call(clerk, 4, fallback=fallback, default="closed")

        @app.agent(retry=ONCE, budget=Budget(calls=1_000))
        async def counted(n: int) -> int:
            return n

        @app.workflow()
        async def hasty(run: Run) -> int:
            run.start(dear, 0.03)
            await run.sleep(0.05)
            return 1

        @app.workflow()
        async def parent(run: Run) -> int:
            return int(await run.call(hasty))

        @app.workflow()
        async def ask_dear(run: Run, usd: float) -> object:
            try:
                return await run.call(dear, usd)
            except CallError as error:
                return error.kind


@pytest.fixture
def shop() -> Iterator[Shop]:
    made = Shop()
    yield made
    made.hold.set()


async def log(service: Coordinator, run: str = "r") -> list[ev.Event]:
    return [read_event(row) for row in await service.store.log.read(run)]


async def test_a_disabled_agent_is_not_called_and_its_stand_in_is(shop: Shop) -> None:
    async with coordinator(shop.app, MemoryDatabase()) as one:
        await one.agents.disable("clerk", reason="stocktaking", by="ann")
        await start(one, "ask_clerk", b'["deputy"]')
        assert await result(one, "r") == 40
        assert shop.calls == {"deputy": 1}
        [step] = [event for event in await log(one) if isinstance(event, ev.CallReassigned)]
        assert (step.agent, step.attempt, step.failure.kind) == ("deputy", 1, "disabled")
        assert "stocktaking" in step.failure.message


async def test_a_call_waits_for_its_agent_and_goes_on_when_it_is_back(shop: Shop) -> None:
    async with coordinator(shop.app, MemoryDatabase()) as one:
        await one.agents.disable("clerk")
        await start(one, "ask_clerk", b"[]")
        while "CallHeld" not in await types(one):
            await asyncio.sleep(0)
        await one.agents.enable("clerk")
        assert await result(one, "r") == 4
        assert (await types(one))[2:] == ["CallHeld", "CallAdmitted", "CallCompleted", "RunCompleted"]


async def test_a_call_that_waited_in_vain_takes_the_default(shop: Shop) -> None:
    async with coordinator(shop.app, MemoryDatabase()) as one:
        await one.agents.disable("clerk")
        await start(one, "ask_clerk", b"[]")
        assert await result(one, "r") == "closed"
        assert not shop.calls
        assert (await types(one))[2:] == ["CallHeld", "CallSkipped", "RunCompleted"]


async def test_what_a_stand_in_gives_must_fit_the_agent_that_was_called(shop: Shop) -> None:
    async with coordinator(shop.app, MemoryDatabase()) as one:
        await one.agents.disable("clerk")
        await start(one, "ask_clerk", b'["poet"]')
        assert await result(one, "r") == "closed"
        [failed] = [event for event in await log(one) if isinstance(event, ev.AttemptFailed)]
        assert failed.failure.kind == "invalid_output"


async def test_silence_ends_an_attempt_that_has_to_give_signs_of_life(shop: Shop) -> None:
    async with coordinator(shop.app, MemoryDatabase()) as one:
        await start(one, "ask", b'["pulse", 8]', run="well")
        assert await result(one, "well") == 8
        await start(one, "ask", b'["pulse", 2]', run="ill")
        assert await result(one, "ill") == "heartbeat_timeout"


async def test_a_thread_that_does_not_end_is_left_behind(shop: Shop) -> None:
    async with coordinator(shop.app, MemoryDatabase()) as one:
        await start(one, "ask", b'["slow", 1]')
        assert await result(one, "r") == "timeout"
        crew = one.roster.crew
        assert crew is not None
        assert crew.dispatcher.active == 1, "it still runs, and is counted"
        shop.hold.set()
        await until(lambda: crew.dispatcher.active == 0)


async def test_an_effect_is_not_repeated_by_a_retry(shop: Shop) -> None:
    async with coordinator(shop.app, MemoryDatabase()) as one:
        await start(one, "ask", b'["charge", 1]')
        assert await result(one, "r") == "receipt 1"
        assert shop.charges == ["r/1/charge#1"]
        [effect] = [event for event in await log(one) if isinstance(event, ev.EffectRecorded)]
        assert (effect.name, bytes(effect.value)) == ("pay", b'"receipt 1"')


async def test_an_effect_is_not_repeated_by_another_coordinator(shop: Shop) -> None:
    database = MemoryDatabase()
    async with coordinator(shop.app, database, "two") as two:
        async with coordinator(shop.app, database, drain_s=0.01) as one:
            await start(one, "ask", b'["stuck", 1]')
            await until(lambda: shop.calls["stuck"] == 1)
        await until(lambda: shop.calls["stuck"] == 2)
        shop.go.set()
        assert await result(two, "r") == "paid"
        assert len(shop.charges) == 1


async def test_what_must_not_be_repeated_is_given_up_by_a_new_owner(shop: Shop) -> None:
    database = MemoryDatabase()
    async with coordinator(shop.app, database, "two") as two:
        async with coordinator(shop.app, database, drain_s=0.01) as one:
            await start(one, "ask", b'["fragile", 1]')
            await until(lambda: shop.calls["fragile"] == 1)
        assert await result(two, "r") == "attempt_lost"
        assert shop.calls["fragile"] == 1


async def test_what_only_waited_is_made_by_a_new_owner_and_what_was_let_in_is_not(shop: Shop) -> None:
    """Also where it must not be repeated: the log tells the two apart."""
    database = MemoryDatabase()
    async with coordinator(shop.app, database, "two") as two:
        async with coordinator(shop.app, database, drain_s=0.01) as one:
            await one.agents.disable("fragile")
            await start(one, "ask", b'["fragile", 1]', run="waits")
            await start(one, "ask", b'["fragile", 1]', run="begins")
            for run in ("waits", "begins"):
                while "CallHeld" not in await types(one, run):
                    await asyncio.sleep(0)
            driver = one.roster.driver("waits")
            assert driver is not None
            driver._attempts.close(was_refused=False, has_ended=False)  # it stays outside
            await one.agents.enable("fragile")
            await until(lambda: shop.calls["fragile"] == 1)
        shop.go.set()
        assert await result(two, "begins") == "attempt_lost"
        assert await result(two, "waits") == 1
        assert shop.calls["fragile"] == 2


async def test_the_budget_of_a_run_is_set_aside_before_and_settled_after(shop: Shop) -> None:
    async with coordinator(shop.app, MemoryDatabase()) as one:
        shop.go.set()
        await CoordinatorRuns(one).start(StartRun("ask_dear", b"0.03", id="r", budget=Budget(usd=0.05)))
        assert await result(one, "r") == "done"
        reserved, done = (await log(one))[2:4]
        assert isinstance(reserved, ev.CallReserved)
        assert reserved.amount.usd_micros == 40_000
        assert isinstance(done, ev.CallCompleted)
        assert done.spent == Amount(usd_micros=30_000, calls=1)
        await CoordinatorRuns(one).start(StartRun("ask_dear", b"0", id="poor", budget=Budget(usd=0.03)))
        assert await result(one, "poor") == "budget_exceeded"
        assert shop.calls["dear"] == 1, "it was refused before the money was spent"


async def test_an_attempt_whose_end_nobody_saw_counts_in_full(shop: Shop) -> None:
    database = MemoryDatabase()
    async with coordinator(shop.app, database, "two") as two:
        async with coordinator(shop.app, database, drain_s=0.01) as one:
            await CoordinatorRuns(one).start(StartRun("ask_dear", b"0.03", id="r", budget=Budget(usd=0.1)))
            await until(lambda: shop.calls["dear"] == 1)
        await until(lambda: shop.calls["dear"] == 2)
        shop.go.set()
        assert await result(two, "r") == "done"
        reservations = [event for event in await log(two) if isinstance(event, ev.CallReserved)]
        assert len(reservations) == 2


async def test_wall_time_is_a_budget_too(shop: Shop) -> None:
    async with coordinator(shop.app, MemoryDatabase()) as one:
        await CoordinatorRuns(one).start(StartRun("ask_dear", b"0", id="r", budget=Budget(seconds=0.1)))
        assert await result(one, "r") == "timeout"


async def test_a_child_that_leaves_an_attempt_behind_spent_it_in_full(shop: Shop) -> None:
    async with coordinator(shop.app, MemoryDatabase()) as one:
        await CoordinatorRuns(one).start(StartRun("parent", b"null", id="r", budget=Budget(usd=1)))
        assert await result(one, "r") == 1
        [ended] = [event for event in await log(one) if isinstance(event, ev.ChildEnded)]
        assert ended.spent == Amount(usd_micros=40_000, calls=1)


async def test_a_creation_names_no_tranche(shop: Shop) -> None:
    """It is not fenced: one that comes late must not spend from what others have settled meanwhile."""
    async with coordinator(shop.app, MemoryDatabase()) as one:
        append, created = one.store.log.append, []

        async def noted(batch: Sequence[Append], *, lane: int = 0) -> list[AppendResult]:
            created.extend(item for item in batch if item.create is not None)
            return await append(batch, lane=lane)

        one.store.log.append = noted  # type: ignore[method-assign]
        await start(one, "ask", b'["counted", 1]', run="first")  # after it, a tranche is in hand
        assert await result(one, "first") == 1
        await start(one, "ask", b'["counted", 1]')
        assert await result(one, "r") == 1
        assert [[event.type for event in item.events] for item in created] == [["RunStarted", "CallRequested"]] * 2
        assert "CallReserved" in await types(one)


async def test_a_call_that_waited_for_its_runs_creation_does_not_wait_for_the_calls_beside_it() -> None:
    app, go = App("beside"), asyncio.Event()

    @app.agent
    async def slow(n: int) -> int:
        await go.wait()
        return n

    @app.agent(budget=Budget(calls=1_000))
    async def counted(n: int) -> int:
        go.set()
        return n

    @app.workflow()
    async def both(run: Run, n: int) -> int:
        return sum(await run.gather(run.start(slow, n), run.start(counted, n)))

    @app.workflow()
    async def one_call(run: Run, n: int) -> int:
        return int(await run.call(counted, n))

    async with coordinator(app, MemoryDatabase()) as one:
        await start(one, "one_call", b"1", run="first")  # after it, a tranche is in hand
        assert await result(one, "first") == 1
        go.clear()
        await start(one, "both", b"2")
        assert await result(one, "r") == 4


async def test_an_attempt_under_way_is_not_made_again(shop: Shop) -> None:
    async with coordinator(shop.app, MemoryDatabase()) as one:
        await start(one, "ask", b'["stuck", 1]')
        await until(lambda: shop.calls["stuck"] == 1)
        driver = one.roster.driver("r")
        assert driver is not None
        driver._attempts._admission.again("stuck#1")
        await asyncio.sleep(0.02)
        assert shop.calls["stuck"] == 1
        shop.go.set()
        assert await result(one, "r") == "paid"


def test_a_call_that_is_dropped_waits_for_nothing() -> None:
    unused: Any = None
    caller = Caller("r", "default", "ask", 1, unused, unused, ignore_end)
    admission = Admission(unused, unused, caller, lambda: None, (), unused)
    admission._deferred["c"] = 1
    admission._ring()
    assert admission.wanted == ["c"]
    admission.wanted.clear()
    admission.drop("c")
    admission._ring()
    assert not admission.wanted


async def test_what_an_agent_reports_reaches_its_attempt_wherever_it_is_said(shop: Shop) -> None:
    told: list[tuple[str, str, Mapping[str, Any]]] = []

    async def forward(address: str, path: str, body: Mapping[str, Any]) -> None:
        told.append((address, path, body))

    database, call = MemoryDatabase(), CallAddress("r", 1, "stuck#1")
    async with coordinator(shop.app, database, address="one:1") as one, coordinator(shop.app, database, "two") as two:
        await start(one, "ask", b'["stuck", 1]')
        await until(lambda: shop.calls["stuck"] == 1)
        crew = one.roster.crew
        assert crew is not None
        attempt = crew.dispatcher.find("r/1/stuck#1", 1)
        assert attempt is not None
        before = attempt.beat_at
        here, elsewhere = CoordinatorAttempts(one, forward), CoordinatorAttempts(two, forward)
        await here.heartbeat(call, 1)
        assert attempt.beat_at > before
        await here.spend(call, 1, Amount(usd_micros=9_000))
        attempt.spend(Amount(usd_micros=9_000))  # the same total again, with the answer
        spent = attempt.used_up(b"1")
        assert spent is not None
        assert spent.usd_micros == 9_000
        assert not told
        await elsewhere.heartbeat(call, 1)
        assert told == [("one:1", "/v1/runs/r/attempts/heartbeat", {"key": "r/1/stuck#1", "attempt": 1})]
        with pytest.raises(AttemptOver):
            await here.heartbeat(call, 7)
        row = database.open_runs["r"]
        owner = row.owner
        for between in (None, 999):  # handed over, or its owner has just died
            row.owner = between
            with pytest.raises(StoreUnavailable):
                await elsewhere.heartbeat(call, 1)
        row.owner = owner
        shop.go.set()
        assert await result(one, "r") == "paid"


@pytest.mark.parametrize("has_fresh_key", [False, True])
async def test_what_an_agent_reports_after_a_redrive_reaches_its_attempt(has_fresh_key: bool) -> None:
    """Its key says that the run was redriven: what is asked for then is asked for anew."""
    app, broken = App("again"), {"first"}
    keys: list[str] = []

    @app.agent(retry=Retry(attempts=1))
    async def step(what: str, ctx: Context) -> str:
        if what in broken:
            raise AgentError("out of order", kind="refused", retryable=False)
        address = CallAddress.parse(ctx.idempotency_key)
        await reports.heartbeat(address, ctx.attempt)
        keys.append(ctx.idempotency_key)
        assert (await reports.record_effect(address, "charge", b"1")).created
        assert await ctx.once("charge", lambda: 2) == 1
        return what

    async def not_asked(address: str, path: str, body: object) -> None:
        raise AssertionError(f"{address}{path}: its owner is here")

    @app.workflow()
    async def steps(run: Run, n: int) -> list[str]:
        return [await run.call(step, "first"), await run.call(step, "second")]

    async with coordinator(app, MemoryDatabase()) as one:
        reports = CoordinatorAttempts(one, not_asked)
        await start(one, "steps", b"1")
        view = await CoordinatorRuns(one).wait("r", timeout_s=10)
        assert view.head.status == "failed"
        broken.clear()
        await CoordinatorRuns(one).redrive(Redrive("r", has_fresh_key=has_fresh_key))
        assert await result(one, "r") == ["first", "second"]
    assert keys == ["r/1/step#1/r1" if has_fresh_key else "r/1/step#1", "r/1r1/step#2"]


# -- what agents see of their process ----------------------------------------------------------------------------------

ASKED_BY: ContextVar[str] = ContextVar("asked_by", default="nobody")


async def test_an_agent_sees_the_context_of_its_coordinator_and_not_of_who_started_its_run() -> None:
    """Nor of the attempt before it: whichever coordinator makes an attempt, after whatever, it is made in the same."""
    app = App("context")

    @app.agent
    async def look(n: int) -> str:
        seen = ASKED_BY.get()
        ASKED_BY.set(f"attempt {n}")
        return seen

    @app.workflow()
    async def twice(run: Run) -> list[str]:
        return [await run.call(look, 1), await run.call(look, 2)]

    ASKED_BY.set("the operator")
    async with coordinator(app, MemoryDatabase()) as one:
        ASKED_BY.set("a client")
        await start(one, "twice")
        assert await result(one, "r") == ["the operator", "the operator"]


async def test_a_body_runs_in_the_context_of_who_started_it_and_not_of_its_agents() -> None:
    app, whose = App("contexts"), ContextVar("whose", default="nobody's")

    @app.agent
    async def step(n: int) -> int:
        whose.set("the agent's")
        return n

    @app.workflow()
    async def ask(run: Run) -> list[str]:
        seen = [whose.get()]
        for n in range(2):
            await run.call(step, n)
            seen.append(whose.get())
        return seen

    async with coordinator(app, MemoryDatabase()) as one:
        whose.set("the client's")
        await start(one, "ask")
        assert await result(one, "r") == ["the client's"] * 3


async def test_a_body_keeps_its_context_whether_its_step_had_to_wait_or_not() -> None:
    app, digits, called = App("contexts"), ContextVar("digits", default=28), asyncio.Event()

    @app.agent
    async def step(n: int) -> int:
        called.set()
        return n

    @app.agent
    async def slow(n: int) -> int:
        await asyncio.Event().wait()
        return n

    @app.workflow()
    async def ask(run: Run) -> list[int]:
        handle = run.start(slow, 1)
        await run.call(step, 1)
        digits.set(6)
        await run.wait_for("go")  # mail is read before the step
        handle.cancel()
        return [digits.get()]

    @app.workflow(budget=Budget(calls=1))
    async def ask_once(run: Run) -> list[int]:
        handles = [run.start(step, n) for n in range(2)]
        await run.first(handles[1])  # refused in the first step
        digits.set(digits.get() - 22)
        await run.gather(*handles, return_errors=True)
        return [digits.get()]

    async with coordinator(app, MemoryDatabase()) as one:
        await start(one, "ask")
        await called.wait()
        await CoordinatorRuns(one).signal("r", "go", b"1", key="k")
        assert await result(one, "r") == [6]
        await start(one, "ask_once", run="s")
        assert await result(one, "s") == [6]


async def test_a_run_that_is_dropped_before_its_task_began_makes_no_attempt(shop: Shop) -> None:
    """Its creation is on its way all the same."""
    async with coordinator(shop.app, MemoryDatabase()) as one:
        starting = asyncio.create_task(start(one, "ask", b'["clerk", 1]'))
        while one.roster.driver("r") is None:
            await asyncio.sleep(0)
        driver = one.roster.driver("r")
        assert driver is not None
        assert driver._sent is not None
        assert driver._waiter is None, "its task has begun"
        await one.roster.drop()
        await asyncio.gather(starting, return_exceptions=True)
        await until(lambda: one.stats.appended_runs == 1)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not driver.durable
        assert not shop.calls


async def test_a_step_that_became_due_again_waits_until_the_last_one_is_answered() -> None:
    """As when a call is given up, and its place is at once another's of the same run."""
    app, begun = App("due"), asyncio.Event()

    @app.agent
    async def step(n: int) -> int:
        begun.set()
        await asyncio.Event().wait()
        return n

    @app.workflow()
    async def ask(run: Run) -> int:
        return int(await run.call(step, 1))

    async with coordinator(app, MemoryDatabase()) as one:
        await start(one, "ask")
        await begun.wait()
        driver = one.roster.driver("r")
        assert driver is not None
        driver.post("step#1", 1, b"1", None)  # its turn is on its way
        driver._turn()
        assert driver._sent is not None
        driver.poke()
        assert await result(one, "r") == 1
        for _ in range(10):  # of the loop's turns, for a second append of the same
            await asyncio.sleep(0)
        assert one.stats.appended_runs == 2
