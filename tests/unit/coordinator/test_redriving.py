"""Generations and redrives through whole coordinators, on the memory store and on PostgreSQL."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import pytest

from pointsman import AgentError, App, CallError, Context, CoordinatorSettings, Retry, Run, StartRun
from pointsman.coordinator.driving import redriving
from pointsman.coordinator.driving.crew import Crew
from pointsman.coordinator.driving.redriving import look
from pointsman.coordinator.service import Coordinator
from pointsman.coordinator.verbs.inbox import CoordinatorInbox
from pointsman.coordinator.verbs.runs import CoordinatorRuns
from pointsman.kernel import events as ev
from pointsman.kernel.errors import NotRedrivable, RunEnded, UnknownRun
from pointsman.kernel.redriving import RedrivePlan
from pointsman.kernel.state import RunState
from pointsman.ports.event_log import EventLog, Head
from pointsman.ports.human_tasks import TaskFilter
from pointsman.ports.runs import Redrive
from pointsman.ports.store import Store
from pointsman.stores.memory.database import MemoryDatabase
from pointsman.stores.memory.store import MemoryStore
from pointsman.stores.postgres.migrate import migrate
from pointsman.stores.postgres.store import PostgresStore
from tests.support.postgres import TestServer


class Shop:
    """An app whose agents fail as long as they are told to, and remember who called."""

    def __init__(self) -> None:  # noqa: C901 (a list of small programs)
        self.app = App("shop")
        self.calls: list[tuple[str, int, str]] = []
        self.broken: set[str] = set()
        self.slow: set[str] = set()
        self.bugged = False

        @self.app.agent(retry=Retry(attempts=1))
        async def work(what: str, ctx: Context) -> str:
            self.calls.append((what, ctx.attempt, ctx.idempotency_key))
            if what in self.slow:
                await asyncio.Event().wait()
            if what in self.broken:
                raise AgentError("out of order", kind="refused", retryable=False)
            return what

        @self.app.agent(idempotent=False, retry=Retry(attempts=1))
        async def pay(what: str, ctx: Context) -> str:
            self.calls.append((what, ctx.attempt, ctx.idempotency_key))
            if what in self.broken:
                raise AgentError("out of order", kind="refused", retryable=False)
            return what

        @self.app.workflow()
        async def order(run: Run, n: int) -> list[str]:
            done = [await run.call(work, "reserve"), await run.call(pay, "charge"), await run.call(work, "ship")]
            if self.bugged:
                raise ValueError("a bug")
            return done

        @self.app.workflow()
        async def household(run: Run, n: int) -> list[str]:
            first = await run.call(work, "first")
            return [first, *await run.call(order, n)]

        @self.app.workflow()
        async def forgiving(run: Run, n: int) -> str:
            try:
                await run.call(order, n)
            except CallError:
                await run.wait_for("go")
            return "went on"

        @self.app.workflow()
        async def patient(run: Run, n: int) -> list[str]:
            try:
                return await run.call(order, n)
            except CallError:
                await run.wait_for("go")
                raise

        @self.app.workflow()
        async def siblings(run: Run, n: int) -> list[object]:
            return await run.gather(run.start(order, n), run.start(waiting, n))

        @self.app.workflow()
        async def family(run: Run, n: int) -> list[object]:
            return await run.call(siblings, n)

        @self.app.workflow()
        async def village(run: Run, n: int) -> list[str]:
            return await run.call(household, n)

        @self.app.workflow()
        async def waiting(run: Run, n: int) -> str:
            return str(await run.wait_for("go"))

        @self.app.workflow()
        async def asking(run: Run, n: int) -> list[object]:
            return await run.gather(
                run.start(work, "odd", person="How?", key="odd"), run.start(work, "risk", key="risk")
            )

        @self.app.workflow()
        async def laps(run: Run, left: int) -> int:
            await run.call(work, f"lap {left}")
            if left == 0:
                return run.generation
            return run.restart(left - 1)

    def made(self, what: str) -> list[int]:
        return [attempt for name, attempt, _ in self.calls if name == what]


@pytest.fixture(params=["memory", "postgres"])
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[list[Store]]:
    """Two stores of one database."""
    if request.param == "memory":
        database = MemoryDatabase()
        yield [MemoryStore(database), MemoryStore(database)]
        return
    server: TestServer = request.getfixturevalue("postgres_server")
    async with server.new_database() as dsn:
        await migrate(dsn)
        yield [PostgresStore(dsn), PostgresStore(dsn)]


@asynccontextmanager
async def coordinators(
    shop: Shop, stores: list[Store], count: int = 1, **options: int
) -> AsyncIterator[list[Coordinator]]:
    async with AsyncExitStack() as stack:
        services = []
        for number, store in enumerate(stores[:count]):
            settings = CoordinatorSettings(
                name=f"c{number}", lease_ttl_ms=1_000, claim_poll_ms=20, mail_poll_ms=20, **options
            )
            service = shop.app.coordinator(store, settings)
            await service.start()
            stack.push_async_callback(service.stop)
            services.append(service)
        yield services


async def start(service: Coordinator, workflow: str, data: bytes = b"1", run: str = "r") -> None:
    await CoordinatorRuns(service).start(StartRun(workflow, data, id=run))


async def ended(service: Coordinator, run: str = "r") -> tuple[str, object]:
    view = await CoordinatorRuns(service).wait(run, timeout_s=10)
    assert view.head.ended_at is not None, view
    return view.head.status, msgspec.json.decode(view.output) if view.output is not None else view.failure


async def until(service: Coordinator, run: str, *statuses: str) -> None:
    """Polls of the store itself, bounded: what it says is what is waited for."""
    async with asyncio.timeout(10):
        while (await CoordinatorRuns(service).get(run)).head.status not in statuses:
            await asyncio.sleep(0.01)


async def children(service: Coordinator, run: str) -> list[str]:
    events = await CoordinatorRuns(service).events(run)
    return [msgspec.json.decode(event.data)["run"] for event in events if event.type == "ChildStarted"]


async def types(service: Coordinator, run: str = "r") -> list[str]:
    return [event.type for event in await CoordinatorRuns(service).events(run)]


async def test_a_redriven_run_repeats_nothing_and_ends(stores: list[Store]) -> None:
    shop = Shop()
    shop.broken = {"charge"}
    async with coordinators(shop, stores, 2) as (one, two):
        await start(one, "order")
        assert (await ended(two))[0] == "failed"
        plan = await CoordinatorRuns(two).redrive_plan("r")
        assert (plan.calls, plan.failure.kind if plan.failure else "") == (("pay#1",), "refused")
        shop.broken.clear()
        await CoordinatorRuns(two).redrive(Redrive("r", by="ann", reason="fixed"))
        assert await ended(one) == ("completed", ["reserve", "charge", "ship"])
        assert [shop.made(what) for what in ("reserve", "charge", "ship")] == [[1], [1, 2], [1]]
        seen = await types(one)
        assert seen[seen.index("RunFailed") + 1] == "RunRedriven"
        assert "CallAdmitted" in seen, "an agent that must not be called twice: noted before it is"
        with pytest.raises(NotRedrivable, match="completed, not failed"):
            await CoordinatorRuns(one).redrive(Redrive("r"))


async def test_of_two_who_saw_one_failure_one_redrives_and_both_are_told(stores: list[Store]) -> None:
    shop = Shop()
    shop.broken = {"charge"}
    async with coordinators(shop, stores, 2) as (one, two):
        await start(one, "order")
        await ended(one)
        sequence = (await CoordinatorRuns(one).get("r")).head.sequence
        answers = await asyncio.gather(
            CoordinatorRuns(one).redrive(Redrive("r", sequence, by="ann")),
            CoordinatorRuns(two).redrive(Redrive("r", sequence, by="bob")),
        )
        assert sorted(answer.repeated for answer in answers) == [False, True]
        winner, loser = sorted(answers, key=lambda answer: answer.repeated)
        assert winner.number == loser.number == 1
        assert loser.by == ("ann" if answers[0] is winner else "bob")
        await until(one, "r", "failed")
        assert (await types(one)).count("RunRedriven") == 1
        with pytest.raises(NotRedrivable, match="did not fail at event 3"):
            await CoordinatorRuns(one).redrive(Redrive("r", 3))


async def test_who_looks_while_another_redrives_sees_the_failure_that_was_there(stores: list[Store]) -> None:
    shop = Shop()
    shop.broken = {"charge"}
    async with coordinators(shop, stores, 2) as (one, two):
        await start(one, "order")
        await ended(one)

        class Overtaken:
            """The other one redrives between the look at the head and the look at the log."""

            heads = stores[0].log.heads

            async def read(self, run: str, **limits: int) -> list[ev.Recorded]:
                if (await stores[0].log.heads([run]))[run].status == "failed":
                    await CoordinatorRuns(two).redrive(Redrive(run))
                return await stores[0].log.read(run, **limits)

        answer = await look(Overtaken(), "r")  # type: ignore[arg-type]
        assert answer.number == 1
        await until(one, "r", "failed")


async def test_what_has_not_failed_is_refused_with_what_to_do_instead(stores: list[Store]) -> None:
    shop = Shop()
    async with coordinators(shop, stores) as (one,):
        runs = CoordinatorRuns(one)
        with pytest.raises(UnknownRun):
            await runs.redrive(Redrive("nobody"))
        await start(one, "waiting")
        await until(one, "r", "parked")
        with pytest.raises(NotRedrivable, match="goes on already"):
            await runs.redrive(Redrive("r"))
        await runs.cancel("r")
        await until(one, "r", "cancelled")
        with pytest.raises(NotRedrivable, match="start it again"):
            await runs.redrive_plan("r")


async def test_a_bug_is_redriven_with_other_code_and_repeats_no_call(stores: list[Store]) -> None:
    shop = Shop()
    shop.bugged = True
    async with coordinators(shop, stores) as (one,):
        await start(one, "order")
        assert (await ended(one))[0] == "failed"
        shop.bugged = False
        answer = await CoordinatorRuns(one).redrive(Redrive("r"))
        assert answer.calls == ()
        assert await ended(one) == ("completed", ["reserve", "charge", "ship"])
        assert len(shop.calls) == 3


async def test_it_takes_mail_again_and_may_be_cancelled(stores: list[Store]) -> None:
    shop = Shop()
    shop.broken = {"first"}
    async with coordinators(shop, stores) as (one,):
        await start(one, "household")
        await ended(one)
        with pytest.raises(RunEnded):
            await CoordinatorRuns(one).signal("r", "go", b"1", key="k")
        shop.broken = {"never"}
        await CoordinatorRuns(one).redrive(Redrive("r"))
        assert (await ended(one))[0] == "completed"


async def test_a_failed_child_goes_on_with_its_parent(stores: list[Store]) -> None:
    shop = Shop()
    shop.broken = {"ship"}
    async with coordinators(shop, stores, 2) as (one, two):
        await start(one, "household")
        assert (await ended(one))[0] == "failed"
        shop.broken.clear()
        answer = await CoordinatorRuns(two).redrive(Redrive("r", by="ann"))
        assert answer.calls == ("workflow:order#1",)
        assert await ended(one) == ("completed", ["first", "reserve", "charge", "ship"])
        assert [shop.made(what) for what in ("first", "reserve", "charge", "ship")] == [[1], [1], [1], [1, 2]]
        assert (await types(one)).count("ChildEnded") == 2


async def test_a_child_that_changes_while_its_parent_is_brought_back_harms_nobody(
    stores: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else redrives the child between a look at it and the next."""
    shop, find, is_first = Shop(), redriving._find, True
    shop.broken = {"ship"}

    async def late(log: EventLog, head: Head) -> object:
        nonlocal is_first
        if head.parent is not None and is_first and (await log.heads(["r"]))["r"].ended_at is None:
            is_first = False
            await CoordinatorRuns(one).redrive(Redrive(head.id))
            raise NotRedrivable("it is running, not failed")
        return await find(log, head)

    async with coordinators(shop, stores) as (one,):
        await start(one, "household")
        assert (await ended(one))[0] == "failed"
        shop.broken.clear()
        monkeypatch.setattr(redriving, "_find", late)
        await CoordinatorRuns(one).redrive(Redrive("r"))
        assert await ended(one) == ("completed", ["first", "reserve", "charge", "ship"])
        assert not is_first


async def test_a_child_that_retention_deletes_while_its_parent_is_looked_at_is_missed_before_anything_is_recorded(
    stores: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, children_of = Shop(), redriving._children
    shop.broken = {"ship"}

    async def late(log: EventLog, head: Head, found: RedrivePlan) -> dict[str, int]:
        children = await children_of(log, head, found)
        if head.id == "r":
            await one.store.retention.delete(one.store.clock.now() + 1_000, limit=1)
        return children

    async with coordinators(shop, stores) as (one,):
        await start(one, "household")
        assert (await ended(one))[0] == "failed"
        sequence = (await one.store.log.heads(["r"]))["r"].sequence
        monkeypatch.setattr(redriving, "_children", late)
        with pytest.raises(NotRedrivable, match=r"its child .* is gone"):
            await CoordinatorRuns(one).redrive(Redrive("r"))
        assert (await one.store.log.heads(["r"]))["r"].sequence == sequence


async def test_a_child_that_cant_go_on_any_more_fails_its_parent_again(
    stores: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own child was redriven alone and cancelled, between its parent's redrive and its own: once its parent was
    quarantined for that, and again at each release."""
    shop, revive = Shop(), redriving._revive
    shop.broken = {"ship"}
    lines: dict[str, list[str]] = {}

    async def late(crew: Crew, parent: RunState, child: str, sequence: int) -> bool:
        if parent.run == "r" and "order" not in lines:
            lines["order"] = await children(one, child)
            await CoordinatorRuns(one).redrive(Redrive(lines["order"][0]))
            await CoordinatorRuns(one).cancel(lines["order"][0])
            await until(one, lines["order"][0], "cancelled")
        return await revive(crew, parent, child, sequence)

    async with coordinators(shop, stores) as (one,):
        await start(one, "village")
        assert (await ended(one))[0] == "failed"
        monkeypatch.setattr(redriving, "_revive", late)
        shop.slow = {"ship"}
        await CoordinatorRuns(one).redrive(Redrive("r"))
        await until(one, "r", "failed")
        assert (await types(one))[-2:] == ["ChildEnded", "RunFailed"]
        with pytest.raises(NotRedrivable, match="was asked to stop"):
            await CoordinatorRuns(one).redrive(Redrive("r"))


async def test_a_child_that_failed_twice_fails_its_parent_twice(stores: list[Store]) -> None:
    shop = Shop()
    shop.broken = {"ship"}
    async with coordinators(shop, stores) as (one,):
        await start(one, "household")
        assert (await ended(one))[0] == "failed"
        await CoordinatorRuns(one).redrive(Redrive("r"))
        await until(one, "r", "failed")
        shop.broken.clear()
        assert (await CoordinatorRuns(one).redrive(Redrive("r"))).number == 2
        assert (await ended(one))[0] == "completed"
        assert shop.made("ship") == [1, 2, 3]
        assert shop.made("charge") == [1]


async def test_a_child_redriven_alone_does_not_tell_its_parent_twice(stores: list[Store]) -> None:
    """Its parent had taken the failure in, and went on: the outcome is recorded, and the body is not told."""
    shop = Shop()
    shop.broken = {"ship"}
    async with coordinators(shop, stores) as (one,):
        await start(one, "forgiving")
        await until(one, "r", "parked")
        (child,) = await children(one, "r")
        async with asyncio.timeout(10):
            while "SignalAwaited" not in await types(one):
                await asyncio.sleep(0.01)
        shop.broken.clear()
        await CoordinatorRuns(one).redrive(Redrive(child))
        assert (await ended(one, child))[0] == "completed"
        await CoordinatorRuns(one).signal("r", "go", b"1", key="k")
        assert await ended(one) == ("completed", "went on")


async def test_a_child_redriven_alone_is_heard_when_its_parent_is_redriven_too(stores: list[Store]) -> None:
    """Its parent had taken in both its failure and its result, and then failed by the first."""
    shop = Shop()
    shop.broken = {"ship"}
    async with coordinators(shop, stores) as (one,):
        await start(one, "patient")
        await until(one, "r", "parked")
        (child,) = await children(one, "r")
        async with asyncio.timeout(10):
            while "SignalAwaited" not in await types(one):
                await asyncio.sleep(0.01)
        shop.broken.clear()
        await CoordinatorRuns(one).redrive(Redrive(child))
        async with asyncio.timeout(10):
            while (await types(one)).count("ChildEnded") < 2:
                await asyncio.sleep(0.01)
        await CoordinatorRuns(one).signal("r", "go", b"1", key="k")
        assert (await ended(one))[0] == "failed"
        await CoordinatorRuns(one).redrive(Redrive("r"))
        assert await ended(one) == ("completed", ["reserve", "charge", "ship"])
        assert shop.made("ship") == [1, 2]


async def test_a_child_that_ended_while_its_parent_had_is_heard_after_all(stores: list[Store]) -> None:
    """Redriven alone first, then its parent: nobody would ever say again what it said to a run that had ended."""
    shop = Shop()
    shop.broken = {"ship"}
    async with coordinators(shop, stores) as (one,):
        await start(one, "household")
        assert (await ended(one))[0] == "failed"
        (child,) = await children(one, "r")
        shop.broken.clear()
        await CoordinatorRuns(one).redrive(Redrive(child))
        assert (await ended(one, child))[0] == "completed"
        await CoordinatorRuns(one).redrive(Redrive("r"))
        assert await ended(one) == ("completed", ["first", "reserve", "charge", "ship"])
        assert shop.made("ship") == [1, 2]


async def test_a_run_whose_other_child_was_stopped_with_it_is_refused(stores: list[Store]) -> None:
    shop = Shop()
    shop.broken = {"ship"}
    async with coordinators(shop, stores) as (one,):
        await start(one, "siblings")
        assert (await ended(one))[0] == "failed"
        with pytest.raises(NotRedrivable, match="was asked to stop"):
            await CoordinatorRuns(one).redrive(Redrive("r"))


async def test_a_run_whose_childs_child_was_stopped_is_refused(stores: list[Store]) -> None:
    """Before anything is recorded: brought back, it would wait for a child that can't go on."""
    shop = Shop()
    shop.broken = {"ship"}
    async with coordinators(shop, stores) as (one,):
        await start(one, "family")
        assert (await ended(one))[0] == "failed"
        with pytest.raises(NotRedrivable, match="was asked to stop"):
            await CoordinatorRuns(one).redrive(Redrive("r"))
        assert (await ended(one))[0] == "failed"


async def test_a_persons_question_is_open_again(stores: list[Store]) -> None:
    shop = Shop()
    shop.broken = {"odd", "risk"}
    async with coordinators(shop, stores) as (one,):
        inbox = CoordinatorInbox(one)
        await start(one, "asking")
        assert (await ended(one))[0] == "failed"
        tasks, _ = await inbox.list(TaskFilter(), limit=10)
        shop.broken = {"odd"}
        answer = await CoordinatorRuns(one).redrive(Redrive("r"))
        assert answer.calls == ("risk",)
        if tasks:
            reopened, _ = await inbox.list(TaskFilter(status=("open",)), limit=10)
            assert [task.id for task in reopened] == [task.id for task in tasks]
        async with asyncio.timeout(10):
            while not (open_tasks := (await inbox.list(TaskFilter(status=("open",)), limit=10))[0]):
                await asyncio.sleep(0.01)
        await inbox.answer(open_tasks[0].id, b'"so"', by="ann")
        assert await ended(one) == ("completed", ["so", "risk"])


# -- generations ------------------------------------------------------------------------------------------------------


async def test_generations_are_in_the_head_and_another_coordinator_goes_on(stores: list[Store]) -> None:
    shop = Shop()
    async with coordinators(shop, stores) as (one,):
        await start(one, "laps", b"4")
        assert await ended(one) == ("completed", 5)
        head = (await one.store.log.heads(["r"]))["r"]
        assert head.generation == 5
        rows = await one.store.log.read("r", after=head.base - 1)
        assert rows[0].type == "RunRestarted"
        assert len({key for _, _, key in shop.calls}) == 5
        assert (await types(one)).count("RunRestarted") == 4


async def test_a_long_generation_is_warned_of_once_and_fails_with_what_to_do(
    stores: list[Store], caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop()

    @shop.app.workflow()
    async def endless(run: Run, n: int) -> None:
        while True:
            await run.wait_for("never", timeout=0.001)

    @shop.app.workflow()
    async def chatty(run: Run, n: int) -> None:
        while True:
            await run.sleep(0.001)

    with caplog.at_level(logging.WARNING, "pointsman.driver"):
        async with coordinators(shop, stores, events_max=40) as (one,):
            await start(one, "chatty")
            status, failure = await ended(one)
            assert status == "failed"
            assert "run.restart" in str(failure)
            assert one.stats.generations_nearly_full == 1
    assert sum("end its loop in run.restart" in record.message for record in caplog.records) == 1
