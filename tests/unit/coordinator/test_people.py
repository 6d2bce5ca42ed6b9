"""People and coordinators on a virtual clock: asked, away for a week, too late, given on; and the webhook."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from pointsman import AgentRefused, App, Question, Retry, Run
from pointsman.agents.card import LOCAL
from pointsman.app import SystemIds
from pointsman.coordinator.service import Coordinator
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.coordinator.verbs.inbox import CoordinatorInbox
from pointsman.coordinator.verbs.runs import CoordinatorRuns
from pointsman.kernel.errors import AnswerMisplaced, InvalidInput, InvalidValue, TaskAnswered, TaskClosed
from pointsman.ports.human_tasks import HumanTask, TaskFilter
from pointsman.ports.runs import Redrive, StartRun
from pointsman.ports.telling import NotTold
from pointsman.stores.memory import MemoryDatabase, MemoryStore
from pointsman.testing.sim.clocks import SimClock
from pointsman.testing.sim.loop import SimLoop
from pointsman.transports.local import LocalTransport

WEEK_S = 7 * 86_400
OPEN = TaskFilter(status=("open",))
app = App("people")


@app.agent(retry=Retry(attempts=1), fallback=[])
async def clerk(n: int) -> int:
    raise AgentRefused("not me")


@app.workflow()
async def approve(run: Run, amount: int) -> list[Any]:
    answer = await run.ask(
        f"Pay {amount}?", context={"amount": amount}, proposed=amount, assignee="ann", escalate_to="leads",
        escalate_in=3_600, expires_in=2 * WEEK_S,
    )  # fmt: skip
    return [answer.outcome, answer.by, answer.value if answer.is_given else answer.reason]


@app.workflow()
async def must(run: Run, amount: int) -> int:
    return (await run.ask("Well?", schema=int, expires_in=60)).value  # type: ignore[no-any-return]


@app.workflow()
async def audit(run: Run, amount: int) -> str:
    steps = [(60, "leads"), (7_200, "board")]
    return (await run.ask("Sign?", assignee="auditor", escalate=steps, until=run.now() + WEEK_S)).outcome


@app.workflow()
async def ladder(run: Run, amount: int) -> int:
    who = Question("By hand?", assignee="finance", expires_in=60)
    return await run.call(clerk, amount, person=who, default=-1)  # type: ignore[no-any-return]


def simulated(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test on the virtual clock."""

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: SimLoop(random.Random(1), steps_max=10_000_000)) as runner:
            runner.run(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class Listener:
    """Who is told: takes nothing while it is away."""

    def __init__(self) -> None:
        self.is_away = False
        self.tries: list[str] = []
        self.told: list[dict[str, Any]] = []
        self.stuck: asyncio.Event | None = None

    async def tell(self, notice: str, body: bytes) -> None:
        self.tries.append(notice)
        if self.stuck is not None:
            await self.stuck.wait()
        if self.is_away:
            raise NotTold("it answered 503")
        self.told.append(msgspec.json.decode(body))

    async def close(self) -> None:
        self.is_away = True


class Bench:
    def __init__(self, coordinator: Coordinator) -> None:
        self.coordinator = coordinator
        self.runs = CoordinatorRuns(coordinator)
        self.inbox = CoordinatorInbox(coordinator)

    async def asked(self, workflow: str = "approve", run: str = "r", status: str = "open") -> HumanTask:
        if status == "open":
            await self.runs.start(StartRun(workflow, b"5", id=run))
        return await self.listed(status, run)

    async def listed(self, status: str, run: str = "r") -> HumanTask:
        while True:
            tasks, _ = await self.inbox.list(TaskFilter(run=run, status=(status,)), limit=10)
            if tasks:
                return tasks[0]
            await asyncio.sleep(0.01)

    async def output(self) -> object:
        view = await self.runs.wait("r", timeout_s=60)
        assert view.output is not None, (view.head.status, view.failure)
        return msgspec.json.decode(view.output)

    async def types(self) -> list[str]:
        return [event.type for event in await self.runs.events("r")]


async def pass_time(database: MemoryDatabase, seconds: float) -> None:
    """The database's clock is put forward, and everybody may look at it."""
    assert isinstance(database.clock, SimClock)
    database.clock.skip(round(seconds * 1000))
    await asyncio.sleep(2)


def new_database() -> MemoryDatabase:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    return MemoryDatabase(SimClock(loop))


@asynccontextmanager
async def bench(database: MemoryDatabase, name: str = "one", teller: Listener | None = None) -> AsyncIterator[Bench]:
    """A lease that outlives what the clock is put forward by."""
    settings = CoordinatorSettings(name=name, lease_ttl_ms=10**11)
    coordinator = Coordinator(
        settings,
        MemoryStore(database),
        app.new_directory(),
        SystemIds(),
        {LOCAL: LocalTransport(threads_max=1)},
        teller=teller,
    )
    await coordinator.start()
    try:
        yield Bench(coordinator)
    finally:
        await coordinator.stop()


@simulated
async def test_a_question_is_answered_a_week_later_by_another_coordinator() -> None:
    database = new_database()
    async with bench(database) as one:
        task = await one.asked()
        assert (task.assignee, task.question) == ("ann", "Pay 5?")
    await pass_time(database, WEEK_S)
    async with bench(database, "two") as two:
        while (task := await two.listed("open")).assignee != "leads":
            await asyncio.sleep(1)
        shown = await two.inbox.get(task.id)
        assert shown.expires_at is not None
        assert [one.assignee for one in shown.handovers] == ["leads"]
        accepted = await two.inbox.answer(task.id, b"7", by="bob", digest=shown.digest)
        assert accepted.edited
        assert await two.output() == ["edited", "bob", 7]
        assert (await two.inbox.get(task.id)).answer is not None
        expected = ["RunStarted", "HumanTaskRequested", "HumanTaskEscalated", "HumanTaskAnswered", "RunCompleted"]
        assert await two.types() == expected


@simulated
async def test_without_an_answer_it_expires_where_it_is_parked() -> None:
    database = new_database()
    async with bench(database) as one:
        task = await one.asked()
        await pass_time(database, 2 * WEEK_S - 60)
        assert (await one.inbox.get(task.id)).task.status == "open"
        await pass_time(database, 60)
        assert await one.output() == ["expired", "", ""]
        shown = await one.inbox.get(task.id)
        assert shown.task.status == "expired"
        assert shown.answer is not None
        assert shown.answer.failure is not None
        with pytest.raises(TaskAnswered, match="expired at"):
            await one.inbox.answer(task.id, b"5", by="ann")
        with pytest.raises(TaskAnswered, match="expired at"):
            await one.inbox.assign(task.id, "bob", by="ann")


@simulated
async def test_an_answer_that_was_accepted_is_never_overtaken_by_the_clock() -> None:
    """Nobody could take it in before its time was over: the mailbox has it first."""
    database = new_database()
    async with bench(database) as one:
        task = await one.asked()
    async with bench(database, "two") as two:
        await two.coordinator.claims.stop()
        await two.inbox.answer(task.id, b"5", by="ann")
    await pass_time(database, 3 * WEEK_S)
    async with bench(database, "three") as three:
        assert await three.output() == ["accepted", "ann", 5]
        assert "HumanTaskExpired" not in await three.types()


@simulated
async def test_an_answer_is_to_what_was_shown_and_of_the_schema() -> None:
    database = new_database()
    async with bench(database) as one:
        task = await one.asked()
        shown = await one.inbox.get(task.id)
        assert (shown.agent, shown.input, shown.output_schema) == ("", None, {"type": "integer"})
        assert shown.context is not None
        assert shown.proposed is not None
        assert (bytes(shown.context), bytes(shown.proposed)) == (b'{"amount":5}', b"5")
        for said in (one.inbox.answer(task.id, b"5", by="ann", digest="another"),
                     one.inbox.refuse(task.id, reason="", by="ann", digest="another")):  # fmt: skip
            with pytest.raises(AnswerMisplaced, match="another"):
                await said
        with pytest.raises(InvalidInput, match="integer"):
            await one.inbox.answer(task.id, b'"five"', by="ann", digest=shown.digest)
        await one.inbox.refuse(task.id, reason="too much", by="ann", digest=shown.digest)
        assert await one.output() == ["refused", "ann", "too much"]
        assert (await one.listed("refused")).id == task.id


@simulated
async def test_a_task_is_given_on_and_each_step_is_an_event() -> None:
    database = new_database()
    async with bench(database) as one:
        task = await one.asked()
        assert not (await one.inbox.assign(task.id, "bob", by="ann")).repeated
        while (await one.listed("open")).assignee != "bob":
            await asyncio.sleep(0.01)
        await one.inbox.assign(task.id, "", by="bob")
        while (await one.listed("open")).assignee:
            await asyncio.sleep(0.01)
        assert [(h.assignee, h.by) for h in (await one.inbox.get(task.id)).handovers] == [("bob", "ann"), ("", "bob")]
        for bad in (one.inbox.assign(task.id, " ", by="ann"), one.inbox.assign(task.id, "bob", by="")):
            with pytest.raises(InvalidValue):
                await bad
        await one.inbox.answer(task.id, b"5", by="zoe")
        assert await one.output() == ["accepted", "zoe", 5]
        with pytest.raises(TaskAnswered, match="zoe answered"):
            await one.inbox.assign(task.id, "ann", by="ann")


@simulated
async def test_the_last_word_on_whose_task_it_is_counts_however_old_the_list_is() -> None:
    database = new_database()
    async with bench(database) as one:
        task = await one.asked()
        before = task.assignee
        await one.inbox.assign(task.id, "bob", by="ann")
        assert (await one.listed("open")).assignee == before, "the list does not know of it yet"
        assert not (await one.inbox.assign(task.id, before, by="ann")).repeated
        while len((await one.inbox.get(task.id)).handovers) < 2:
            await asyncio.sleep(0.01)
        assert (await one.listed("open")).assignee == before


@simulated
async def test_a_cancelled_run_closes_its_question() -> None:
    async with bench(new_database()) as one:
        task = await one.asked()
        await one.runs.cancel("r")
        await one.listed("closed")
        for said in (one.inbox.answer(task.id, b"5", by="ann"), one.inbox.assign(task.id, "bob", by="ann")):
            with pytest.raises(TaskClosed):
                await said


@simulated
async def test_a_redrive_asks_again_and_tells_so() -> None:
    listener = Listener()
    database = new_database()
    async with bench(database, teller=listener) as one:
        first = await one.asked("must")
        await pass_time(database, 60)
        await one.listed("expired")
        view = await one.runs.wait("r", timeout_s=60)
        assert view.failure is not None
        assert view.failure.kind == "expired"
        await one.runs.redrive(Redrive("r"))
        again = await one.listed("open")
        assert again.id != first.id
        shown = await one.inbox.get(again.id)
        assert shown.task.question == "Well?"
        await one.inbox.answer(again.id, b"3", by="ann", digest=shown.digest)
        assert await one.output() == 3
        await asyncio.sleep(1)
    opened = [told["data"]["task"] for told in listener.told if told["type"] == "human_task.opened"]
    assert opened == [first.id, again.id]


@simulated
async def test_a_call_that_nobody_answers_goes_on_with_its_default() -> None:
    database = new_database()
    async with bench(database) as one:
        task = await one.asked("ladder")
        assert task.assignee == "finance"
        await pass_time(database, 60)
        assert await one.output() == -1
        assert (await one.listed("expired")).id == task.id
        assert (await one.types())[-3:] == ["HumanTaskOpened", "HumanTaskExpired", "RunCompleted"]


# -- the webhook ----------------------------------------------------------------------------------------------------


@simulated
async def test_a_webhook_is_told_of_what_opens_escalates_and_expires() -> None:
    listener = Listener()
    database = new_database()
    async with bench(database, teller=listener) as one:
        task = await one.asked()
        await pass_time(database, 3_600)
        await pass_time(database, 2 * WEEK_S)
        await one.listed("expired")
        stats = one.coordinator.stats
        assert (stats.notices_delivered, stats.notices_failed) == (3, 0)
    kinds = [told["type"] for told in listener.told]
    assert kinds == ["human_task.opened", "human_task.escalated", "human_task.expired"]
    assert listener.tries == [f"opened_{task.id}", f"escalated_{task.id}", f"expired_{task.id}"]
    data = listener.told[0]["data"]
    assert {key: data[key] for key in ("task", "run", "workflow", "tenant", "assignee", "question")} == {
        "task": task.id, "run": "r", "workflow": "approve", "tenant": "default", "assignee": "ann",
        "question": "Pay 5?",
    }  # fmt: skip
    assert listener.told[1]["data"]["assignee"] == "leads"


@simulated
async def test_each_step_is_told_and_shown_and_a_parked_run_wakes_for_it() -> None:
    listener = Listener()
    database = new_database()
    async with bench(database, teller=listener) as one:
        task = await one.asked("audit")
        ahead = [("leads", 60_000), ("board", 7_200_000)]
        for number, who in enumerate(("auditor", "leads", "board")):
            shown = await one.inbox.get(task.id)
            assert shown.task.assignee == who
            assert [(step.assignee, step.at - task.opened_at) for step in shown.escalations] == ahead[number:]
            assert (shown.escalate_to, shown.escalate_at) == (
                (shown.escalations[0].assignee, shown.escalations[0].at) if shown.escalations else ("", None)
            )
            assert shown.expires_at is not None
            await pass_time(database, (60, 7_200, 2 * WEEK_S)[number])
        assert await one.output() == "expired"
    assert listener.tries == [
        f"opened_{task.id}", f"escalated_{task.id}", f"escalated_2_{task.id}", f"expired_{task.id}"
    ]  # fmt: skip


@simulated
async def test_who_is_away_is_told_later_under_the_same_id() -> None:
    listener = Listener()
    listener.is_away = True
    database = new_database()
    async with bench(database, teller=listener) as one:
        task = await one.asked()
        for wait in (2, 0, 6, 22, 88):  # 5 s, and four times as long at each try, give or take a tenth
            await pass_time(database, wait)
        tried = len(listener.tries)
        assert tried == 4
        listener.is_away = False
        await pass_time(database, 360)
        assert listener.tries == [f"opened_{task.id}"] * 5
        assert [told["type"] for told in listener.told] == ["human_task.opened"]
        assert (one.coordinator.stats.notices_failed, one.coordinator.stats.notices_delivered) == (4, 1)


@simulated
async def test_a_notice_that_was_taken_by_a_coordinator_that_died_is_told_by_another() -> None:
    database, dead, alive = new_database(), Listener(), Listener()
    dead.stuck = asyncio.Event()
    async with bench(database, teller=dead) as one:
        task = await one.asked()
        while not dead.tries:
            await asyncio.sleep(0.01)
    assert dead.told == []
    async with bench(database, "two", teller=alive):
        assert alive.tries == []
        await pass_time(database, 30)
    assert alive.tries == dead.tries == [f"opened_{task.id}"]


@simulated
async def test_what_nobody_takes_for_days_is_given_up() -> None:
    listener = Listener()
    listener.is_away = True
    database = new_database()
    async with bench(database, teller=listener) as one:
        await one.asked()
        await asyncio.sleep(1)
        await pass_time(database, 71 * 3_600)
        assert one.coordinator.stats.notices_given_up == 0
        await pass_time(database, 2 * 3_600)
        assert one.coordinator.stats.notices_given_up == 1  # it was escalated late
        tries = len(listener.tries)
        await pass_time(database, 73 * 3_600)
        assert one.coordinator.stats.notices_given_up == 2
        assert len(listener.tries) == tries + 1
        assert one.coordinator.stats.notices_delivered == 0
        assert database.notices == {}


@simulated
async def test_without_a_webhook_nothing_is_left_to_tell() -> None:
    database = new_database()
    async with bench(database) as one:
        await one.asked()
    assert database.notices == {}
