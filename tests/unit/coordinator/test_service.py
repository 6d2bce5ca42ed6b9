"""The coordinator as a service, on the memory store: whole runs, several coordinators, deaths, drains, changes
of code."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from pointsman import AgentError, App, CallError, Context, CoordinatorSettings, Retry, Run, StartRun
from pointsman.coordinator.owning.trials import trial_sizes
from pointsman.coordinator.service import Coordinator
from pointsman.coordinator.verbs import runs as verbs
from pointsman.coordinator.verbs.runs import CoordinatorRuns
from pointsman.kernel.errors import (
    Draining,
    DuplicateMail,
    ForeignAwaitable,
    InvalidInput,
    InvalidValue,
    NotQuarantined,
    RunConflict,
    RunEnded,
    StoreUnavailable,
    UnknownRun,
    UnknownWorkflow,
)
from pointsman.kernel.events import Recorded
from pointsman.ports.event_log import Append, AppendResult, RunFilter
from pointsman.ports.mailbox import Mail
from pointsman.ports.runs import EventView, Redrive
from pointsman.stores.memory.database import MemoryDatabase
from pointsman.stores.memory.ownership import MemoryOwnership
from pointsman.stores.memory.store import MemoryStore
from pointsman.testing.sim.clocks import SimClock
from pointsman.testing.sim.loop import SimLoop


class Desk:
    """An app whose agents wait until the test lets them go, and remember who called."""

    def __init__(self) -> None:
        self.app = App("desk", generalist="echo")
        self.calls: list[Context] = []
        self.go = asyncio.Event()
        self.called = asyncio.Event()

        @self.app.agent(timeout=20)
        async def echo(text: str, ctx: Context) -> str:
            self.calls.append(ctx)
            self.called.set()
            await self.go.wait()
            return text

        @self.app.agent(timeout=0.1, retry=Retry(attempts=3, base=0.01))
        async def moody(n: int, ctx: Context) -> int:
            self.calls.append(ctx)
            if ctx.attempt == 1:
                raise AgentError("busy", kind="rate_limited", retry_after=0.02)
            if ctx.attempt == 2:
                await asyncio.sleep(60)
            return n

        @self.app.agent(retry=Retry(attempts=1))
        def liar(n: int) -> int:
            return "not a number"  # type: ignore[return-value]

        @self.app.workflow()
        async def ask(run: Run, text: str) -> str:
            return f"{await run.call(echo, text)} {await run.call(echo, 'again')}"

        @self.app.workflow()
        async def patient(run: Run) -> int:
            return int(await run.call(moody, 4))

        @self.app.workflow()
        async def deceived(run: Run) -> int:
            return int(await run.call(liar, 4))

        @self.app.workflow()
        async def wait(run: Run, seconds: float) -> str:
            await run.sleep(seconds)
            return str(await run.wait_for("go"))

        @self.app.workflow()
        async def family(run: Run, n: int) -> list[str]:
            return await run.gather(*(run.start(ask, str(i)) for i in range(n)))


@asynccontextmanager
async def coordinator(
    app: App, database: MemoryDatabase, name: str = "one", **options: object
) -> AsyncIterator[Coordinator]:
    given: dict[str, Any] = {"lease_ttl_ms": 1_000, "claim_poll_ms": 20, "mail_poll_ms": 20, **options}
    settings = CoordinatorSettings(name=name, **given)
    service = app.coordinator(MemoryStore(database), settings)
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def result(service: Coordinator, run: str) -> object:
    view = await CoordinatorRuns(service).wait(run, timeout_s=10)
    assert view.head.status == "completed", (view.head.status, view.failure)
    assert view.output is not None
    return msgspec.json.decode(view.output)


async def start(service: Coordinator, workflow: str, data: bytes = b"null", run: str = "r") -> bool:
    return (await CoordinatorRuns(service).start(StartRun(workflow, data, id=run))).created


async def types(service: Coordinator, run: str = "r") -> list[str]:
    return [event.type for event in await CoordinatorRuns(service).events(run)]


async def test_starting_twice_is_one_run() -> None:
    desk, database = Desk(), MemoryDatabase()
    async with coordinator(desk.app, database) as one, coordinator(desk.app, database, "two") as two:
        started = await asyncio.gather(*(start(service, "ask", b'"a"') for service in (one, two, one, two)))
        assert sorted(started) == [False, False, False, True]
        with pytest.raises(RunConflict):
            await start(one, "ask", b'"b"')
        with pytest.raises(UnknownWorkflow, match="ask v1, deceived v1"):
            await start(one, "asc")
        with pytest.raises(InvalidInput):
            await start(one, "ask", b"{}", run="other")
        with pytest.raises(UnknownRun):
            await CoordinatorRuns(one).get("other")
        desk.go.set()
        assert await result(one, "r") == await result(two, "r") == "a again"
    assert len({call.idempotency_key for call in desk.calls}) == len(desk.calls) == 2


async def test_failed_attempts_are_retried_under_one_key() -> None:
    desk = Desk()
    async with coordinator(desk.app, MemoryDatabase()) as one:
        await start(one, "patient")
        assert await result(one, "r") == 4
        kinds = [e.data for e in await CoordinatorRuns(one).events("r") if e.type == "AttemptFailed"]
    assert [msgspec.json.decode(kind)["failure"]["kind"] for kind in kinds] == ["rate_limited", "timeout"]
    assert [call.attempt for call in desk.calls] == [1, 2, 3]
    assert {call.idempotency_key for call in desk.calls} == {"r/1/moody#1"}


async def test_an_output_that_does_not_fit_fails_the_call() -> None:
    async with coordinator(Desk().app, MemoryDatabase()) as one:
        await start(one, "deceived")
        view = await CoordinatorRuns(one).wait("r", timeout_s=10)
    assert view.head.status == "failed"
    assert view.failure is not None
    assert view.failure.kind == "invalid_output"


async def test_a_run_goes_on_where_its_dead_coordinator_left_it() -> None:
    desk, database = Desk(), MemoryDatabase()
    async with coordinator(desk.app, database, "two") as two:
        dying = desk.app.coordinator(MemoryStore(database), CoordinatorSettings(name="one", lease_ttl_ms=1_000))
        await dying.start()
        await start(dying, "ask", b'"a"')
        await until(lambda: len(desk.calls) == 1)
        desk.go.set()
        await until(lambda: len(desk.calls) == 2)
        desk.go.clear()
        await asyncio.sleep(0)
        await kill(dying)
        desk.go.set()
        assert await result(two, "r") == "a again"
        assert two.stats.runs_taken_over <= 1
    keys = [call.idempotency_key for call in desk.calls]
    assert keys.count("r/1/echo#1") == 1


async def test_a_run_claimed_while_it_is_started_again_is_driven() -> None:
    """A client's retry is to create the run on the coordinator that just then takes it over."""
    desk, database = Desk(), MemoryDatabase()
    async with coordinator(desk.app, database, "two", sweep_ms=60_000) as two:
        dying = desk.app.coordinator(MemoryStore(database), CoordinatorSettings(name="one", lease_ttl_ms=1_000))
        await dying.start()
        await start(dying, "ask", b'"a"')
        await until(lambda: len(desk.calls) == 1)
        append, answered = two.store.log.append, asyncio.Event()

        async def slow(batch: Sequence[Append], *, lane: int = 0) -> list[AppendResult]:
            if any(item.create is not None for item in batch):
                await answered.wait()
            return await append(batch, lane=lane)

        two.store.log.append = slow  # type: ignore[method-assign]
        again = asyncio.create_task(start(two, "ask", b'"a"'))
        await until(lambda: two.roster.driver("r") is not None)
        await kill(dying)
        await until(lambda: two.stats.runs_taken_over == 1)
        answered.set()
        assert await again is False
        desk.go.set()
        assert await result(two, "r") == "a again"


async def kill(service: Coordinator) -> None:
    """What SIGKILL leaves of a coordinator: nothing is said to anybody, and its session's lock is free."""
    crew = service.roster.crew
    assert crew is not None
    for part in (service._lease_keeper, *service.claims._tasks, *service.roster._tasks.values()):
        if part is not None:
            part.cancel()
    for part in (*crew.recorder._tasks, crew.dispatcher._sweeper, crew.timers._task):
        if part is not None:
            part.cancel()
    await service.watcher.stop()
    await service.store.close()


async def test_leaving_hands_over_and_finishes_what_is_under_way() -> None:
    desk, database = Desk(), MemoryDatabase()
    async with coordinator(desk.app, database, "two") as two:
        async with coordinator(desk.app, database) as one:
            await start(one, "ask", b'"a"')
            await desk.called.wait()
            leaving = asyncio.create_task(one.stop())
            await until(lambda: one.is_draining)
            desk.go.set()
            await leaving
        assert await result(two, "r") == "a again"
    assert [call.idempotency_key for call in desk.calls] == ["r/1/echo#1", "r/1/echo#2"]


async def test_waiting_runs_are_parked_and_signals_bring_them_back() -> None:
    desk, database = Desk(), MemoryDatabase()
    async with coordinator(desk.app, database) as one, coordinator(desk.app, database, "two") as two:
        await start(one, "wait", b"0")
        await until(lambda: database.open_runs["r"].status == "parked")
        assert database.open_runs["r"].owner is None
        verbs = CoordinatorRuns(two)
        assert not (await verbs.signal("r", "go", b"1", key="k")).repeated
        assert (await verbs.signal("r", "go", b"1", key="k")).repeated
        with pytest.raises(DuplicateMail):
            await verbs.signal("r", "go", b"2", key="k")
        assert await result(one, "r") == "1"
        with pytest.raises(RunEnded, match=r"run r has ended \(completed\) .* is not recorded"):
            await verbs.signal("r", "go", b"3", key="late")
        with pytest.raises(RunEnded, match="completed"):
            await verbs.cancel("r")
        assert (await verbs.signal("r", "go", b"1", key="k")).repeated, "what was recorded is still known"
    assert (await types_of(database, "r")).count("SignalReceived") == 1


async def types_of(database: MemoryDatabase, run: str) -> list[str]:
    store = MemoryStore(database)
    await store.open()
    found = [row.type for row in await store.log.read(run)]
    await store.close()
    return found


async def test_children_run_anywhere_and_answer_their_parent() -> None:
    desk, database = Desk(), MemoryDatabase()
    desk.go.set()
    async with coordinator(desk.app, database) as one, coordinator(desk.app, database, "two"):
        await start(one, "family", b"5")
        assert await result(one, "r") == [f"{i} again" for i in range(5)]
        heads, _ = await CoordinatorRuns(one).list(RunFilter(), limit=50)
    assert sorted(head.parent or "" for head in heads) == ["", *["r"] * 5]


async def test_a_cancelled_parent_takes_its_children_along() -> None:
    desk, database = Desk(), MemoryDatabase()
    async with coordinator(desk.app, database) as one:
        await start(one, "family", b"2")
        await desk.called.wait()
        await CoordinatorRuns(one).cancel("r", reason="enough")
        assert (await CoordinatorRuns(one).cancel("r")).repeated
        await until(lambda: not database.open_runs)
        heads, _ = await CoordinatorRuns(one).list(RunFilter(), limit=50)
    assert {head.status for head in heads} == {"cancelled"}


async def test_changed_code_stops_a_run_and_fitting_code_lets_it_go_on() -> None:
    database = MemoryDatabase()

    def deployed(asks: str, build: str) -> App:
        app = App("changing")

        @app.agent
        async def echo(text: str) -> str:
            return text

        async def body(run: Run) -> str:
            await run.wait_for("go")
            return str(await run.call(echo, asks, key=asks))

        workflow = app.workflow(name="body")(body)
        app._workflows["body", 1] = type(workflow)("body", 1, workflow.function, workflow.signature, build)
        return app

    async def first_body(run: Run) -> str:
        await run.sleep(0)
        await run.wait_for("go")
        return "never"

    async with coordinator(deployed("a", "build-a"), database) as one:
        await start(one, "body")
        await until(lambda: database.open_runs["r"].status == "parked")
    other = App("changing")
    workflow = other.workflow(name="body")(first_body)
    other._workflows["body", 1] = type(workflow)("body", 1, workflow.function, workflow.signature, "build-b")
    async with coordinator(other, database) as two:
        await CoordinatorRuns(two).signal("r", "go", b"1", key="k")
        await until(lambda: database.open_runs["r"].status == "stopped")
        view = await CoordinatorRuns(two).get("r")
        assert view.failure is not None
        assert view.failure.kind == "non_deterministic_workflow"
        assert "SignalAwaited" in view.failure.message
    async with coordinator(deployed("a", "build-c"), database, "three") as three:
        assert await result(three, "r") == "a"


async def test_a_run_whose_version_no_living_coordinator_has_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    database = MemoryDatabase()

    def deployed(version: int) -> App:
        app = App("shop")

        @app.workflow(name="order", version=version)
        async def order(run: Run) -> str:
            return str(await run.wait_for("go"))

        return app

    async with coordinator(deployed(1), database) as old:
        await start(old, "order")
        await until(lambda: database.open_runs["r"].status == "parked")
    async with coordinator(deployed(2), database, "new") as new:
        runs = CoordinatorRuns(new)
        for view in (await runs.get("r"), await runs.wait("r", timeout_s=0)):
            assert view.head.status == "parked"
            assert view.stranded.startswith("no living coordinator has order v1: deploy that version")
        with monkeypatch.context() as patched:  # nobody is asked about a run that this coordinator can drive itself
            patched.setattr(new.store.liveness, "members", None)
            await start(new, "order", run="s")
            await until(lambda: database.open_runs["s"].status == "parked")
            assert (await runs.get("s")).stranded == ""
        async with coordinator(deployed(1), database, "old"):
            assert (await runs.get("r")).stranded == ""
        await runs.cancel("r")
        async with coordinator(deployed(1), database, "old"):
            assert (await runs.wait("r", timeout_s=10)).head.status == "cancelled"
        assert (await runs.get("r")).stranded == ""


async def test_following_sees_every_event_once_on_any_coordinator() -> None:
    desk, database = Desk(), MemoryDatabase()
    async with coordinator(desk.app, database) as one, coordinator(desk.app, database, "two", watch_poll_ms=10) as two:
        await start(one, "ask", b'"a"')

        async def follow(service: Coordinator, after: int) -> list[int]:
            return [e.sequence async for batch in CoordinatorRuns(service).follow("r", after=after) for e in batch]

        followers = [asyncio.create_task(follow(service, after)) for service in (one, two) for after in (0, 2)]
        await desk.called.wait()
        desk.go.set()
        assert await asyncio.gather(*followers) == [[1, 2, 3, 4, 5, 6], [3, 4, 5, 6]] * 2


async def test_a_run_is_as_old_as_its_start_was_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long its append was on the way: whoever lists it sees what whoever started it was told."""
    desk, database = Desk(), MemoryDatabase()
    async with coordinator(desk.app, database) as one:
        append = one.store.log.append

        async def late(batch: Sequence[Append], *, lane: int = 0) -> list[AppendResult]:
            began = database.clock.now()
            while database.clock.now() == began:
                await asyncio.sleep(0)
            return await append(batch, lane=lane)

        monkeypatch.setattr(one.store.log, "append", late)
        told = await CoordinatorRuns(one).start(StartRun("ask", b'"a"', id="r"))
        (listed,), _ = await CoordinatorRuns(one).list(RunFilter(), limit=10)
        assert told.view.head.created_at == listed.created_at
        desk.go.set()


async def test_nothing_is_dispatched_on_a_lease_that_may_have_lapsed(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    async with coordinator(desk.app, MemoryDatabase()) as one:
        await start(one, "ask", b'"a"')
        await desk.called.wait()
        assert one.roster.crew is not None
        lease_type = type(one.roster.crew.lease)
        with monkeypatch.context() as patch:
            patch.setattr(lease_type, "is_trusted", lambda self: False)
            desk.go.set()
            async with asyncio.timeout(10):
                while len(await types(one)) < 4:
                    await asyncio.sleep(0)
            for _ in range(100):  # many turns of the loop: a call that went out would have been seen
                await asyncio.sleep(0)
            assert len(desk.calls) == 1
        assert await result(one, "r") == "a again"
    assert len(desk.calls) == 2


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseExceptionGroup("group", [SystemExit()]),
     ValueError("\ud800 and \x00"), AgentError("x", kind="\udfff", retryable=False),
     AgentError("later", retry_after=float("inf")), AgentError("later", retry_after=float("nan")), StopIteration()],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
@pytest.mark.parametrize("in_thread", [False, True], ids=["coroutine", "thread"])
async def test_whatever_an_agent_raises_is_its_attempts_failure(
    error: BaseException, in_thread: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app = App("hostile")

    def raising(ctx: Context) -> int:
        if ctx.attempt == 1:
            raise error
        return 1

    async def in_the_loop(ctx: Context) -> int:
        return raising(ctx)

    hostile = app.agent(name="hostile", retry=Retry(attempts=2, base=0))(raising if in_thread else in_the_loop)

    @app.workflow()
    async def body(run: Run) -> str:
        try:
            return str(await run.call(hostile))
        except CallError as failed:
            return failed.kind

    async with coordinator(app, MemoryDatabase()) as one:
        await start(one, "body")
        async with asyncio.timeout(10):
            while len(await types(one)) < 3:
                await asyncio.sleep(0)
        events = await CoordinatorRuns(one).events("r")
    assert events[2].type in ("AttemptFailed", "CallFailed")
    caplog.text.encode()  # what is said of it, every log can take


async def test_the_process_s_log_has_the_line_at_which_an_agent_and_a_body_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The run's log has the exception's text: its author looked for the line and found it nowhere."""
    app = App("buggy")

    @app.agent(retry=Retry(attempts=3, base=0))
    async def buggy(what: str) -> int:
        if what == "refuse":
            raise AgentError("not me", kind="refused", retryable=False)
        return {"a": 1}[what]

    @app.workflow()
    async def body(run: Run) -> int:
        for what in ("refuse", "b"):
            with pytest.raises(CallError):
                await run.call(buggy, what)
        return ["a", "b"].index("c")

    async with coordinator(app, MemoryDatabase()) as one:
        for name in ("r", "another"):
            await start(one, "body", run=name)
            view = await CoordinatorRuns(one).wait(name, timeout_s=5)
            assert view.failure is not None
            assert view.failure.message == "ValueError: 'c' is not in list"
    told = [record for record in caplog.records if record.name == "pointsman.tracebacks"]
    assert [record.getMessage().partition("\n")[0] for record in told] == [
        "agent buggy, call r/1/buggy#2 raised KeyError: 'b'", "the body of run r raised ValueError: 'c' is not in list"
    ], "each place once a minute"  # fmt: skip
    assert "return {" in caplog.text
    assert 'return ["a", "b"].index("c")' in caplog.text


async def test_what_the_tasks_of_an_agent_raised_is_said_and_one_alone_is_its_failure() -> None:
    """asyncio.TaskGroup says of an agent that refuses that there was "1 sub-exception": it was asked again."""
    app = App("groups")

    @app.agent(retry=Retry(attempts=1))
    async def grouping(errors: int) -> None:
        async def refuse(n: int) -> None:
            raise AgentError(f"no {n}", kind="refused", retryable=False)

        async with asyncio.TaskGroup() as group:
            for n in range(errors):
                group.create_task(refuse(n))

    @app.workflow()
    async def body(run: Run) -> list[str]:
        failed = await run.gather(run.start(grouping, 1), run.start(grouping, 2), return_errors=True)
        return [f"{error.kind}: {error}" for error in failed]

    async with coordinator(app, MemoryDatabase()) as one:
        await start(one, "body")
        alone, two = msgspec.json.decode((await CoordinatorRuns(one).wait("r", timeout_s=5)).output or b"[]")
    assert alone == "refused: grouping: refused: no 0"
    assert two.startswith("exception: grouping: exception: ExceptionGroup: ")
    assert two.endswith("(2 sub-exceptions): AgentError: no 0; AgentError: no 1")


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(),
     BaseExceptionGroup("group", [KeyboardInterrupt()])],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
async def test_whatever_a_body_raises_is_its_runs_failure(error: BaseException) -> None:
    """KeyboardInterrupt left the coordinator's loop, and then that of each that took the run over."""
    app = App("hostile")

    @app.workflow()
    async def body(run: Run, seconds: float) -> None:
        if seconds:
            await run.sleep(seconds)
        raise error

    async with coordinator(app, MemoryDatabase()) as one:
        for name, seconds in (("at_once", b"0"), ("later", b"0.01")):
            await start(one, "body", run=name, data=seconds)
            view = await CoordinatorRuns(one).wait(name, timeout_s=5)
            assert view.failure is not None, (name, view.head.status)
            assert (view.head.status, view.failure.kind) == ("failed", "exception"), view.failure
            assert type(error).__name__ in view.failure.message


async def test_a_run_whose_coordinators_die_again_and_again_is_quarantined_until_it_is_released() -> None:
    desk, database = Desk(), MemoryDatabase()
    for number in range(5):
        await driven_and_killed(desk, database, f"number-{number}", calls=number + 1, runs=("r",) if not number else ())
    async with coordinator(desk.app, database, "last") as last:
        await until(lambda: database.open_runs["r"].status == "quarantined")
        view = await CoordinatorRuns(last).get("r")
        assert view.failure is not None
        assert view.failure.kind == "poisoned_run"
        assert "5 coordinators died" in view.failure.message
        for said in ("number-2 (incarnation 3)", "number-4 (incarnation 5)", "echo#1 (agent echo, attempt 1)"):
            assert said in view.failure.message
        assert "number-1" not in view.failure.message, "there it was under no suspicion"
        assert last.stats.runs_quarantined == 1
        assert "pointsman_runs_quarantined_total 1\n" in last.metrics()
        desk.go.set()
        assert (await CoordinatorRuns(last).release("r")).head.takeovers == 0
        assert await result(last, "r") == "a again"
        with pytest.raises(NotQuarantined, match="completed"):
            await CoordinatorRuns(last).release("r")
        with pytest.raises(UnknownRun):
            await CoordinatorRuns(last).release("nobody")


async def test_a_trial_ends_when_its_runs_get_on_and_those_beside_it_wait_for_none() -> None:
    """Suspects that answer are through long before the time of their trial, and nobody but the next ones wait for
    it."""
    desk, database = Desk(), MemoryDatabase()
    await driven_and_killed(desk, database, "first", calls=3, runs=("r", "s", "t"))
    await driven_and_killed(desk, database, "second", calls=6)
    async with coordinator(desk.app, database, "last", trial_ms=3_600_000, trial_runs=2) as last:
        await until(lambda: len(desk.calls) == 8)
        await start(last, "patient", run="young")
        assert await result(last, "young") == 4
        assert len([call for call in desk.calls if call.run != "young"]) == 8, "two together, and the third waits"
        assert (last.stats.trials, database.incarnations[last.incarnation].trial) == (1, {"r", "s"})
        desk.go.set()
        assert [await result(last, run) for run in "rst"] == ["a again"] * 3
        await until(lambda: not database.incarnations[last.incarnation].trial)
        assert last.stats.trials == 2


async def test_a_trial_ends_when_its_time_is_over() -> None:
    desk, database = Desk(), MemoryDatabase()
    await driven_and_killed(desk, database, "first", calls=2, runs=("r", "s"))
    await driven_and_killed(desk, database, "second", calls=4)
    async with coordinator(desk.app, database, "last", trial_ms=1, lease_ttl_ms=600_000) as last:
        await until(lambda: last.stats.trials == 1)
        await until(lambda: not database.incarnations[last.incarnation].trial)
        assert [database.open_runs[run].takeovers for run in "rs"] == [2, 2]


@pytest.mark.parametrize("unanswered", ["claim_suspects", "end_trial"])
async def test_a_trial_ends_also_when_the_store_did_not_answer(
    unanswered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever was in it would be to blame, and nobody else, for a death of hours later."""
    desk, database = Desk(), MemoryDatabase()
    await driven_and_killed(desk, database, "first", calls=2, runs=("r", "s"))
    await driven_and_killed(desk, database, "second", calls=4)
    answer, lost = getattr(MemoryOwnership, unanswered), []

    async def losing(*args: Any, **options: Any) -> Any:
        if unanswered == "end_trial" and not lost:
            lost.append(unanswered)
            raise StoreUnavailable("the request was lost")
        answered = await answer(*args, **options)
        if answered and not lost:
            lost.append(unanswered)
            raise StoreUnavailable("the reply was lost")
        return answered

    monkeypatch.setattr(MemoryOwnership, unanswered, losing)
    async with coordinator(desk.app, database, "last", trial_ms=1, sweep_ms=20, lease_ttl_ms=600_000) as last:
        await until(lambda: bool(lost))
        assert database.incarnations[last.incarnation].trial == {"r", "s"}
        await until(lambda: not database.incarnations[last.incarnation].trial)
        assert [database.open_runs[run].takeovers for run in "rs"] == [2, 2]


@pytest.mark.parametrize(
    ("takeovers_max", "sizes"), [(2, [1]), (3, [1]), (4, [64, 1]), (5, [64, 8, 1]), (7, [64, 8, 1, 1, 1])]
)
def test_nobody_is_quarantined_for_what_another_run_did(takeovers_max: int, sizes: list[int]) -> None:
    """Whom one more death would quarantine is tried alone."""
    assert trial_sizes(CoordinatorSettings(takeovers_max=takeovers_max)) == sizes


def hasty() -> App:
    """Its workflows use `asyncio.timeout`, or wait for what is not durable."""
    app = App("hasty")

    @app.agent
    async def slow(n: int) -> int:
        await asyncio.sleep(0.2)
        return n

    async def in_time(run: Run) -> int:
        async with asyncio.timeout(0.02):
            return int(await run.call(slow, 1))

    @app.workflow()
    async def at_once(run: Run) -> int:
        return await in_time(run)

    @app.workflow()
    async def later(run: Run) -> int:
        await run.call(slow, 1)
        return await in_time(run)

    @app.workflow()
    async def after_mail(run: Run) -> int:
        await run.wait_for("go")
        return await in_time(run)

    @app.workflow()
    async def sleeping(run: Run) -> None:
        await run.call(slow, 1)
        await asyncio.sleep(0.02)

    async def ask(run: Run) -> None:
        await run.ask("Who is there?")

    @app.workflow()
    async def while_asking(run: Run) -> int:
        run.branch("question", ask)
        await run.call(slow, 1)
        return await in_time(run)

    @app.workflow()
    async def while_reading_mail(run: Run) -> int:
        await run.call(slow, 1)
        return await in_time(run)

    return app


async def test_a_body_that_uses_what_asyncio_ties_to_a_task_ends_itself_and_nobody_else() -> None:
    """`asyncio.timeout` cancelled the task of the client that started the run, or of the coordinator that drove it."""
    names = ("at_once", "later", "after_mail", "while_asking", "while_reading_mail", "sleeping")
    async with coordinator(hasty(), MemoryDatabase()) as one:
        verbs, read = CoordinatorRuns(one), one.store.mailbox.read

        async def until_called(run: str, *, after: int) -> Sequence[Mail]:
            """So long that the call has ended before it is read."""
            driver = one.roster.driver(run)
            while run == "while_reading_mail" and driver is not None and not driver._outcomes:
                await asyncio.sleep(0)
            return await read(run, after=after)

        one.store.mailbox.read = until_called  # type: ignore[method-assign]
        for name in names:
            await start(one, name, run=name)
        for name in ("after_mail", "while_reading_mail"):
            await verbs.signal(name, "go", b"null", key="k")
        for name in names:
            view = await verbs.wait(name, timeout_s=5)
            assert view.failure is not None, (name, view.head.status)
            assert (view.head.status, view.failure.kind) == ("failed", "foreign_awaitable"), view.failure
            assert "run.first" in view.failure.message or name == "sleeping"
        await verbs.redrive(Redrive("later"))  # its log is replayed up to there
        view = await verbs.wait("later", timeout_s=5)
        assert view.failure is not None
        assert (view.head.status, view.failure.kind) == ("failed", "foreign_awaitable"), view.failure


async def test_a_body_that_makes_tasks_of_asyncios_is_told_what_to_do_and_leaves_no_noise() -> None:
    app = App("hasty")

    @app.agent
    async def double(n: int) -> int:
        return 2 * n

    @app.workflow()
    async def group(run: Run) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run.call(double, 1))

    @app.workflow()
    async def gathered(run: Run) -> None:
        await asyncio.gather(run.call(double, 1), run.call(double, 2))

    @app.workflow()
    async def awaited(run: Run) -> None:
        await asyncio.create_task(run.call(double, 1))

    left: list[asyncio.Task[Any]] = []

    @app.workflow()
    async def forgotten(run: Run) -> None:
        left.append(asyncio.create_task(run.call(double, 1)))
        await run.wait_for("go")

    noise: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    async with coordinator(app, MemoryDatabase()) as one:
        for name in ("group", "gathered", "awaited"):
            await start(one, name, run=name)
            view = await CoordinatorRuns(one).wait(name, timeout_s=5)
            assert view.failure is not None
            assert view.failure.kind == "foreign_awaitable", view.failure
            assert "run.gather(run.start(agent, ...)" in view.failure.message
        await start(one, "forgotten", run="forgotten")
        await asyncio.wait(left)
        with pytest.raises(ForeignAwaitable, match="no replay would repeat"):
            left.pop().result()
        await CoordinatorRuns(one).signal("forgotten", "go", b"null", key="k")
        await result(one, "forgotten")
        assert "CallRequested" not in await types(one, "forgotten")
    gc.collect()
    assert noise == []


async def driven_and_killed(
    desk: Desk, database: MemoryDatabase, name: str, *, calls: int, runs: Sequence[str] = ()
) -> None:
    """A coordinator that starts `runs` and dies once its agents were called so often in all. Its lease would outlive a
    machine that stands still: else it lost its runs to itself, which counts as another death."""
    async with coordinator(desk.app, database, name, lease_ttl_ms=600_000) as one:
        for run in runs:
            await start(one, "ask", b'"a"', run=run)
        await until(lambda: len(desk.calls) == calls)
        await kill(one)


async def test_gathering_thousands_costs_each_once() -> None:
    app = App("wide")

    @app.agent
    async def echo(n: int) -> int:
        return n

    @app.workflow()
    async def wide(run: Run, n: int) -> int:
        return sum(await run.gather(*(run.start(echo, i) for i in range(n))))

    async with coordinator(app, MemoryDatabase()) as one:
        await start(one, "wide", b"3000")
        assert await result(one, "r") == 3000 * 2999 // 2
        assert one.stats.loop_lag_s < 1.5


async def test_no_room_leaves_new_runs_to_others() -> None:
    desk, database = Desk(), MemoryDatabase()
    async with coordinator(desk.app, database, runs_max=1) as one:
        await start(one, "ask", b'"a"', run="first")
        await start(one, "ask", b'"b"', run="second")
        assert database.open_runs["second"].owner is None
        desk.go.set()
        assert await result(one, "second") == "b again"


async def test_metrics_and_description_say_what_is() -> None:
    desk = Desk()
    desk.go.set()
    async with coordinator(desk.app, MemoryDatabase()) as one:
        await start(one, "ask", b'"a"')
        await result(one, "r")
        text = one.metrics()
        assert "pointsman_runs_started_total 1\n" in text
        assert 'pointsman_runs_ended_total{status="completed"} 1\n' in text
        assert one.is_ready()[0]
        assert one.describe()["limits"]["lease_ttl_ms"] == 1_000
    assert not one.is_ready()[0]


async def test_a_drain_hands_over_what_rests_while_a_call_has_its_time() -> None:
    """The next owner is told of it: its poll is a minute away."""
    desk, database = Desk(), MemoryDatabase()
    async with coordinator(desk.app, database, "two", claim_poll_ms=60_000, sweep_ms=60_000) as two:
        async with coordinator(desk.app, database, drain_s=30, park_after_ms=60_000) as one:
            await start(one, "ask", b'"a"', run="calls")
            await start(one, "wait", b"20", run="rests")
            await until(lambda: len(desk.calls) == 1 and len(one.roster) == 2)
            stopping = asyncio.create_task(one.stop())
            await until(lambda: two.roster.driver("rests") is not None)
            assert one.roster.driver("calls") is not None
            assert len(desk.calls) == 1
            assert not stopping.done()
            desk.go.set()
            await stopping
            assert one.stats.runs_handed_over == 2
        assert await result(two, "calls") == "a again"
        assert [call.epoch for call in desk.calls] == [1, 2], "no call was made twice, and the outcome was recorded"
        assert "CallHeld" not in await types(two, "calls")


async def test_a_drain_in_a_hurry_gives_calls_no_time() -> None:
    desk, database = Desk(), MemoryDatabase()
    async with coordinator(desk.app, database, "two") as two:
        async with coordinator(desk.app, database, drain_s=3_600) as one:
            await start(one, "ask", b'"a"')
            await until(lambda: len(desk.calls) == 1)
            stopping = asyncio.create_task(one.stop())
            await until(lambda: one.is_draining)
            done, _ = await asyncio.wait([stopping], timeout=0.1)
            assert not done
            one.hurry()
            await stopping
        await until(lambda: len(desk.calls) == 2)
        assert desk.calls[0].idempotency_key == desk.calls[1].idempotency_key
        desk.go.set()
        assert await result(two, "r") == "a again"


async def test_who_follows_a_run_that_goes_on_elsewhere_is_not_told_that_it_has_ended() -> None:
    desk, database = Desk(), MemoryDatabase()
    async with coordinator(desk.app, database, "two") as two, coordinator(desk.app, database, drain_s=0.01) as one:
        await start(one, "ask", b'"a"')
        seen: list[str] = []

        async def follow() -> None:
            async for batch in CoordinatorRuns(one).follow("r"):
                seen.extend(event.type for event in batch)

        following = asyncio.create_task(follow())
        await until(lambda: "CallRequested" in seen)
        draining = asyncio.create_task(one.drain())
        with pytest.raises(Draining):
            await following
        await draining
        desk.go.set()
        await one.stop()
        assert await result(two, "r") == "a again"


async def test_a_child_that_nobody_waited_for_is_stopped_when_its_parent_ends_at_once() -> None:
    database, app = MemoryDatabase(), App("family")

    @app.workflow()
    async def child(run: Run) -> None:
        await run.wait_for("never")

    @app.workflow()
    async def parent(run: Run) -> str:
        run.start(child)
        return "over"

    async with coordinator(app, database) as one:
        await start(one, "parent")
        assert await result(one, "r") == "over"
        (other,) = [row for row in database.runs.values() if row.new.parent == "r"]
        await until(lambda: other.status == "cancelled")


async def test_a_driven_run_weighs_what_it_was_given() -> None:
    """Room, and the mode's memory signal, see the results that a run holds while it is driven; it gives them back."""
    app, go, waiting = App("heavy"), asyncio.Event(), list[str]()

    @app.agent
    async def big(n: int) -> str:
        return "x" * 900_000

    @app.agent(timeout=600)
    async def slow(ctx: Context) -> None:
        waiting.append(ctx.run)
        await go.wait()

    @app.workflow()
    async def hoard(run: Run) -> int:
        kept = [await run.call(big, n) for n in range(3)]
        await run.call(slow)
        return len(kept)

    async with coordinator(app, MemoryDatabase(), memory_bytes_max=6_000_000) as one:
        runs = ("a", "b")
        for run in runs:
            await start(one, "hoard", run=run)
        await until(lambda: len(waiting) == 2)
        driver = one.roster.driver("a")
        assert driver is not None
        assert driver.size == pytest.approx(driver.execution.size, rel=0.13)
        assert driver.execution.size > 3 * 900_000
        assert one.roster.room() == 0
        assert one.roster.taken() > 0.9
        assert await start(one, "hoard", run="later")  # left to whoever has room
        assert one.roster.driver("later") is None
        go.set()
        assert [await result(one, run) for run in (*runs, "later")] == [3, 3, 3]
        await until(lambda: len(one.roster) == 0)
        assert one.roster.taken() == 0


async def _reused() -> None:
    app, loop = App("daily"), asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)

    @app.workflow()
    async def report(run: Run, n: int) -> int:
        if n > 1:
            await run.wait_for("go")
        return n

    clock = SimClock(loop)
    database = MemoryDatabase(clock)
    own: dict[str, object] = {"lease_ttl_ms": 10**11}  # nobody dies while the clock is put forward
    async with coordinator(app, database, **own) as one, coordinator(app, database, "two", **own) as two:
        await start(one, "report", b"1")
        assert await result(one, "r") == 1
        clock.skip(86_400_000)
        assert await one.store.retention.delete(clock.now(), limit=10) == 1
        with pytest.raises(UnknownRun):
            await CoordinatorRuns(one).get("r")
        assert await start(two, "report", b"2")
        view = await CoordinatorRuns(one).get("r")
        assert view.output is None
        assert view.head.ended_at is None


def test_an_id_that_was_deleted_and_used_again_is_never_answered_with_the_old_result() -> None:
    with asyncio.Runner(loop_factory=lambda: SimLoop(random.Random(1), steps_max=1_000_000)) as runner:
        runner.run(_reused())


async def test_a_page_and_a_step_of_a_stream_end_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its events hold, no page is larger than its limit and one event, nor is much more read for it."""
    app, limit = App("large"), 100_000

    @app.agent
    async def big(n: int) -> str:
        return "x" * (30_000 if n % 7 == 0 else 10)

    @app.workflow()
    async def talk(run: Run) -> None:
        for n in range(60):
            await run.call(big, n)

    async with coordinator(app, MemoryDatabase()) as one:
        await start(one, "talk")
        await result(one, "r")
        runs = CoordinatorRuns(one)
        whole = await runs.events("r")
        read, reads = one.store.log.read, list[int]()

        async def counting(run: str, **limits: Any) -> list[Recorded]:
            page = await read(run, **limits)
            reads.append(sum(len(event.body) for event in page))
            return page

        monkeypatch.setattr(one.store.log, "read", counting)
        paged: list[EventView] = []
        while page := await runs.events("r", after=len(paged), limit=500, bytes_max=limit):
            assert sum(len(event.data) for event in page[:-1]) < limit
            paged += page
            assert sum(reads) < 4 * limit
            reads.clear()
        assert paged == list(whole)
        monkeypatch.setattr(verbs, "PAGE_BYTES", limit)
        batches = [batch async for batch in runs.follow("r")]
        assert [event for batch in batches for event in batch] == list(whole)
        assert len(batches) > 2
        assert all(sum(len(event.data) for event in batch[:-1]) < limit for batch in batches)


async def test_mail_that_could_not_be_read_is_read_as_soon_as_the_store_answers() -> None:
    """Whoever was told of it asks again, and does not leave it to the next poll."""
    app, go = App("patient"), asyncio.Event()

    @app.agent
    async def work(n: int) -> int:
        await go.wait()
        return n

    @app.workflow()
    async def both(run: Run) -> list[Any]:
        call = run.start(work, 1)  # it is driven all the while
        said = await run.wait_for("said", expect=str)
        go.set()
        return [said, await call]

    async with coordinator(app, MemoryDatabase(), mail_poll_ms=60_000, claim_poll_ms=60_000) as one:
        read, refused = one.store.mailbox.read, 0

        async def read_in_the_end(run: str, *, after: int) -> Any:
            nonlocal refused
            if refused < 2:
                refused += 1
                raise StoreUnavailable("not now")
            return await read(run, after=after)

        one.store.mailbox.read = read_in_the_end  # type: ignore[method-assign]
        await start(one, "both")
        await CoordinatorRuns(one).signal("r", "said", b'"hello"', key="k")
        assert await result(one, "r") == ["hello", 1]
        assert refused == 2


async def test_what_ends_while_an_append_is_on_its_way_is_taken_in_when_it_is_answered() -> None:
    """Not when the next attempt ends: that of `slow` waits for it."""
    app, go, second, over = App("meanwhile"), asyncio.Event(), asyncio.Event(), asyncio.Event()

    @app.agent
    async def slow(n: int) -> int:
        await go.wait()
        return n

    @app.agent
    async def first(n: int) -> int:
        return n

    @app.agent
    async def late(n: int) -> int:
        await second.wait()
        over.set()
        return n

    @app.workflow()
    async def together(run: Run) -> int:
        waiting = run.start(slow, 1)
        both = sum(await run.gather(run.start(first, 2), run.start(late, 3)))
        go.set()
        return both + int(await waiting)

    async with coordinator(app, MemoryDatabase()) as one:
        append = one.store.log.append

        async def meanwhile(batch: Sequence[Append], *, lane: int = 0) -> list[AppendResult]:
            if any(event.type == "CallCompleted" for item in batch for event in item.events) and not second.is_set():
                second.set()
                await over.wait()
            return await append(batch, lane=lane)

        one.store.log.append = meanwhile  # type: ignore[method-assign]
        await start(one, "together")
        assert await result(one, "r") == 6


async def test_a_run_of_which_the_store_refuses_an_append_is_stopped_and_says_so() -> None:
    app = App("refused")

    @app.agent
    async def work(n: int) -> int:
        return n

    @app.workflow()
    async def once(run: Run) -> int:
        return int(await run.call(work, 1)) + int(await run.call(work, 2))

    async with coordinator(app, MemoryDatabase()) as one:
        append = one.store.log.append

        async def picky(batch: Sequence[Append], *, lane: int = 0) -> list[AppendResult]:
            if any(event.type == "CallCompleted" for item in batch for event in item.events):
                raise InvalidValue("the database can't hold this")
            return await append(batch, lane=lane)

        one.store.log.append = picky  # type: ignore[method-assign]
        await start(one, "once")
        await until(lambda: not len(one.roster))
        view = await CoordinatorRuns(one).get("r")
        assert view.head.status == "quarantined"
        assert view.failure is not None
        assert "can't hold this" in view.failure.message
