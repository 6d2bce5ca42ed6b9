"""What an enemy of the coordinator would try: drains at the wrong moment, agents that misspeak, budgets that are given
twice, code that changes under an open run."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from pointsman import AgentError, App, Budget, CallError, Context, Retry, Run, StartRun, Workflow
from pointsman.agents.agent import Agent
from pointsman.agents.card import HTTP
from pointsman.coordinator.driving.attempt import Attempt
from pointsman.coordinator.service import Coordinator
from pointsman.coordinator.verbs.runs import CoordinatorRuns
from pointsman.kernel import events as ev
from pointsman.kernel.errors import InvalidValue
from pointsman.kernel.execution import Execution
from pointsman.kernel.policy.breaker import Breaker
from pointsman.stores.memory.database import MemoryDatabase
from pointsman.testing.replay import replay_prefixes
from tests.support.lab import Lab
from tests.unit.coordinator.test_service import coordinator, result, start, types, until

ONCE = Retry(attempts=1)
REFUSED = ev.Failure("refused", "no", retryable=False)


async def ended(service: Coordinator, run: str = "r", seconds: float = 3) -> str:
    return (await CoordinatorRuns(service).wait(run, timeout_s=seconds)).head.status


# -- what a drain may lose -----------------------------------------------------------------------------------------


class Presses:
    """Two agents, of which the second must not be called twice; the first waits until it is let go."""

    def __init__(self, **second: Any) -> None:
        self.app = App("presses")
        self.calls: Counter[str] = Counter()
        self.go = asyncio.Event()

        @self.app.agent(retry=ONCE)
        async def first(n: int) -> int:
            self.calls["first"] += 1
            await self.go.wait()
            return n

        @self.app.agent(retry=ONCE, idempotent=False, **second)
        async def second_(n: int) -> int:
            self.calls[f"second {n}"] += 1
            await self.go.wait()
            return n

        @self.app.workflow()
        async def both(run: Run) -> int:
            return int(await run.call(first, 1)) + int(await run.call(second_, 1))

        @self.app.workflow()
        async def one(run: Run, n: int) -> int:
            return int(await run.call(second_, n))

    async def drain(self, service: Coordinator) -> None:
        """Let go what is under way once it drains."""
        stopping = asyncio.create_task(service.stop())
        await until(lambda: service.roster.crew is not None and service.roster.crew.is_draining)
        self.go.set()
        await stopping


async def test_a_drain_between_two_steps_loses_no_call_that_must_not_be_repeated() -> None:
    presses, database = Presses(), MemoryDatabase()
    async with coordinator(presses.app, database, "two") as two:
        async with coordinator(presses.app, database, drain_s=5) as one:
            await start(one, "both")
            await until(lambda: presses.calls["first"] == 1)
            await presses.drain(one)
        assert await result(two, "r") == 2
        assert presses.calls["second 1"] == 1


async def test_a_drain_loses_nothing_that_waits_for_a_slot() -> None:
    presses, database = Presses(concurrency=1), MemoryDatabase()
    async with coordinator(presses.app, database, "two") as two:
        async with coordinator(presses.app, database, drain_s=5) as one:
            for n in range(100):
                await start(one, "one", str(n).encode(), run=f"r{n}")
            await until(lambda: sum(presses.calls.values()) == 1)
            await presses.drain(one)
        assert [await result(two, f"r{n}") for n in range(100)] == list(range(100))
        assert set(presses.calls.values()) == {1}


# -- permits -------------------------------------------------------------------------------------------------------


def one_at_a_time(misbehave: Callable[[Context], None]) -> App:
    """An agent with one slot, whose first attempt misbehaves."""
    app, first = App("one"), [True]

    @app.agent(retry=ONCE, concurrency=1, timeout=0.2)
    async def step(n: int, ctx: Context) -> int:
        if first:
            first.clear()
            misbehave(ctx)
        return n

    @app.workflow()
    async def ask(run: Run, n: int) -> object:
        try:
            return await run.call(step, n)
        except CallError as error:
            return error.kind

    return app


def fail(**said: Any) -> Callable[[Context], None]:
    def misbehave(ctx: Context) -> None:
        raise AgentError("x", **said)

    return misbehave


ODD_ERRORS = {"retry_after": fail(retry_after="5"), "kind": fail(kind=["a"])}


@pytest.mark.parametrize("name", ODD_ERRORS)
async def test_an_odd_error_of_an_agent_gives_its_slot_back(name: str) -> None:
    async with coordinator(one_at_a_time(ODD_ERRORS[name]), MemoryDatabase()) as one:
        await start(one, "ask", b"1", run="odd")
        await result(one, "odd")
        await start(one, "ask", b"2")
        assert await ended(one) == "completed"


async def test_an_attempt_that_is_abandoned_before_its_first_step_gives_its_slot_back() -> None:
    async with coordinator(one_at_a_time(lambda ctx: None), MemoryDatabase(), drain_s=0.1) as one:
        crew = one.roster.crew
        assert crew is not None
        dispatch = crew.dispatcher.dispatch
        abandoned: list[Attempt] = []

        def abandon_first(attempt: Attempt, *more: Any) -> None:
            dispatch(attempt, *more)
            if not abandoned:
                abandoned.append(attempt)
                attempt.abandon()

        crew.dispatcher.dispatch = abandon_first  # type: ignore[method-assign]
        await start(one, "ask", b"1", run="lost")
        await until(lambda: bool(abandoned))
        await start(one, "ask", b"2")
        assert await ended(one) == "completed"
        assert crew.dispatcher.active == 0


async def test_an_attempt_that_its_runs_budget_refuses_gives_its_slot_back() -> None:
    async with coordinator(one_at_a_time(lambda ctx: None), MemoryDatabase()) as one:
        await CoordinatorRuns(one).start(StartRun("ask", b"1", id="poor", budget=Budget(calls=0)))
        assert await result(one, "poor") == "budget_exceeded"
        await start(one, "ask", b"2")
        assert await ended(one) == "completed"


async def test_an_attempt_that_is_cancelled_before_it_is_made_gives_its_slot_back() -> None:
    presses = Presses(concurrency=1)
    async with coordinator(presses.app, MemoryDatabase()) as one:
        crew = one.roster.crew
        assert crew is not None
        await start(one, "one", b"1", run="before")
        await until(lambda: presses.calls["second 1"] == 1)
        await start(one, "one", b"2", run="lost")
        driver = one.roster.driver("lost")
        assert driver is not None
        is_trusted, crew.lease.is_trusted = crew.lease.is_trusted, lambda: False  # type: ignore[method-assign]
        presses.go.set()
        await until(lambda: bool(driver._attempts._admission.ready))
        await CoordinatorRuns(one).cancel("lost")
        assert await ended(one, "lost") == "cancelled"
        crew.lease.is_trusted = is_trusted  # type: ignore[method-assign]
        await start(one, "one", b"3")
        assert await ended(one) == "completed"
        assert not presses.calls["second 2"]


async def test_of_calls_that_waited_too_long_one_may_be_cancelled_for_the_other() -> None:
    app, go = App("two"), asyncio.Event()
    begun: list[int] = []

    @app.agent(retry=ONCE, concurrency=1, hold=0.05)
    async def press(n: int) -> int:
        begun.append(n)
        await go.wait()
        return n

    @app.workflow()
    async def one(run: Run) -> int:
        return int(await run.call(press, 0))

    @app.workflow()
    async def either(run: Run) -> str:
        first, second = run.start(press, 1), run.start(press, 2)
        try:
            return str(await first)
        except CallError as error:
            second.cancel()
            return error.kind

    async with coordinator(app, MemoryDatabase()) as service:
        await start(service, "one", run="before")
        await until(lambda: begun == [0])
        await start(service, "either", run="late")
        assert await ended(service, "late") == "completed"
        assert await result(service, "late") == "busy"
        go.set()
        assert await ended(service, "before") == "completed"


# -- events that can't be read again ---------------------------------------------------------------------------------


ODD_WORDS: dict[str, Callable[[Context], None]] = {
    "fraction of a token": lambda ctx: ctx.spend(tokens=1.5),  # type: ignore[arg-type]
    "no number of tokens": lambda ctx: ctx.spend(tokens=float("nan")),  # type: ignore[arg-type]
    "not a bool": fail(retryable="yes"),
}


@pytest.mark.parametrize("name", ODD_WORDS)
async def test_what_an_agent_says_never_makes_a_log_that_cannot_be_read(name: str) -> None:
    app = one_at_a_time(ODD_WORDS[name])
    async with coordinator(app, MemoryDatabase()) as one:
        await start(one, "ask", b"1")
        await result(one, "r")
        replay_prefixes(app, "r", await one.store.log.read("r"))


ODD_OPTIONS: dict[str, dict[str, Any]] = {
    "fraction": {"priority": 1.5},
    "bool": {"priority": True},
    "NUL": {"person": "a\x00b"},
    "surrogate": {"person": "a\ud800b"},
    "NaN": {"default": float("nan")},
    "too large": {"default": "x" * 20_000_000},
    "object": {"default": object()},
}


@pytest.mark.parametrize(
    "name",
    ODD_OPTIONS,
)
async def test_an_odd_option_of_a_call_is_refused_in_the_body(name: str) -> None:
    app = App("odd")

    @app.agent(retry=ONCE)
    async def step(n: int) -> int:
        raise AgentError("x", kind="refused")

    @app.workflow()
    async def ask(run: Run) -> object:
        try:
            return await run.call(step, 1, **ODD_OPTIONS[name])
        except InvalidValue:
            return "refused"

    async with coordinator(app, MemoryDatabase()) as one:
        await start(one, "ask")
        assert await ended(one, seconds=1) in ("completed", "failed")
        rows = await one.store.log.read("r")
        assert "CallRequested" not in [row.type for row in rows]
        replay_prefixes(app, "r", rows)


# -- budgets ---------------------------------------------------------------------------------------------------------


class Family:
    """A run, its children, and theirs."""

    def __init__(self) -> None:
        self.app = App("family")
        app = self.app

        @app.agent(retry=ONCE)
        async def step(n: int) -> int:
            return n

        async def work(run: Run, wanted: int) -> int:
            done = 0
            for n in range(wanted):
                try:
                    done += await run.call(step, n) is not None
                except CallError:
                    break
            return done

        @app.workflow()
        async def leaf(run: Run, wanted: int) -> int:
            return await work(run, wanted)

        @app.workflow(budget=Budget(calls=2))
        async def modest(run: Run) -> int:
            return await work(run, 5)

        @app.workflow()
        async def middle(run: Run) -> int:
            return sum(await run.gather(*(run.start(leaf, 20) for _ in range(4))))

        @app.workflow()
        async def top(run: Run) -> int:
            return int(await run.call(middle, budget=Budget(calls=8)))

        @app.workflow()
        async def generous(run: Run) -> list[object]:
            one = run.start(leaf, 1, budget=Budget(calls=8))
            try:
                await run.start(leaf, 1, key="second", budget=Budget(calls=8))
            except InvalidValue:
                return [await one, "refused"]
            return ["both"]

        @app.workflow()
        async def trusting(run: Run) -> int:
            return int(await run.call(modest))


async def test_the_children_of_a_child_get_no_more_than_it_has() -> None:
    async with coordinator(Family().app, MemoryDatabase()) as one:
        await CoordinatorRuns(one).start(StartRun("top", b"null", id="r", budget=Budget(calls=8)))
        done = await result(one, "r")
        assert isinstance(done, int)
        assert done <= 8


async def test_a_budget_that_was_refused_to_a_child_is_refused_in_replay() -> None:
    family = Family()
    async with coordinator(family.app, MemoryDatabase()) as one:
        await CoordinatorRuns(one).start(StartRun("generous", b"null", id="r", budget=Budget(calls=10)))
        assert await result(one, "r") == [1, "refused"]
        replay_prefixes(family.app, "r", await one.store.log.read("r"))


async def test_the_budget_that_a_workflow_declares_is_its_childrens_too() -> None:
    async with coordinator(Family().app, MemoryDatabase()) as one:
        await start(one, "modest", run="alone")
        assert await result(one, "alone") == 2
        await start(one, "trusting")
        assert await result(one, "r") == 2


async def test_wall_time_also_ends_for_a_call_that_is_held() -> None:
    async with coordinator(Family().app, MemoryDatabase()) as one:
        await one.agents.disable("step")
        await CoordinatorRuns(one).start(StartRun("leaf", b"1", id="r", budget=Budget(seconds=0.2)))
        assert await ended(one) == "completed"


# -- code and cards that change ----------------------------------------------------------------------------------------


def asking(default: dict[str, Any]) -> tuple[App, Workflow]:
    app = App("asking")

    @app.agent(retry=ONCE)
    async def step(n: int) -> str:
        return "done"

    @app.workflow()
    async def ask(run: Run) -> object:
        try:
            got = await run.call(step, 1, person="well?", **default)
        except CallError as error:
            got = error.kind
        await run.wait_for("go")
        return got

    return app, ask


@pytest.mark.parametrize("then", [{"default": "two"}, {}])
def test_the_default_that_a_body_has_seen_stays(then: dict[str, Any]) -> None:
    app, ask = asking({"default": "one"})
    lab = Lab(app, ask, answer=lambda pending: REFUSED, people=[REFUSED]).run()
    assert "HumanTaskAnswered" in lab.types
    app, ask = asking(then)
    execution = Execution("run-1", ask, app.directory)
    execution.replay(lab.log)
    go = ev.SignalReceived(name="go", key="k", mail=9, payload=msgspec.Raw(b"null"))
    execution.mailed(go, lab.now)
    assert isinstance(execution.ending, ev.RunCompleted)
    assert bytes(execution.ending.output) == b'"one"'


# -- agents behind HTTP ------------------------------------------------------------------------------------------------


class Echo:
    """A transport that gives back what it is given."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    async def call(self, agent: Agent, context: Context, data: bytes) -> bytes:
        self.got.append(data)
        return data

    async def close(self) -> None: ...


def remote_app(**options: Any) -> App:
    app = App("remote")

    @app.workflow()
    async def ask(run: Run, text: str) -> object:
        try:
            got = await run.call("clerk", text, **options)
        except CallError as error:
            return error.kind
        await run.wait_for("go")
        return got

    return app


def card(**fields: Any) -> bytes:
    return msgspec.json.encode(
        {"name": "clerk", "url": "https://clerk.example.org/", "retry": {"attempts": 1}, **fields}
    )


async def test_the_input_of_an_agent_behind_http_is_checked_before_it_is_called() -> None:
    async with coordinator(remote_app(), MemoryDatabase()) as one:
        await one.agents.register(card(input_schema={"type": "integer"}), ttl_s=60)
        echo, crew = Echo(), one.roster.crew
        assert crew is not None
        crew.dispatcher._transports = {HTTP: echo}
        await start(one, "ask", b'"no number"')
        await until(lambda: bool(echo.got) or one.roster.driver("r") is None)
        assert not echo.got
        assert await result(one, "r") == "invalid_input"


async def test_an_agent_that_describes_itself_anew_does_not_stop_the_runs_that_name_a_default() -> None:
    app, database = remote_app(default="none"), MemoryDatabase()
    async with coordinator(app, database) as one:
        await one.agents.register(card(output_schema={"type": "string"}), ttl_s=60)
        crew = one.roster.crew
        assert crew is not None
        crew.dispatcher._transports = {HTTP: Echo()}
        await start(one, "ask", b'"hello"')
        while "SignalAwaited" not in await types(one):
            await asyncio.sleep(0)
        await one.agents.register(card(output_schema={"type": "integer"}), ttl_s=60)
    async with coordinator(app, database, "two") as two:
        await CoordinatorRuns(two).signal("r", "go", b"null", key="k")
        assert await result(two, "r") == "hello"


# -- storms and leaks --------------------------------------------------------------------------------------------------


async def test_calls_that_fail_together_are_not_all_retried_together() -> None:
    app, retries = App("storm"), [0]

    @app.agent(retry=Retry(attempts=2, base=0.2), breaker=Breaker(calls_min=10_000), hold=1)
    async def step(n: int, ctx: Context) -> int:
        retries[0] += ctx.attempt > 1
        raise AgentError("down", kind="overloaded")

    @app.workflow()
    async def ask(run: Run) -> int:
        return len(await run.gather(*(run.start(step, n) for n in range(300)), return_errors=True))

    async with coordinator(app, MemoryDatabase()) as one:
        await start(one, "ask")
        assert await result(one, "r") == 300
        assert retries[0] <= 70, "a fifth of the first tries, and a few"


async def test_a_retry_that_is_not_allowed_when_it_is_due_goes_to_the_next_agent_at_once() -> None:
    app, called = App("storm"), {"step": 0, "other": 0}

    @app.agent(retry=Retry(attempts=2, base=0.2), breaker=Breaker(calls_min=10_000), hold=60, fallback=["other"])
    async def step(n: int) -> int:
        called["step"] += 1
        raise AgentError("down", kind="overloaded")

    @app.agent
    async def other(n: int) -> int:
        called["other"] += 1
        return n

    @app.workflow()
    async def ask(run: Run) -> int:
        return sum(await run.gather(*(run.start(step, n) for n in range(200))))

    async with coordinator(app, MemoryDatabase()) as one:
        await start(one, "ask")
        async with asyncio.timeout(5):  # none waits for the retry budget
            assert await result(one, "r") == sum(range(200))
    assert called["step"] <= 260
    assert called["other"] == 200


async def test_a_call_that_waits_for_a_slot_goes_to_the_next_agent_when_its_agent_is_switched_off() -> None:
    app, begun, free = App("desk"), asyncio.Event(), asyncio.Event()

    @app.agent(retry=ONCE, concurrency=1, hold=60, fallback=["other"])
    async def step(n: int) -> int:
        begun.set()
        await free.wait()
        return n

    @app.agent
    async def other(n: int) -> int:
        return 10 * n

    @app.workflow()
    async def ask(run: Run) -> list[int]:
        return list(await run.gather(*(run.start(step, n) for n in range(1, 4))))

    async with coordinator(app, MemoryDatabase()) as one:
        await start(one, "ask")
        await begun.wait()
        await one.agents.disable("step")
        async with asyncio.timeout(5):  # and not its hold
            while "CallReassigned" not in await types(one):
                await asyncio.sleep(0)
            free.set()
            assert await result(one, "r") == [1, 20, 30]


async def test_calls_that_waited_leave_nothing_behind() -> None:
    app = App("busy")

    @app.agent(retry=ONCE, concurrency=5, hold=86_400)
    async def step(n: int) -> int:
        return n

    @app.workflow()
    async def ask(run: Run) -> int:
        return len(await run.gather(*(run.start(step, n) for n in range(50))))

    async with coordinator(app, MemoryDatabase()) as one:
        for n in range(10):
            await start(one, "ask", run=f"r{n}")
        for n in range(10):
            assert await result(one, f"r{n}") == 50
        crew = one.roster.crew
        assert crew is not None
        assert len(crew.timers._heap) <= 10


async def test_an_attempt_that_ended_keeps_nothing_of_its_run() -> None:
    app, quick, slow = App("kept"), asyncio.Event(), asyncio.Event()

    @app.agent(retry=ONCE)
    async def step(n: int) -> int:
        await (quick if n else slow).wait()
        return n

    @app.workflow()
    async def ask(run: Run, n: int) -> int:
        return int(await run.call(step, n))

    async with coordinator(app, MemoryDatabase()) as one:
        for n in range(5):
            await start(one, "ask", str(n).encode(), run=f"r{n}")
        drivers = [weakref.ref(one.roster.driver(f"r{n}") or one) for n in range(1, 5)]
        quick.set()
        for n in range(1, 5):
            assert await result(one, f"r{n}") == n
        gc.collect()
        kept = sum(driver() is not None for driver in drivers)
        slow.set()
        assert not kept
