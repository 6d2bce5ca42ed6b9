"""A person as the last of a failure chain: the task, the list, the answer; on the memory store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from pointsman import AgentError, App, CallError, CoordinatorSettings, Retry, Run, StartRun
from pointsman.coordinator.service import Coordinator
from pointsman.coordinator.verbs import asked
from pointsman.coordinator.verbs.inbox import CoordinatorInbox
from pointsman.coordinator.verbs.runs import CoordinatorRuns
from pointsman.kernel.errors import (
    InvalidInput,
    InvalidValue,
    TaskAnswered,
    TaskClosed,
    UnknownAgent,
    UnknownTask,
    ValueTooLarge,
)
from pointsman.kernel.events import Failure, Recorded
from pointsman.ports.human_tasks import HumanTask, TaskFilter
from pointsman.ports.inbox import TaskView
from pointsman.ports.runs import Redrive
from pointsman.stores.memory.database import MemoryDatabase
from pointsman.stores.memory.store import MemoryStore

OPEN = TaskFilter(status=("open",))


class Ticket(BaseModel):
    id: int
    text: str


class Reply(BaseModel):
    text: str
    refund: int = 0


app = App("people")


@app.agent(retry=Retry(attempts=2, base=0.01), fallback=["second"])
async def first(ticket: Ticket) -> Reply:
    raise AgentError(f"no idea about {ticket.id}")


@app.agent(retry=Retry(attempts=1))
async def second(ticket: Ticket) -> Reply:
    raise AgentError("nor I", retryable=False)


@app.workflow()
async def desk(run: Run, ticket: Ticket) -> Reply:
    return await run.call(first, ticket, person="What now?")  # type: ignore[no-any-return]


@app.workflow()
async def desk_with_default(run: Run, ticket: Ticket) -> Reply:
    return await run.call(first, ticket, person="What now?", default=Reply(text="sorry"))  # type: ignore[no-any-return]


@app.workflow()
async def desk_that_explains(run: Run, ticket: Ticket) -> str:
    try:
        await run.call(first, ticket, person="What now?")
    except CallError as error:
        return f"{error.kind}: {error.message}"
    return "answered"


@app.workflow()
async def hasty(run: Run, ticket: Ticket) -> str:
    question = run.start(first, ticket, person="What now?")
    await run.wait_for("enough")
    question.cancel()
    await run.wait_for("end")
    return "went on"


@app.workflow()
async def desk_of_two(run: Run, ticket: Ticket) -> list[Reply]:
    other = run.start(second, ticket, person="And this?")
    return await run.gather(run.start(first, ticket, person="What now?"), other)


@app.agent
async def easy(n: int) -> int:
    return n


@app.workflow()
async def long_chain(run: Run, ticket: Ticket) -> Reply:
    for n in range(20):
        await run.call(easy, n)
    return await run.call(first, ticket, person="What now?")  # type: ignore[no-any-return]


@app.workflow()
async def long_question(run: Run, ticket: Ticket) -> Reply:
    for n in range(20):
        await run.call(easy, n)
    return (await run.ask("What now?", schema=Reply)).value  # type: ignore[no-any-return]


without_workflows = App("agents alone")
without_workflows.agent(name="first", retry=Retry(attempts=1))(first.function)  # type: ignore[call-overload]


@dataclass
class Bench:
    coordinator: Coordinator
    runs: CoordinatorRuns
    inbox: CoordinatorInbox

    async def opened(self, workflow: str = "desk", *, run: str = "r", text: str = "help", **more: str) -> HumanTask:
        """Start a run and wait for the task that it opens."""
        data = msgspec.json.encode({"id": 7, "text": text})
        await self.runs.start(StartRun(workflow, data, id=run, **more))
        async with asyncio.timeout(10):
            async for batch in self.runs.follow(run):
                for event in batch:
                    if event.type == "HumanTaskOpened":
                        tasks, _ = await self.inbox.list(TaskFilter(run=run), limit=10)
                        return tasks[0]
        raise AssertionError("the run ended without a task")

    async def open_task(self) -> HumanTask:
        async with asyncio.timeout(10):
            while not (tasks := (await self.inbox.list(OPEN, limit=10))[0]):
                await asyncio.sleep(0)
        return tasks[0]

    async def output(self, run: str = "r") -> object:
        view = await self.runs.wait(run, timeout_s=10)
        assert view.output is not None, (view.head.status, view.failure)
        return msgspec.json.decode(view.output)


@contextmanager
def reads_of(inbox: CoordinatorInbox) -> Iterator[list[int]]:
    """After which sequences the log is read meanwhile."""
    reads: list[int] = []
    log = inbox._store.log
    read = log.read

    async def noting(run: str, *, after: int = 0, **limits: Any) -> list[Recorded]:
        reads.append(after)
        return await read(run, after=after, **limits)

    log.read = noting  # type: ignore[method-assign]
    try:
        yield reads
    finally:
        log.read = read  # type: ignore[method-assign]


@asynccontextmanager
async def bench(
    database: MemoryDatabase | None = None, name: str = "one", of: App = app, poll_ms: int = 20, **options: int
) -> AsyncIterator[Bench]:
    settings = CoordinatorSettings(name=name, claim_poll_ms=poll_ms, mail_poll_ms=poll_ms)
    coordinator = of.coordinator(MemoryStore(database or MemoryDatabase()), settings)
    await coordinator.start()
    try:
        yield Bench(coordinator, CoordinatorRuns(coordinator), CoordinatorInbox(coordinator, **options))
    finally:
        await coordinator.stop()


async def test_the_answer_of_a_person_is_the_result_of_the_call() -> None:
    async with bench() as it:
        task = await it.opened()
        assert (task.status, task.question, task.run, task.call) == ("open", "What now?", "r", "first#1")
        accepted = await it.inbox.answer(task.id, b'{"text": "do this"}', by="ann")
        assert (accepted.task, accepted.run, accepted.repeated) == (task.id, "r", False)
        assert await it.output() == {"text": "do this", "refund": 0}
        assert (await it.inbox.list(OPEN, limit=10))[0] == []
        (done,), _ = await it.inbox.list(TaskFilter(status=("answered",)), limit=10)
        assert done.id == task.id
        assert done.closed_at is not None
        event = next(e for e in await it.runs.events("r") if e.type == "HumanTaskAnswered")
        assert msgspec.json.decode(event.data)["by"] == "ann"


@pytest.mark.parametrize("text", ["help", "x" * 5_000], ids=["whole", "in pieces"])
async def test_a_task_shows_what_a_person_needs_to_answer_it(text: str) -> None:
    async with bench() as it:
        view = await it.inbox.get((await it.opened(text=text)).id)
        assert view.agent == "first"
        assert view.output_schema is not None
        assert set(view.output_schema["properties"]) == {"text", "refund"}
        assert msgspec.json.decode(view.input) == {"id": 7, "text": text}
        assert [(a.attempt, a.agent, a.failure.kind, a.failure.message) for a in view.attempts] == [
            (1, "first", "agent_error", "no idea about 7"),
            (2, "first", "agent_error", "no idea about 7"),
            (3, "second", "agent_error", "nor I"),
        ]
        assert msgspec.json.decode(view.task.detail) == {"agent": "first", "kind": "agent_error", "message": "nor I"}
        assert view.answer is None


async def test_an_answer_shows_as_soon_as_it_is_durable_though_nobody_could_take_it_in_yet() -> None:
    database = MemoryDatabase()
    async with bench(database) as it:
        task = await it.opened()
    async with bench(database, "two", of=without_workflows) as it:
        await it.inbox.answer(task.id, b'{"text":"early"}', by="ann")
        (listed,), _ = await it.inbox.list(OPEN, limit=10)
        view = await it.inbox.get(task.id)
        assert view.answer is not None
        assert view.answer.output is not None
        assert (view.task.status, view.answer.by, bytes(view.answer.output)) == ("answered", "ann", b'{"text":"early"}')
        assert (listed.status, view.task.closed_at) == ("open", view.answer.at)
    async with bench(database, "three") as it:
        assert await it.output() == {"text": "early", "refund": 0}


async def test_who_does_not_know_the_agent_takes_no_answer_for_it_but_takes_that_there_is_none() -> None:
    database = MemoryDatabase()
    async with bench(database) as it:
        task = await it.opened("desk_that_explains")
    async with bench(database, "two", of=App("empty")) as it:
        assert (await it.inbox.get(task.id)).output_schema is None
        with pytest.raises(UnknownAgent, match="'first'"):
            await it.inbox.answer(task.id, b'{"text":"?"}', by="ann")
        await it.inbox.refuse(task.id, reason="gone", by="ann")
    async with bench(database, "three") as it:
        assert await it.output() == "not_answered: ann refused: gone"


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (b'{"refund": 1}', "text: Field required"),
        (b'{"text": "a", "refund": "many"}', "refund: "),
        (b'"a"', "an object"),
    ],
)
async def test_an_answer_that_the_agent_could_not_have_given_is_refused_with_the_place(
    value: bytes, where: str
) -> None:
    async with bench() as it:
        task = await it.opened()
        with pytest.raises(InvalidInput, match=where):
            await it.inbox.answer(task.id, value, by="ann")
        assert (await it.inbox.get(task.id)).task.status == "open"
        await it.inbox.answer(task.id, b'{"text": "better"}', by="ann")
        assert await it.output() == {"text": "better", "refund": 0}


async def test_an_answer_that_no_store_could_hold_is_refused() -> None:
    async with bench(bytes_max=100) as it:
        task = await it.opened()
        with pytest.raises(InvalidValue):
            await it.inbox.answer(task.id, b'{"text": NaN}', by="ann")
        with pytest.raises(ValueTooLarge):
            await it.inbox.answer(task.id, b'{"text": "%b"}' % (b"x" * 100), by="ann")
        for nobody in ("", "  ", "x" * 129, "\ud800"):
            with pytest.raises(InvalidValue):
                await it.inbox.answer(task.id, b'{"text": ""}', by=nobody)
            with pytest.raises(InvalidValue):
                await it.inbox.refuse(task.id, reason="", by=nobody)
        with pytest.raises(InvalidValue):
            await it.inbox.refuse(task.id, reason="x" * 1_001, by="ann")
        with pytest.raises(InvalidValue):
            await it.inbox.refuse(task.id, reason="\ud800", by="ann")


async def test_the_first_answer_counts_and_the_second_person_is_told_whose() -> None:
    async with bench() as it:
        task = await it.opened()
        await it.inbox.answer(task.id, b'{"text":"one"}', by="ann")
        again = await it.inbox.answer(task.id, b'{ "text": "one" }', by="ann")
        assert again.repeated
        for _ in range(2):  # at once, and when the run has taken the answer in
            with pytest.raises(TaskAnswered, match=r"^ann answered task \S+ at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"):
                await it.inbox.answer(task.id, b'{"text":"one"}', by="bob")
            with pytest.raises(TaskAnswered):
                await it.inbox.answer(task.id, b'{"text":"two"}', by="ann")
            with pytest.raises(TaskAnswered):
                await it.inbox.refuse(task.id, reason="", by="bob")
            assert await it.output() == {"text": "one", "refund": 0}
        assert (await it.inbox.answer(task.id, b'{"text":"one"}', by="ann")).repeated


async def test_of_answers_at_the_same_time_one_wins() -> None:
    database = MemoryDatabase()
    async with bench(database) as one, bench(database, "two") as two:
        task = await one.opened()
        results = await asyncio.gather(
            *(
                it.inbox.answer(task.id, b'{"text":"%d"}' % number, by=f"person {number}")
                for number, it in enumerate([one, two] * 3)
            ),
            return_exceptions=True,
        )
        winners = [number for number, result in enumerate(results) if not isinstance(result, BaseException)]
        assert len(winners) == 1
        assert all(
            isinstance(r, TaskAnswered) and f"person {winners[0]}" in str(r)
            for r in results
            if r is not results[winners[0]]
        )
        assert await one.output() == {"text": str(winners[0]), "refund": 0}


async def test_who_refuses_leaves_the_call_without_an_answer() -> None:
    async with bench() as it:
        task = await it.opened("desk_that_explains")
        assert not (await it.inbox.refuse(task.id, reason="not my job", by="ann")).repeated
        assert (await it.inbox.refuse(task.id, reason="not my job", by="ann")).repeated
        assert await it.output() == "not_answered: ann refused: not my job"
        view = await it.inbox.get(task.id)
        assert view.answer is not None
        assert view.answer.output is None
        assert view.answer.failure == Failure("not_answered", "ann refused: not my job", retryable=False)
        with pytest.raises(TaskAnswered, match=r"^ann refused task"):
            await it.inbox.answer(task.id, b'{"text":"late"}', by="bob")


async def test_refused_without_a_handler_the_run_fails_by_name() -> None:
    async with bench() as it:
        task = await it.opened()
        await it.inbox.refuse(task.id, reason="", by="ann")
        view = await it.runs.wait("r", timeout_s=10)
        assert view.failure is not None
        assert (view.head.status, view.failure.kind) == ("failed", "not_answered")
        assert "ann refused" in view.failure.message


async def test_refused_with_a_default_the_run_goes_on_with_that() -> None:
    async with bench() as it:
        task = await it.opened("desk_with_default")
        await it.inbox.refuse(task.id, reason="no", by="ann")
        assert await it.output() == {"text": "sorry", "refund": 0}


async def test_a_task_is_closed_when_its_run_goes_on_without_an_answer() -> None:
    async with bench() as it:
        task = await it.opened("hasty")
        await it.runs.signal("r", "enough", b"null", key="1")
        async with asyncio.timeout(10):
            async for batch in it.runs.follow("r"):
                if any(event.type == "CallCancelled" for event in batch):
                    break
        for _ in range(2):  # the run goes on, and has ended
            assert (await it.inbox.get(task.id)).task.status == "closed"
            with pytest.raises(TaskClosed):
                await it.inbox.answer(task.id, b'{"text":"late"}', by="ann")
            with pytest.raises(TaskClosed):
                await it.inbox.refuse(task.id, reason="", by="ann")
            await it.runs.signal("r", "end", b"null", key="2")
            assert await it.output() == "went on"


async def test_a_run_that_ends_under_an_answer_refuses_it() -> None:
    """The task was open when it was looked up, and its run has ended when the answer comes."""
    async with bench() as it:
        task = await it.opened("hasty")
        await it.runs.cancel("r")
        await it.runs.wait("r", timeout_s=10)
        assert (await it.inbox.get(task.id)).task.status == "closed"
        it.inbox._row = lambda *_: _soon(task)  # type: ignore[method-assign,assignment,return-value]
        with pytest.raises(TaskClosed, match="has ended"):
            await it.inbox.answer(task.id, b'{"text":"late"}', by="ann")


async def test_a_task_tells_of_its_own_call_alone() -> None:
    async with bench() as it:
        await it.opened("desk_of_two")
        tasks, _ = await it.inbox.list(OPEN, limit=10)
        while len(tasks) < 2:
            await asyncio.sleep(0)
            tasks, _ = await it.inbox.list(OPEN, limit=10)
        views = {task.call: await it.inbox.get(task.id) for task in tasks}
        assert {call: [a.agent for a in view.attempts] for call, view in views.items()} == {
            "first#1": ["first", "first", "second"], "second#1": ["second"]
        }  # fmt: skip


@pytest.mark.parametrize("workflow", ["long_chain", "long_question"])
async def test_a_look_at_a_task_reads_one_page_however_long_its_run_was_before(
    workflow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a task that a redrive opened, and by a coordinator that has brought its run back."""
    monkeypatch.setattr(asked, "PAGE", 25)
    async with bench() as it:
        await it.runs.start(StartRun(workflow, b'{"id":7,"text":"help"}', id="r"))
        for _ in range(2):
            task = await it.open_task()
            rows = await it.inbox._store.log.read("r", after=0, limit=1_000)
            requests = [row for row in rows if row.type in ("CallRequested", "HumanTaskRequested")]
            assert (requests[-1].sequence, len(rows) - requests[-1].sequence) > (40, 0)
            assert task.requested == requests[-1].sequence
            with reads_of(it.inbox) as reads:
                shown = await it.inbox._told(task)
            assert (shown.task.id, reads) == (task.id, [task.requested - 1])
            await it.inbox.refuse(task.id, reason="no", by="ann")
            view = await it.runs.wait("r", timeout_s=10)
            assert view.failure is not None
            with reads_of(it.inbox) as reads:
                await it.inbox._told(await it.inbox._row(task.id, None))
            assert reads == [task.requested - 1]
            await it.runs.redrive(Redrive("r"))


@pytest.mark.parametrize("bytes_max", [1, 300])
async def test_a_task_is_told_whole_where_its_events_come_in_several_answers(
    bytes_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench() as it:
        await it.runs.start(StartRun("long_chain", b'{"id":7,"text":"help"}', id="r"))
        task = await it.open_task()
        whole = await it.inbox._told(task)
        monkeypatch.setattr(asked, "PAGE_BYTES", bytes_max)
        with reads_of(it.inbox) as reads:
            assert await it.inbox._told(task) == whole
        assert len(reads) > 1


async def test_an_answer_is_taken_in_at_once_and_not_at_the_next_poll() -> None:
    async with bench(poll_ms=3_600_000) as it:
        await it.inbox.answer((await it.opened()).id, b'{"text":"now"}', by="ann")
        assert await it.output() == {"text": "now", "refund": 0}


async def _soon(task: HumanTask) -> HumanTask:
    return task


async def test_a_task_of_another_tenant_does_not_exist() -> None:
    async with bench() as it:
        task = await it.opened(tenant="a")
        assert (await it.inbox.get(task.id, tenant="a")).task.tenant == "a"
        with pytest.raises(UnknownTask):
            await it.inbox.get(task.id, tenant="b")
        with pytest.raises(UnknownTask):
            await it.inbox.answer(task.id, b'{"text":"x"}', by="eve", tenant="b")
        with pytest.raises(UnknownTask):
            await it.inbox.refuse(task.id, reason="", by="eve", tenant="b")
        with pytest.raises(UnknownTask):
            await it.inbox.get("nothing")


async def test_any_coordinator_takes_an_answer_and_a_run_survives_the_one_that_asked() -> None:
    database = MemoryDatabase()
    async with bench(database) as one:
        task = await one.opened()
    async with bench(database, "two") as two:
        view: TaskView = await two.inbox.get(task.id)
        assert view.task.status == "open"
        await two.inbox.answer(task.id, b'{"text":"from two"}', by="ann")
        assert await two.output() == {"text": "from two", "refund": 0}
